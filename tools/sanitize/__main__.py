"""Build with sanitizers and run tests on that: ``python -m tools.sanitize [address] [thread] [tests]``."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tools import second_build
from tools.sanitize.kinds import KINDS, Kind

# Frames that a report can name, at a speed that tests can bear; indices of the C++ library's containers are checked.
COMMON = "-g -O1 -fno-omit-frame-pointer -D_GLIBCXX_ASSERTIONS"
# llama.cpp's kernels for AMX read numbers of 32 bits where those of 8 bits lie, which are not aligned.
if platform.machine() == "x86_64":
    COMMON += " -mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
# Reports shown in full.
SHOWN = 5


def library(name: str) -> str:
    """Return the path of one of the compiler's libraries."""
    compiler = os.environ.get("CXX", "g++")
    # Some have the C++ library to link with as an archive only.
    for file in (name, f"{name}.6"):
        command = [compiler, f"-print-file-name={file}"]
        path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if Path(path).is_absolute():
            return path
    raise SystemExit(f"{compiler} has no {name}; `apt install libasan8 libubsan1 libtsan2` or the like brings it")


def build(kind: Kind, tree: Path) -> None:
    """Build in a copy of the source."""
    flags = f"{COMMON} {kind.flags}"
    settings = {
        # "Debug" keeps the symbols; asserts that a release doesn't have are llama.cpp's affair.
        "CMAKE_ARGS": shlex.join(
            ["-DCMAKE_BUILD_TYPE=Debug", *(f"-DCMAKE_{language}_FLAGS={flags} -DNDEBUG" for language in ("C", "CXX"))]
        ),
        "CFLAGS": flags,
        "LDFLAGS": kind.flags,
    }
    second_build.build(tree, settings)


def test(kind: Kind, tree: Path, arguments: list[str]) -> int:
    """Run tests of the copy with the runtime in the process from the start, which Python itself is not built with.

    A process of a test that is meant to die, or whose output nobody reads, reports too: into a folder, which must be
    empty in the end.
    """
    reports = tree / "build" / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    runtime = f"{kind.options[kind.variable]}:log_path={reports / 'report'}"
    if kind.suppressions:
        runtime += f":suppressions={Path(__file__).with_name(kind.suppressions)}"
    settings = dict(kind.options) | {
        kind.variable: runtime,
        "LD_PRELOAD": " ".join(library(name) for name in kind.libraries),
        "LLAMA_CY_TEST_PATIENCE": "5",
        # Blocks of Python's own allocator are not watched.
        "PYTHONMALLOC": "malloc",
    }
    # What an argument names is run instead of all.
    chosen: list[str] = []
    if all(argument.startswith("-") for argument in arguments):
        chosen = [*kind.tests]
    left_out = [f"--deselect={path}" for path in kind.left_out]
    options = [*left_out, "-n", "auto", "--dist", "loadscope", "--timeout=1200", "-m", "not slow"]
    # What the one for undefined behaviour says as it ends a process goes to stderr whatever it is told.
    options.append("--capture=sys")
    status = second_build.test(tree, settings, [*options, *chosen, *arguments])
    found = sorted(reports.iterdir())
    for path in found[:SHOWN]:
        print(f"--- {path.name}\n{path.read_text(errors='replace')[:8000]}")
    print(f"{len(found)} processes reported something{f': {reports}' if found else ''}")
    return status or bool(found)


def main() -> int:
    """Build and test the kinds that are named, or all; further arguments go to pytest."""
    if platform.system() != "Linux":
        raise SystemExit("the sanitizers of GCC on Linux are expected")
    names = [name for name in sys.argv[1:] if name in KINDS] or list(KINDS)
    arguments = [argument for argument in sys.argv[1:] if argument not in KINDS]
    status = 0
    for name in names:
        tree = second_build.ROOT / "build" / "sanitize" / name
        build(KINDS[name], tree)
        status = test(KINDS[name], tree, arguments) or status
    return status


if __name__ == "__main__":
    raise SystemExit(main())
