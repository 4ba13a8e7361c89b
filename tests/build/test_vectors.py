"""Where a compiler has no vectors of its own, as Microsoft's, plain ones come to the same."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "llama_cy" / "kernels"


def outcome(folder: Path, *flags: str) -> str:
    """Compile the program and return what it prints."""
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    command = [*compiler, "-std=c++17", "-O2", "-Wall", "-Werror", f"-I{KERNELS}", *flags, str(HERE / "vectors.cpp")]
    subprocess.run([*command, "-o", str(folder / "vectors")], check=True)
    return subprocess.run([folder / "vectors"], capture_output=True, text=True, check=True).stdout


def test_plain_vectors_come_to_the_same(tmp_path: Path) -> None:
    plain = outcome(tmp_path, "-DLLAMA_CY_PLAIN_VECTORS")
    assert plain == outcome(tmp_path)
    rows = [line.split() for line in plain.splitlines()]
    # A row without a wrong number, then one with; and sums that are sums.
    assert [row[1] for row in rows] == ["1", "0"] * 6
    assert float(rows[0][5]) == pytest.approx(1.0)
    assert float(rows[10][5]) > 100
