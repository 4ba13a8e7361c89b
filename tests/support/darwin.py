"""A macOS toolchain on Linux: zig's compilers and headers, LLVM's linker, and text stubs for Apple's libraries.

Two programs stand in for Xcode's ``clang`` and ``clang++``. They take the architecture and the minimum macOS from the
flags they are called with and refuse to guess, so what they make is what those flags say. Apple's Objective-C headers
are nowhere but on a Mac: an ``.m`` file becomes an empty object, and what it would define stays undefined.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from support import cross

TARGETS = {"arm64": "aarch64-macos", "x86_64": "x86_64-macos"}
LIBCXX = "/usr/lib/libc++.1.dylib"
LIBSYSTEM = "/usr/lib/libSystem.B.dylib"
FRAMEWORKS = "/System/Library/Frameworks"

# What llama.cpp uses of Accelerate; the header of the real one redirects cblas_sgemm in the same way.
ACCELERATE = """
#pragma once
#ifdef __cplusplus
extern "C" {
#endif
typedef unsigned long vDSP_Length;
typedef long vDSP_Stride;
#define BINARY(name) \\
    void name(const float *, vDSP_Stride, const float *, vDSP_Stride, float *, vDSP_Stride, vDSP_Length);
#define SCALAR(name) void name(const float *, vDSP_Stride, const float *, float *, vDSP_Stride, vDSP_Length);
#define REDUCE(name) void name(const float *, vDSP_Stride, float *, vDSP_Length);
BINARY(vDSP_vadd) BINARY(vDSP_vsub) BINARY(vDSP_vmul) BINARY(vDSP_vdiv)
SCALAR(vDSP_vsmul) SCALAR(vDSP_vsadd)
REDUCE(vDSP_sve) REDUCE(vDSP_maxv) REDUCE(vDSP_measqv)
void vDSP_vsmsa(const float *, vDSP_Stride, const float *, const float *, float *, vDSP_Stride, vDSP_Length);
enum CBLAS_ORDER { CblasRowMajor = 101, CblasColMajor = 102 };
enum CBLAS_TRANSPOSE { CblasNoTrans = 111, CblasTrans = 112 };
void cblas_sgemm(enum CBLAS_ORDER, enum CBLAS_TRANSPOSE, enum CBLAS_TRANSPOSE, long, long, long, float, const float *,
                 long, const float *, long, float, float *, long)
#if defined(ACCELERATE_NEW_LAPACK) && defined(ACCELERATE_LAPACK_ILP64)
    __asm("_cblas_sgemm$NEWLAPACK$ILP64")
#endif
    ;
#ifdef __cplusplus
}
#endif
"""
VDSP = ("vadd", "vsub", "vmul", "vdiv", "vsmul", "vsadd", "sve", "maxv", "measqv", "vsmsa")
FRAMEWORK_SYMBOLS = {
    "Accelerate": [f"_vDSP_{name}" for name in VDSP] + ["_cblas_sgemm$NEWLAPACK$ILP64", "_sgemm_", "_dgemm_"],
    "Foundation": ["_NSLog"],
    "Metal": ["_MTLCreateSystemDefaultDevice"],
    "MetalKit": ["_MTKTextureLoaderErrorDomain"],
    "MetalPerformanceShaders": ["_MPSSupportsMTLDevice"],
}

DRIVER = '''#!{python}
"""clang for macOS: compiles with zig, links with ld64.lld."""
import os, subprocess, sys
ZIG, LLD, STUBS, TARGETS, CXX = {zig!r}, {lld!r}, {stubs!r}, {targets!r}, {cxx!r}
arguments = sys.argv[1:]


def value(flag):
    return arguments[arguments.index(flag) + 1] if flag in arguments else None


machine = value("-arch")
minimum = next((a.partition("=")[2] for a in arguments if a.startswith("-mmacosx-version-min=")), None)
if machine is None or arguments.count("-arch") > 1 or minimum is None:
    # What only asks who the compiler is gets an answer for arm64.
    if not any(a in ("-E", "-v", "--version") or "CompilerId" in a for a in arguments):
        sys.exit(f"need -arch, once, and -mmacosx-version-min=: {{arguments}}")
    machine, minimum = "arm64", "13.3"
target = f"{{TARGETS[machine]}}.{{minimum}}"
compile = [ZIG, "c++" if CXX else "cc", "-target", target, "-F", STUBS, "-Wno-unused-command-line-argument",
           "-fno-sanitize=undefined"]
skip, kept = False, []
for a in arguments:
    if skip or a in ("-arch", "-isysroot"):
        skip = not skip
    elif a == "-Xlinker":
        continue
    elif not a.startswith("-mmacosx-version-min="):
        kept.append(a)
if any(a in ("-c", "-E", "-S", "-v", "--version") for a in arguments):
    source = next((a for a in kept if a.endswith(".m")), None)
    if source:
        kept = ["-x", "c", os.devnull, "-c", "-o", value("-o")]
    os.execv(ZIG, compile + kept)
link = [LLD, "-arch", machine, "-platform_version", "macos", minimum, minimum, "-L", STUBS, "-F", STUBS]
objects = []
skip = False
for index, a in enumerate(kept):
    if skip:
        skip = False
    elif a.startswith("-Wl,"):
        link += [part for part in a[4:].split(",") if part != "-x"]
    elif a in ("-bundle", "-shared"):
        link.append("-bundle")
    elif a in ("-undefined", "-framework", "-o", "-F", "-L"):
        link += [a, kept[index + 1]]
        skip = True
    elif a.startswith(("-l", "-L", "-F")):
        link.append(a)
    elif not a.startswith("-") and a.endswith((".c", ".cpp")):
        made = f"{{value('-o')}}.{{len(objects)}}.o"
        subprocess.run([*compile, "-c", a, "-o", made], check=True)
        objects.append(made)
    elif not a.startswith("-"):
        objects.append(a)
if "-bundle" not in link:
    link.append("-execute")
os.execv(LLD, [*link, *objects, *(["-lc++"] if CXX else []), "-lSystem"])
'''


def stub(path: Path, install_name: str, symbols: Iterable[str]) -> None:
    """Write a text stub that exports symbols on both architectures."""
    targets = "[ arm64-macos, x86_64-macos ]"
    names = ", ".join(f"'{name}'" for name in sorted(set(symbols)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"--- !tapi-tbd\ntbd-version: 4\ntargets: {targets}\ninstall-name: '{install_name}'\n"
        f"exports:\n  - targets: {targets}\n    symbols: [ {names} ]\n...\n"
    )


def system_symbols(tbd: str) -> set[str]:
    """Return what libSystem and its parts export, from the stub that comes with zig."""
    found: set[str] = set()
    for lists in re.findall(r"(?:^|\s)(?:weak-|thread-local-)?symbols:\s*\[(.*?)\]", tbd, re.S):
        found.update(name.strip().strip("'\"") for name in lists.split(",") if name.strip())
    return found


def defined(content: bytes) -> set[str]:
    """Return the external symbols that an object file defines."""
    import lief

    binary: Any = lief.MachO.parse(io.BytesIO(content))
    return set() if binary is None else {s.name for s in binary.at(0).symbols if s.numberof_sections and s.raw_type & 1}


def members(zig: str, archive: Path) -> dict[str, bytes]:
    """Read a static library."""
    names = subprocess.run([zig, "ar", "t", archive], capture_output=True, text=True, check=True).stdout.split()
    reading = (
        (name, subprocess.run([zig, "ar", "p", archive, name], capture_output=True, check=True)) for name in names
    )
    return {name: done.stdout for name, done in reading}


def cxx_symbols(zig: str, folder: Path, target: str) -> set[str]:
    """Return what libc++ and libc++abi define, from the archives that zig builds of LLVM's sources."""
    known = folder / f"libc++-{target}.txt"
    if not known.exists():
        probe = folder / "probe.cpp"
        probe.write_text("#include <string>\nstd::string f() { return std::string(100, 'x'); }\n")
        command = [zig, "c++", "-target", target, "-shared", "-v", str(probe), "-o", str(folder / "probe.dylib")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        archives = set(re.findall(r"\S+/libc\+\+(?:abi)?\.a", done.stdout + done.stderr))
        found = [defined(content) for archive in archives for content in members(zig, Path(archive)).values()]
        known.write_text("\n".join(sorted(set().union(*found))))
    return set(known.read_text().split())


class Toolchain:
    """The two compilers, and what Apple's libraries export."""

    def __init__(self, folder: Path) -> None:
        self.zig = cross.find_zig()
        linkers = [name for name in ("ld64.lld", *(f"ld64.lld-{n}" for n in range(30, 13, -1))) if shutil.which(name)]
        if not linkers:
            raise FileNotFoundError("no ld64.lld, LLVM's linker for macOS; `apt-get install lld` brings it")
        self.stubs = folder / "stubs"
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True, exist_ok=True)
        tbd = Path(self.zig).parent / "lib/libc/darwin/libSystem.tbd"
        stub(self.stubs / "libSystem.tbd", LIBSYSTEM, system_symbols(tbd.read_text()))
        stub(self.stubs / "libc++.tbd", LIBCXX, cxx_symbols(self.zig, folder, "aarch64-macos.13.3"))
        for name, symbols in FRAMEWORK_SYMBOLS.items():
            place = self.stubs / f"{name}.framework"
            stub(place / f"{name}.tbd", f"{FRAMEWORKS}/{name}.framework/Versions/A/{name}", symbols)
        header = self.stubs / "Accelerate.framework/Headers/Accelerate.h"
        header.parent.mkdir(exist_ok=True)
        header.write_text(ACCELERATE)
        values = {"python": sys.executable, "zig": self.zig, "lld": shutil.which(linkers[0]),
                  "stubs": str(self.stubs), "targets": TARGETS}  # fmt: skip
        for name in ("clang", "clang++"):
            cross.program(self.bin / name, DRIVER.format(cxx=name == "clang++", **values))
        for name in ("ar", "ranlib"):
            cross.program(self.bin / name, f'#!/bin/sh\nexec "{self.zig}" {name} "$@"\n')

    def environ(self) -> dict[str, str]:
        """Return the environment in which setup.py builds with these programs."""
        clang, cxx = str(self.bin / "clang"), str(self.bin / "clang++")
        options = {
            "CMAKE_SYSTEM_NAME": "Darwin", "CMAKE_C_COMPILER": clang, "CMAKE_CXX_COMPILER": cxx,
            "CMAKE_ASM_COMPILER": clang, "CMAKE_OBJC_COMPILER": clang,
            "CMAKE_AR": str(self.bin / "ar"), "CMAKE_RANLIB": str(self.bin / "ranlib"),
            "CMAKE_INSTALL_NAME_TOOL": "/bin/true", "CMAKE_FRAMEWORK_PATH": str(self.stubs), "CMAKE_OSX_SYSROOT": "",
        }  # fmt: skip
        return os.environ | {
            "CC": clang, "CXX": cxx, "LDSHARED": f"{clang} -bundle -undefined dynamic_lookup",
            "LDCXXSHARED": f"{cxx} -bundle -undefined dynamic_lookup", "CFLAGS": "", "AR": str(self.bin / "ar"),
            "CCACHE_COMPILERTYPE": "clang",
            "CMAKE_ARGS": " ".join(f"-D{name}={value}" for name, value in options.items()),
        }  # fmt: skip


def build(toolchain: Toolchain, root: Path, platform: str, output: Path) -> dict[str, Path]:
    """Run setup.py as it runs on a Mac of that platform; return the modules by name."""
    return cross.build(root, platform, output, toolchain.environ())
