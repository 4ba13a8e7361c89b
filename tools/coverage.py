"""Measure line coverage of the Cython and Python code: builds a traced copy under build/coverage and runs the suite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TREE = ROOT / "build" / "coverage"
SKIP = shutil.ignore_patterns(".git", ".venv", "build", "dist", "*.so", "__pycache__", ".*_cache", ".hypothesis")


def main() -> int:
    """Copy, build with line tracing, test, report; arguments go to pytest."""
    shutil.copytree(ROOT, TREE, ignore=SKIP, symlinks=True, dirs_exist_ok=True)
    environ = os.environ | {
        "LLAMA_CY_COVERAGE": "1",
        "LLAMA_CPP_SOURCE": str(ROOT / "vendor" / "llama.cpp"),
        "PYTHONPATH": str(TREE),
    }
    steps = (
        ["setup.py", "-q", "build_ext", "--inplace"],
        ["-m", "coverage", "run", "-m", "pytest", "-p", "no:xdist", "--timeout=1200", *sys.argv[1:]],
        ["-m", "coverage", "report", "--skip-empty"],
    )
    return max(subprocess.run([sys.executable, *step], cwd=TREE, env=environ, check=False).returncode for step in steps)


if __name__ == "__main__":
    raise SystemExit(main())
