"""CPythons for another Linux than this one, which a build can be run on: arm64's under QEMU, a later version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from support import debian

# Newer than any compiler of a wheel's: what was built with an older C library runs on it.
LATER = "3.14"


PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64")


class Python(NamedTuple):
    """How to call one, and the environment that its modules are built in."""

    command: list[str]
    environ: dict[str, str]
    build: dict[str, str]

    def call(self, *arguments: str, path: list[Path], cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run it with folders of modules."""
        environ = os.environ | self.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
        command = [*self.command, *arguments]
        return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=1200, check=False)


def arm64(folder: Path) -> Python:
    """Return Debian's Python for arm64, and its NumPy, under QEMU."""
    emulator = shutil.which("qemu-aarch64")
    if emulator is None or shutil.which("aarch64-linux-gnu-g++") is None:
        raise FileNotFoundError("no cross compiler or emulator; `apt install g++-aarch64-linux-gnu qemu-user`")
    root = debian.sysroot(folder, "arm64", "bookworm", "python3.11", "python3-numpy", "libstdc++6", "libpython3.11-dev")
    libraries = ":".join(f"/usr/lib/aarch64-linux-gnu/{name}" for name in ("blas", "lapack"))
    command = [emulator, "-L", str(root), "-E", f"LD_LIBRARY_PATH={libraries}", str(root / "usr/bin/python3.11")]
    # Debian's has a folder of its own for packages.
    environ = {"PYTHONHOME": str(root / "usr")}
    return Python(command, environ, headers(folder, root, "3.11", "aarch64-linux-gnu"))


def later(folder: Path) -> Python:
    """Return a CPython that no release of Debian has yet, with the C library that it wants."""
    root = debian.sysroot(folder, "amd64", "sid", f"python{LATER}", f"libpython{LATER}-dev")
    libraries, program = root / "usr/lib/x86_64-linux-gnu", str(root / f"usr/bin/python{LATER}")
    loader = [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries), "--argv0", program, program]
    return Python(loader, {"PYTHONHOME": str(root / "usr")}, headers(folder, root, LATER, "x86_64-linux-gnu"))


def headers(folder: Path, root: Path, version: str, triplet: str) -> dict[str, str]:
    """Return the environment of a build with Python's headers, apart from those of the C library beside them."""
    include = folder / "include"
    for name in (f"python{version}", f"{triplet}/python{version}"):
        (include / name).parent.mkdir(parents=True, exist_ok=True)
        if not (include / name).exists():
            (include / name).symlink_to(root / "usr/include" / name)
    return {
        "CROSS_PYTHON_INCLUDE": str(include / f"python{version}"), "CPATH": str(include),
        "SETUPTOOLS_EXT_SUFFIX": f".cpython-{version.replace('.', '')}-{triplet}.so",
    }  # fmt: skip


def packages(folder: Path, version: str, *names: str) -> Path:
    """Return a folder with wheels for a version of CPython on Linux, x86-64."""
    if not folder.exists():
        wheels = ["--only-binary", ":all:", "--python-version", version]
        wheels += [part for platform in PLATFORMS for part in ("--platform", platform)]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), *wheels, *names]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder
