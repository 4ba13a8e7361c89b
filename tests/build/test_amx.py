"""The whole configuration of AMX's tiles reaches the processor, whatever GCC thinks is read of it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

AMX = Path(__file__).parents[2] / "vendor" / "amx.h"
SOURCE = """
#include <immintrin.h>
struct configuration { unsigned char head[16]; unsigned short bytes[16]; unsigned char rows[16]; };
void load() {
    configuration tiles = {};
    tiles.bytes[7] = 31415;
    _tile_loadconfig(&tiles);
}
"""


def compiled(source: Path, *flags: str) -> str:
    """Return what the compiler writes for a source that llama.cpp's header comes before."""
    command = [*shlex.split(os.environ.get("CXX", "c++")), "-include", str(AMX), *flags, str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.uname().machine != "x86_64", reason="AMX is x86-64's")
def test_configuration_of_tiles_is_written(tmp_path: Path) -> None:
    source = tmp_path / "tiles.cpp"
    source.write_text(SOURCE)
    assembly = compiled(source, "-mamx-tile", "-mamx-int8", "-O3", "-S", "-o", "-")
    assert "ldtilecfg" in assembly
    assert "31415" in assembly


def test_other_processors_see_nothing_of_it(tmp_path: Path) -> None:
    source = tmp_path / "empty.cpp"
    source.touch()
    assert not compiled(source, "-mno-amx-tile" if os.uname().machine == "x86_64" else "-O0", "-E", "-P").strip()
