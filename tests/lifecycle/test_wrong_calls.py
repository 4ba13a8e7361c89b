"""The wrong calls that the benchmark of reliability asks of other bindings too."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from support.child import outcomes

from benchmarks.reliability import outcome_of
from benchmarks.wrong_calls import CALLS, SETUPS


def moved(source: str) -> str:
    """Find the paths behind what the child itself is told."""
    return source.replace("sys.argv[2]", "sys.argv[4]").replace("sys.argv[1]", "sys.argv[3]")


@pytest.fixture(scope="module")
def cut_path(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "cut.gguf"
    path.write_bytes(tiny_path.read_bytes()[:-100_000])
    return path


def test_each_raises(tiny_path: Path, cut_path: Path) -> None:
    came_to = outcomes(
        moved(SETUPS["llama_cy"]), {name: moved(row["llama_cy"]) for name, row in CALLS.items()}, tiny_path, cut_path
    )
    wrong = {name: outcome for name, outcome in came_to.items() if not outcome.raised or "Killed" in outcome.raised}
    assert wrong == {}
    unclear = {
        name: outcome for name, outcome in came_to.items() if {"AttributeError", "NameError"} & {*outcome.raised}
    }
    assert unclear == {}


CAME_TO = {
    "raise KeyError('a')": ("raised", "KeyError: 'a'"),
    "pass": ("accepted", ""),
    "import os; os.abort()": ("died", signal.Signals.SIGABRT.name),
    "import os; os._exit(3)": ("died", "status 3"),
    "while True: pass": ("hung", "after 3 s"),
}


@pytest.mark.parametrize("source", CAME_TO)
def test_what_a_call_comes_to(tiny_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setitem(CALLS, "this", {"llama_cy": source})
    monkeypatch.setitem(SETUPS, "llama_cy", "")
    monkeypatch.setattr("benchmarks.reliability.SECONDS", 3)
    assert outcome_of(sys.executable, "llama_cy", "this", str(tiny_path)) == CAME_TO[source]
    assert outcome_of(sys.executable, "cyllama", "this") == ("no such call", "")
