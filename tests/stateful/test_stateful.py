"""A short run of the machine; ``make fuzz FUZZ_ARGS="stateful --examples 100000"`` is a long one."""

from __future__ import annotations

import os
from pathlib import Path

from fuzz.bases import MODELS

from .machine import KINDS
from .runner import run_examples, run_worker

LIES = """
from stateful.machine import Machine
from stateful import worker
{lie}
worker.main()
"""


def test_any_calls_in_any_order() -> None:
    campaign = run_examples(100, seed=int(os.environ.get("STATEFUL_SEED", "0")))
    assert campaign.failures == [], "\n".join(campaign.failures)
    assert campaign.examples >= 100


def broken(folder: Path, lie: str) -> str:
    for kind in KINDS:
        MODELS[kind](folder / f"{kind}.gguf")
    return run_worker(folder, 50, 0, ("-c", LIES.format(lie=lie)))[1]


def test_a_death_is_reported_with_its_script(tmp_path: Path) -> None:
    report = broken(tmp_path, "import ctypes\nMachine.positions = Machine.same_logits = lambda *_: ctypes.string_at(0)")
    assert "died of SIGSEGV" in report
    assert ".context(n_ctx=" in report.partition("# the script")[2]


def test_what_is_not_expected_is_reported(tmp_path: Path) -> None:
    report = broken(tmp_path, "from stateful.world import SeenContext\nSeenContext.held = lambda *_: [7]")
    assert "AssertionError" in report
    assert "failed" in report
