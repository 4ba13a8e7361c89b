"""A short campaign, and proof that a campaign notices what it is for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .campaign import run_examples, shorten

EXAMPLES = int(os.environ.get("STATEFUL_EXAMPLES", "300"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))


def test_random_calls() -> None:
    report = run_examples(EXAMPLES, SEED)
    assert report.findings == []
    assert report.examples >= EXAMPLES
    assert report.lines > 10 * report.examples


FAULTS = {
    "SIGABRT": "import os; os.abort()",
    "hung": "while True: pass",
    "failed": "return orig(self, i, -1, None) or self.check(self.session.do('1 / 0'))",
}


@pytest.mark.parametrize("how", FAULTS)
def test_a_fault_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    # Python imports it on its own, in each worker.
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.abc, sys\n"
        "class Trap(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name != 'stateful.machine':\n"
        "            return None\n"
        "        sys.meta_path.remove(self)\n"
        "        from stateful.context_rules import ContextRules\n"
        "        orig = ContextRules.show\n"
        "        def show(self, i, row, view):\n"
        f"            {FAULTS[how]}\n"
        "        ContextRules.show = show\n"
        "sys.meta_path.insert(0, Trap())\n"
    )
    monkeypatch.setattr("stateful.campaign.TESTS", f"{tmp_path}{os.pathsep}{Path(__file__).parents[1]}")
    if how == "hung":
        monkeypatch.setattr("stateful.campaign.HANG_SECONDS", 5.0)
    report = run_examples(200, 0, stop=True, shrink=how == "failed")
    assert [finding.how for finding in report.findings] == [how]
    script = report.findings[0].script
    assert "context(" in script
    compile(script, "script", "exec")


def test_a_script_is_cut_to_what_matters(tmp_path: Path) -> None:
    lines = [f"x{i} = {i}" for i in range(20)]
    lines.insert(7, "y = 5")
    lines.append("os._exit(3) if y == 5 else None")
    assert shorten(lines, tmp_path / "models") == ["y = 5", "os._exit(3) if y == 5 else None"]
