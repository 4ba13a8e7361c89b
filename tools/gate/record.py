"""Run tests with the counting table and choose, for each function, the test that stands for it.

A test is proved by a run in which the function is broken: it must fail.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from .functions import ROOT, active
from .report import Witness, exists, witnesses, write_witnesses

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


def run(tests: list[str], broken: str | None = None) -> tuple[int, str, dict[str, list[str]]]:
    """Run tests in a process of their own.

    Parameters
    ----------
    tests : list of str
        Files or tests.
    broken : str, optional
        A function that is to answer wrongly. A test that then hangs counts as failed.

    Returns
    -------
    tuple
        The exit status of pytest, what it printed, and for each test that passed the functions that it called.
    """
    with tempfile.TemporaryDirectory() as folder:
        environ = os.environ | {"LLAMA_CY_GATE_RECORD": folder, "HYPOTHESIS_PROFILE": "ci"}
        options = ["-p", "tools.gate.plugin", "-p", "no:cacheprovider", "-p", "no:xdist", "-q", "--tb=short"]
        command = [sys.executable, "-m", "pytest", *options, *tests]
        if broken is not None:
            environ["LLAMA_CY_GATE_BREAK"] = broken
            command += ["-x", "--timeout=60"]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environ,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=None if broken is None else 120,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return -1, "it hangs", {}
        found: dict[str, list[str]] = {}
        for path in Path(folder).glob("*.json"):
            found |= json.loads(path.read_text(encoding="utf-8"))
    return done.returncode, done.stdout[-4000:] + done.stderr[-2000:], found


def words(name: str) -> set[str]:
    found = set(re.split(r"\W|_", name.removeprefix("tests/").replace(".py", ""))) - COMMON
    # What is freed, its memory returns.
    return found | {"memory", "returns"} if "free" in found else found


def candidates(name: str, calls: dict[str, list[str]]) -> list[str]:
    """Return the tests that call a function, first those that speak of it and call little else."""
    found = [
        (-len(words(name) & words(test)), test.startswith("tests/lifecycle/"), len(names), test)
        for test, names in calls.items()
        if name in names and not test.startswith(TELL_NOTHING)
    ]
    return [test for *_, test in sorted(found)]


def known() -> dict[str, list[str]]:
    """Return what each test called when it was recorded last in this checkout."""
    found: dict[str, list[str]] = json.loads(CALLS.read_text(encoding="utf-8")) if CALLS.exists() else {}
    return {test: names for test, names in found.items() if exists(test)}


def merge(calls: dict[str, list[str]]) -> None:
    """Add what was recorded, and choose the tests again; one that was seen to fail stays as long as it is there."""
    calls = known() | calls
    CALLS.parent.mkdir(parents=True, exist_ok=True)
    CALLS.write_text(json.dumps(calls, indent=0), encoding="utf-8")
    old = {name: witness for name, witness in witnesses().items() if exists(witness["test"])}
    kept = {name: old[name] for name in old if old[name]["proved"] and name in calls.get(old[name]["test"], [name])}
    chosen = {name: Witness(test=tests[0], proved=False) for name in active() if (tests := candidates(name, calls))}
    write_witnesses(old | chosen | kept)


def prove(name: str, attempts: int = 8) -> str | None:
    """Break a function and look for a test of it that fails; note and return the test."""
    found = witnesses()
    tests = candidates(name, known())[:attempts] or [found[name]["test"]]
    for test in tests:
        if run([test], broken=name)[0] != 0:
            write_witnesses(witnesses() | {name: Witness(test=test, proved=True)})
            return test
    return None
