"""A short campaign of mutants, and the ones that once were too much; ``make fuzz`` runs long ones."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path

import pytest
from support.child import check_output

from .bases import write_bases
from .draw import architectures, draw_recipe, known_keys
from .gguf_layout import Layout
from .operations import apply
from .runner import run_mutants
from .worker import TARGETS, make_mutant

SEEDS = json.loads(Path(__file__).with_name("seeds.json").read_text())
COUNT = {"model": 250, "untrusted": 10, "adapter": 150, "state": 250, "grammar": 250}
# Another part of the endless row of mutants each day would be more, and no failure would come back.
FIRST = int(os.environ.get("FUZZ_SEED", "0"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    write_bases(folder)
    return folder


@pytest.mark.parametrize("target", COUNT)
def test_mutants(folder: Path, target: str) -> None:
    findings = run_mutants(target, range(FIRST, FIRST + COUNT[target]), folder)
    assert findings.bad == []
    assert sum(findings.counts.values()) == COUNT[target]
    # A campaign in which nothing gets through, or everything, looks at one half of the code only.
    assert min(findings.counts["used"], findings.counts["refused"]) * 8 > COUNT[target], findings.counts


@pytest.mark.parametrize("target", ["model", "adapter", "state"])
def test_mutants_that_were_too_much(folder: Path, target: str) -> None:
    findings = run_mutants(target, SEEDS[target], folder)
    assert findings.bad == []
    assert sum(findings.counts.values()) == len(SEEDS[target])


@pytest.mark.parametrize("target", TARGETS)
def test_a_seed_is_a_mutant(folder: Path, target: str) -> None:
    data = TARGETS[target].read(folder, TARGETS[target].bases[0])
    recipes = [make_mutant(target, seed, folder).recipe for seed in range(20)]
    assert recipes == [make_mutant(target, seed, folder).recipe for seed in range(20)]
    assert len({json.dumps(recipe) for recipe in recipes}) > 15
    recipe = json.loads(json.dumps(recipes[0]))
    assert apply(data, recipe) == apply(data, recipes[0])


def test_taken_apart_and_put_together(folder: Path) -> None:
    for path in folder.glob("*.gguf"):
        if path.name != "mutant.gguf":
            data = path.read_bytes()
            assert Layout.decode(data).encode() == data
            assert apply(data, [("settle",)]) == data


def test_every_operation_is_drawn(folder: Path) -> None:
    draw = random.Random(0)
    data = (folder / "llama.gguf").read_bytes()
    layout = Layout.decode(data)
    drawn = {operation[0] for _ in range(3000) for operation in draw_recipe(draw, layout, len(data))}
    assert drawn == {
        *("set", "retype", "declare", "resize", "item", "drop", "double", "rename", "architecture", "counts", "head"),
        *("dims", "type", "offset", "call", "drop-tensor", "double-tensor", "data", "settle"),
        *("flip", "put", "cut", "insert", "delete", "splice"),
    }
    assert {"llama", "mamba", "t5"} < set(architectures())
    assert {"%s.block_count", "tokenizer.ggml.tokens"} < set(known_keys())


LETHAL = {
    "died": ("import os; os.abort()", "SIGABRT"),
    "hung": ("while True: pass", "SIGABRT"),
    "unexpected": ("raise KeyError('never seen')", "KeyError"),
}


@pytest.mark.parametrize("outcome", LETHAL)
def test_a_death_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch, outcome: str) -> None:
    source, error = LETHAL[outcome]
    patch = folder / "patched"
    patch.mkdir(exist_ok=True)
    # Python imports it on its own, in each worker.
    (patch / "sitecustomize.py").write_text(
        "import sys\n"
        "def trap(frame, event, argument):\n"
        f"    if frame.f_code.co_name == 'exercise_state':\n        {source}\n"
        "sys.setprofile(trap)\n"
    )
    monkeypatch.setattr("fuzz.runner.TESTS", f"{patch}{os.pathsep}{Path(__file__).parents[1]}")
    monkeypatch.setattr("fuzz.runner.HANG_SECONDS", 1.0)
    findings = run_mutants("state", [5, 6], folder)
    assert [bad["outcome"] for bad in findings.bad] == [outcome, outcome]
    assert [bad["order"] for bad in findings.bad] == [5, 6]
    assert [bad["error"] for bad in findings.bad] == [error, error]
    assert outcome != "died" or error == signal.Signals.SIGABRT.name


def test_memory_of_whoever_runs_the_campaign_is_not_the_mutants() -> None:
    # Resident, since it is not zero: getrusage() of a child begins with the most that its parent ever had.
    held = b"x" * 2**28
    assert 2**20 < int(check_output("from fuzz.worker import resident; print(resident())")) < len(held)
    assert int(check_output("from fuzz.worker import resident; b'x' * 2**28; print(resident())")) > 2**28
