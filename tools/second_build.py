"""A build beside the one in the source tree, in a copy of it under ``build/``, and tests that run on that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SKIP = shutil.ignore_patterns(".git", ".venv", "build", "dist", "*.so", "__pycache__", ".*_cache", ".hypothesis")


def copy_if_changed(source: str, target: str) -> str:
    """Copy a file, and leave one that is the same alone, so that only changes compile."""
    there = Path(target)
    if not there.exists() or there.read_bytes() != Path(source).read_bytes():
        shutil.copy(source, target)
    return target


def build(tree: Path, settings: Mapping[str, str]) -> None:
    """Copy the source and build there, with settings added to the environment."""
    print(f"building in {tree.relative_to(ROOT)}", flush=True)
    shutil.copytree(ROOT, tree, ignore=SKIP, dirs_exist_ok=True, copy_function=copy_if_changed)
    # cmake and ninja lie beside the interpreter, which need not be on PATH.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environ = os.environ | {"PATH": path} | dict(settings)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    # What went wrong is on stderr already.
    if subprocess.run(command, cwd=tree, env=environ, check=False).returncode:
        raise SystemExit(1)


def test(tree: Path, settings: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Run pytest in the copy, with settings added to the environment; return its status."""
    environ = os.environ | {"PYTHONPATH": str(tree)} | dict(settings)
    command = [sys.executable, "-c", "import llama_cy; print(llama_cy.__file__)"]
    found = subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True, check=True).stdout
    if not found.startswith(str(tree)):
        raise SystemExit(f"{found.strip()} was imported instead of the copy in {tree}")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=tree, env=environ, check=False).returncode
