"""Compilers for Windows: zig's, which pip brings along, or those that somebody names, or Microsoft's."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shlex
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

VARIABLE = "LLAMA_CY_COMPILER"
KINDS = ("zig", "gnu", "msvc")
TARGET = "x86_64-windows-gnu"
# zig adds traps for undefined behaviour, which llama.cpp's own tests do not hold against it.
FLAGS = ["-target", TARGET, "-fno-sanitize=undefined"]


# An exception goes through C functions of ggml, too, which /EHsc would forbid.
_MSVC = ("/std:c++17", "/Zc:__cplusplus", "/EHs", "/utf-8", "/bigobj")
# What the compiler and the linker of Visual Studio are told.
MSVC = ((*_MSVC, "/O2", "/DNDEBUG"), ("/OPT:REF", "/OPT:ICF"))
MSVC_DEBUG = ((*_MSVC, "/Od", "/Z7"), ("/DEBUG",))


class Compilers(NamedTuple):
    """Commands with the arguments that each call of them has."""

    cc: list[str]
    cxx: list[str]
    ar: list[str]

    @property
    def cmake_options(self) -> dict[str, str]:
        """Say the same to CMake, which takes a program with arguments for a compiler and for nothing else."""
        archive = f"<CMAKE_AR> {' '.join([*self.ar[1:], 'qcs'])} <TARGET> <OBJECTS>"
        languages = {"C": self.cc, "CXX": self.cxx, "ASM": self.cc}
        return {
            **{f"CMAKE_{name}_COMPILER": ";".join(portable(command)) for name, command in languages.items()},
            **{f"CMAKE_{name}_ARCHIVE_CREATE": archive for name in languages},
            **{f"CMAKE_{name}_ARCHIVE_FINISH": "" for name in languages},
            "CMAKE_AR": portable(self.ar)[0],
            # CMake wants to know one; nothing here is a resource.
            "CMAKE_RC_COMPILER": portable(self.ar)[0],
        }


def portable(command: list[str]) -> list[str]:
    """Write a command's paths in the way that CMake reads on Windows, too."""
    return [part.replace("\\", "/") for part in command]


def kind(environ: Mapping[str, str]) -> str:
    """Return which compilers the environment asks for.

    Parameters
    ----------
    environ : mapping of str to str
        ``LLAMA_CY_COMPILER`` is "zig", "gnu" (those that ``CC`` and ``CXX`` name) or "msvc"; without it, "gnu" where
        ``CXX`` is set, else "zig".
    """
    chosen = environ.get(VARIABLE, "") or ("gnu" if environ.get("CXX") else "zig")
    if chosen not in KINDS:
        raise ValueError(f"{VARIABLE}={chosen}; expected one of {', '.join(KINDS)}")
    return chosen


def compilers(environ: Mapping[str, str], zig: str) -> Compilers | None:
    """Return the commands, or None for Microsoft's compiler, which setuptools and CMake find.

    Parameters
    ----------
    environ : mapping of str to str
        As for :func:`kind`; beside ``CC`` and ``CXX`` it may name ``AR``.
    zig : str
        The program.
    """
    chosen = kind(environ)
    if chosen == "msvc":
        return None
    if chosen == "gnu":
        cc, cxx, ar = (environ.get(name, default) for name, default in (("CC", "gcc"), ("CXX", "g++"), ("AR", "ar")))
        return Compilers(shlex.split(cc), shlex.split(cxx), shlex.split(ar))
    if not zig:
        raise ValueError(
            f"no C++17 compiler; `pip install ziglang` brings one, {VARIABLE}=msvc takes Visual Studio's, "
            "CC and CXX name another"
        )
    return Compilers(*([zig, tool, *target] for tool, target in (("cc", FLAGS), ("c++", FLAGS), ("ar", []))))


def find_zig() -> str:
    """Return the path of the zig that came as a package, or an empty string."""
    spec = importlib.util.find_spec("ziglang")
    places = spec.submodule_search_locations if spec is not None else None
    found = [path for place in places or () for name in ("zig", "zig.exe") if (path := Path(place) / name).is_file()]
    return str(found[0]) if found else ""


def replace(given: Any, commands: Compilers) -> Any:
    """Return a setuptools compiler that calls these commands, with the folders and libraries of the given one."""
    # By the name that setuptools itself takes for its own copy.
    made = importlib.import_module("distutils.ccompiler").new_compiler(compiler="unix")
    made.set_executables(
        preprocessor=[*commands.cc, "-E"],
        compiler=commands.cc, compiler_so=commands.cc, compiler_cxx=commands.cxx, compiler_so_cxx=commands.cxx,
        linker_so=[*commands.cc, "-shared"], linker_so_cxx=[*commands.cxx, "-shared"],
        linker_exe=commands.cc, linker_exe_cxx=commands.cxx,
    )  # fmt: skip
    for name in ("include_dirs", "macros", "libraries", "library_dirs"):
        setattr(made, name, list(getattr(given, name)))
    if os.name == "nt":
        # To Microsoft's compiler a pragma in Python.h says it.
        made.add_library(f"python{sysconfig.get_config_var('py_version_nodot')}")
    return made
