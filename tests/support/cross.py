"""Builds for another platform than this one: setup.py as it runs there, with zig's compilers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# What setup.py asks of its host is answered for the platform.
BUILD = """
import importlib.util, os, setuptools, sys
from distutils import sysconfig
spec = importlib.util.spec_from_file_location("llama_cy_setup", "setup.py")
build = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = build
spec.loader.exec_module(build)
if platform := sys.argv.pop(1):
    build.platform_name = lambda: platform
if include := os.environ.get("CROSS_PYTHON_INCLUDE"):
    sysconfig.get_python_inc = lambda *args, **kwargs: include
if os.environ.get("CROSS_VARIANTS") == "0":
    build.variants.VARIANTS = {}
if modules := os.environ.get("CROSS_MODULES"):
    build.MODULES = tuple(modules.split())
build.main()
"""


def find_zig() -> str:
    """Return the path of the program that the package `ziglang` brings."""
    import ziglang

    return str(Path(ziglang.__file__).parent / "zig")


def program(path: Path, text: str) -> None:
    """Write an executable, and keep its time when it is the same: ccache looks at that."""
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)


# zig's linker does not know --exclude-libs; the version script hides the same symbols.
ZIG = """#!/bin/sh
for each do
  shift
  case $each in -Wl,--exclude-libs,*) ;; *) set -- "$@" "$each" ;; esac
done
exec "{zig}" {tool} {flags} "$@"
"""


def zig_programs(folder: Path, target: str) -> dict[str, str]:
    """Write compilers and an archiver for a target of zig's; return the variables that name them."""
    zig = find_zig()
    tools = {"CC": ("cc", f"-target {target} -fno-sanitize=undefined"),
             "CXX": ("c++", f"-target {target} -fno-sanitize=undefined"), "AR": ("ar", "")}  # fmt: skip
    for tool, flags in tools.values():
        program(folder / tool, ZIG.format(zig=zig, tool=tool, flags=flags))
    return {name: str(folder / tool) for name, (tool, _) in tools.items()} | {"CCACHE_COMPILERTYPE": "clang"}


def linux(programs: Mapping[str, str], machine: str) -> dict[str, str]:
    """Return the environment of a build for another Linux with these programs, in place of this Python's own."""
    cc, cxx = programs["CC"], programs["CXX"]
    options = {"CMAKE_SYSTEM_NAME": "Linux", "CMAKE_SYSTEM_PROCESSOR": machine, "CMAKE_C_COMPILER": cc,
               "CMAKE_CXX_COMPILER": cxx, "CMAKE_ASM_COMPILER": cc, "CMAKE_AR": programs["AR"],
               "CMAKE_RANLIB": "/bin/true"}  # fmt: skip
    return dict(programs) | {
        "LDSHARED": f"{cc} -shared", "LDCXXSHARED": f"{cxx} -shared", "CFLAGS": "",
        "CMAKE_ARGS": " ".join(f"-D{name}={value}" for name, value in options.items()),
    }  # fmt: skip


def build(root: Path, platform: str, output: Path, environ: Mapping[str, str], *options: str) -> dict[str, Path]:
    """Run setup.py as it runs on a platform, with options of ``build_ext``; return the modules by name.

    Parameters
    ----------
    root, output : Path
        The source, and where to put the modules.
    platform : str
        As native_config has it; an empty string for this one.
    environ : mapping of str to str
        All of it. ``CROSS_PYTHON_INCLUDE`` is the folder of the other Python's headers, ``CROSS_MODULES`` what to build
        instead of all modules, and ``CROSS_VARIANTS=0`` leaves out those of the engine room.
    *options : str
        For ``build_ext``.
    """
    command = [sys.executable, "-W", "ignore", "-c", BUILD, platform, "build_ext", "--build-lib", str(output), *options]
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    suffix = environ.get("SETUPTOOLS_EXT_SUFFIX", ".so")
    return {path.name.partition(".")[0]: path for path in (output / "llama_cy").glob(f"*{suffix}")}


def package(root: Path, home: Path) -> Path:
    """Lay beside modules that were built the rest of a wheel, and the tests; return the folder."""
    ignored = shutil.ignore_patterns("include", "_variants", "__pycache__", "*.so", "*.pyx", "*.pxd", "*.h")
    for name in ("llama_cy", "tests"):
        shutil.copytree(root / name, home / name, ignore=ignored, dirs_exist_ok=True)
    shutil.copy(root / "pyproject.toml", home)
    return home
