"""A fork holds the gates of all models at once, which ThreadSanitizer must be able to follow."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "llama_cy" / "kernels"


def run(source: Path, folder: Path) -> str:
    """Compile a program with the sanitizer, and return what it complains of; skip where it does not start."""
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    command = [*compiler, "-std=c++17", "-O1", "-fsanitize=thread", f"-I{KERNELS}", str(source)]
    if subprocess.run([*command, "-o", folder / "program"], capture_output=True, check=False).returncode:
        pytest.skip("this compiler has no ThreadSanitizer")
    # Addresses that are drawn from a wide range can lie where it wants its own.
    plain = [setarch, "-R"] if (setarch := shutil.which("setarch")) else []
    options = os.environ | {"TSAN_OPTIONS": "detect_deadlocks=1"}
    done = subprocess.run(
        [*plain, folder / "program"], capture_output=True, text=True, env=options, timeout=60, check=False
    )
    return done.stderr if done.returncode or done.stderr else ""


def test_a_fork_holds_no_more_locks_than_the_sanitizer_follows(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.cpp"
    nothing.write_text("int main() {}\n")
    if said := run(nothing, tmp_path):
        pytest.skip(f"ThreadSanitizer does not start: {said}")
    assert run(HERE / "gates.cpp", tmp_path) == ""
