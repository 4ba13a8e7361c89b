"""Run tests with the counting table and choose, for each function, the test that stands for it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from .functions import ROOT, active
from .report import WITNESSES, exists, witnesses

# What was recorded last for each test, in this checkout.
CALLS = ROOT / "build" / "gate" / "calls.json"
# They call everything that is there, and look at types or errors.
TELL_NOTHING = (
    "tests/unit/test_stubs.py",
    "tests/unit/test_public_api.py",
    "tests/build/",
    "tests/lifecycle/test_bad_",
)
COMMON = {"llama", "test", "get", "init", "set", "is", "n", "of", "a", "the", "to", "and"}


def run(tests: list[str], broken: str | None = None) -> tuple[subprocess.CompletedProcess[str], dict[str, list[str]]]:
    """Run tests in a process of their own.

    Parameters
    ----------
    tests : list of str
        Files or tests.
    broken : str, optional
        A function that is to answer wrongly.

    Returns
    -------
    tuple
        How pytest ended, and for each test that passed the functions that it called.
    """
    with tempfile.TemporaryDirectory() as folder:
        environ = os.environ | {"LLAMA_CY_GATE_RECORD": folder, "HYPOTHESIS_PROFILE": "ci"}
        if broken is not None:
            environ["LLAMA_CY_GATE_BREAK"] = broken
        options = ["-p", "tools.gate.plugin", "-p", "no:cacheprovider", "-p", "no:xdist", "-q", "--tb=short"]
        command = [sys.executable, "-m", "pytest", *options, *tests]
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
        found: dict[str, list[str]] = {}
        for path in Path(folder).glob("*.json"):
            found |= json.loads(path.read_text(encoding="utf-8"))
    return done, found


def words(name: str) -> set[str]:
    return set(re.split(r"\W|_", name.removeprefix("tests/").replace(".py", ""))) - COMMON


def choose(calls: dict[str, list[str]], kept: dict[str, str]) -> dict[str, str]:
    """Choose the test that speaks of the function and calls little else; what nothing calls keeps what it has."""
    chosen = {}
    for name in active():
        candidates = [
            (-len(words(name) & words(test)), test.startswith("tests/lifecycle/"), len(names), test)
            for test, names in calls.items()
            if name in names and not test.startswith(TELL_NOTHING)
        ]
        if candidates:
            chosen[name] = min(candidates)[-1]
        elif name in kept and exists(kept[name]):
            chosen[name] = kept[name]
    return chosen


def merge(calls: dict[str, list[str]]) -> None:
    """Add what was recorded, and write the choice down."""
    known: dict[str, list[str]] = json.loads(CALLS.read_text(encoding="utf-8")) if CALLS.exists() else {}
    known = {test: names for test, names in (known | calls).items() if exists(test)}
    CALLS.parent.mkdir(parents=True, exist_ok=True)
    CALLS.write_text(json.dumps(known, indent=0), encoding="utf-8")
    chosen = choose(known, witnesses() if WITNESSES.exists() else {})
    WITNESSES.write_text(json.dumps(chosen, indent=2) + "\n", encoding="utf-8")
