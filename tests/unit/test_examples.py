"""Every example runs: it prints something, complains about nothing and leaves no file where it was started."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support import child

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))

RUN = """
import os, runpy, sys
example, folder = sys.argv[1:]
os.chdir(folder)
sys.argv = [example]
runpy.run_path(example, run_name="__main__")
"""


def test_there_are_examples() -> None:
    assert {"generate.py", "stream.py", "complete.py", "context.py"} <= {path.name for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, tmp_path: Path) -> None:
    summary = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert summary, "say in a docstring what it shows"
    assert child.check_output(RUN, path, tmp_path).strip()
    assert list(tmp_path.iterdir()) == []
