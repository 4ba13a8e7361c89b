"""``tools/bump.py``, in a small repository of its own."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.sdist import ROOT, Vendor, load, make_sdist

MIRROR = """\
import argparse, pathlib, re
parser = argparse.ArgumentParser()
for name in ("source", "pin", "output"):
    parser.add_argument("--" + name, type=pathlib.Path)
options = parser.parse_args()
text = (options.source / "include" / "llama.h").read_text()
if "broken" in text:
    raise SystemExit("mirror: llama.h cannot be parsed")
lines = [f"    {line[:-1]} except +" for line in text.splitlines() if not line.startswith("DEPRECATED")]
(options.output / "include").mkdir(parents=True)
(options.output / "include" / "llama.pxd").write_text("cdef extern from *:\\n" + "\\n".join(lines) + "\\n")
"""


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    (tmp_path / "old").mkdir()
    return Vendor(tmp_path / "vendor", make_sdist(tmp_path / "old"))


@pytest.fixture
def bump(vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``tools/bump.py`` in a small repository, with a mirror that copies the lines of the header."""
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=lambda folder, names: set(names) - {"bump.py"})
    (tmp_path / "tools" / "mirror").mkdir()
    (tmp_path / "tools" / "mirror" / "__main__.py").write_text(MIRROR)
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "llama.pxd").write_text(
        "cdef extern from *:\n    int llama_a(int x) except +\n    int llama_b(int x,\n        int y) except +\n"
        "    int llama_c() except +\n    ctypedef void (*llama_f)(int x) noexcept nogil\n"
    )
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name in ("PIP_CONFIG_FILE", "PIP_RETRIES", "PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.setenv(name, vendor.environ[name])
    module: ModuleType = load(tmp_path / "tools" / "bump.py")
    return module


def test_bump(
    bump: Any, vendor: Vendor, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    header = "int llama_b(long x, int y);\nDEPRECATED(int llama_c(), use llama_d);\nint llama_d(int x);\n"
    newer = make_sdist(tmp_path, version="0.0.2", header=header)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    bump.bump("0.0.2")
    assert vendor.pin.read_text() == newer.pin
    assert vendor.run("--check")[0] == 0
    assert "llama_d(int x)" in (tmp_path / "include" / "llama.pxd").read_text()
    assert capsys.readouterr().out.splitlines()[-10:] == [
        f"llama-cpp-python 0.0.1 -> 0.0.2, llama.cpp {vendor.sdist.commit[:12]} -> {newer.commit[:12]}",
        "1 functions added",
        "  int llama_d(int x)",
        "1 functions removed",
        "  int llama_a(int x)",
        "1 functions deprecated",
        "  int llama_c()",
        "1 functions changed",
        "  int llama_b(int x, int y)",
        "    now: int llama_b(long x, int y)",
    ]


@pytest.mark.parametrize("failure", ["version", "mirror", "fetch"])
def test_failed_bump_leaves_old_pin(
    bump: Any, vendor: Vendor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: str
) -> None:
    make_sdist(bump.ROOT, version="0.0.2", header="broken" if failure == "mirror" else "int llama_d(int x);")
    monkeypatch.setenv("PIP_FIND_LINKS", str(bump.ROOT))
    monkeypatch.setattr(sys, "argv", ["bump.py", "0.0.3" if failure == "version" else "0.0.2"])
    if failure == "fetch":

        def fail() -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(bump.fetch, "fetch", fail)
    mirrored = (bump.ROOT / "include" / "llama.pxd").read_text()
    assert bump.main() == 1
    assert re.fullmatch(r"error: [^\n]+; the pin is unchanged\n", capsys.readouterr().err)
    assert vendor.pin.read_text() == vendor.sdist.pin
    assert (bump.ROOT / "include" / "llama.pxd").read_text() == mirrored
    assert vendor.leftovers() == []
