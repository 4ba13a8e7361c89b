"""Build ours and llama.cpp with sanitizers, and run tests on that: ``python -m tools.sanitize [address] [tests]``."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools import second_build

# Frames that a report can name, at a speed that tests can bear; indices of the C++ library's containers are checked.
COMMON = "-g -O1 -fno-omit-frame-pointer -D_GLIBCXX_ASSERTIONS"


@dataclass(frozen=True)
class Kind:
    """A build, how its runtime is told what to do, and the tests that it is for."""

    flags: str
    libraries: tuple[str, ...]
    options: Mapping[str, str]
    tests: tuple[str, ...]


KINDS = {
    "address": Kind(
        flags="-fsanitize=address,undefined -fno-sanitize-recover=undefined",
        # With the C++ library in the process from the start, its throw can be watched.
        libraries=("libasan.so", "libubsan.so", "libstdc++.so"),
        options={
            # CPython keeps objects until the end by design; our own are counted by the tests.
            "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:allocator_may_return_null=1",
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        },
        tests=(
            *(f"tests/unit/test_{name}.py" for name in ("batch_arrays", "context", "loop", "sampler_chain")),
            *(f"tests/lifecycle/test_{name}.py" for name in ("closed", "orders")),
        ),
    ),
}


def library(name: str) -> str:
    """Return the path of one of the compiler's libraries."""
    compiler = os.environ.get("CXX", "g++")
    command = [compiler, f"-print-file-name={name}"]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(path).is_absolute():
        raise SystemExit(f"{compiler} has no {name}; `apt install libasan8 libubsan1` or the like brings it")
    return path


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
    """Run tests of the copy with the runtime in the process from the start, which Python itself is not built with."""
    settings = dict(kind.options) | {
        "LD_PRELOAD": " ".join(library(name) for name in kind.libraries),
        # Blocks of Python's own allocator are not watched.
        "PYTHONMALLOC": "malloc",
    }
    # What an argument names is run instead of all.
    chosen = [] if any(not argument.startswith("-") for argument in arguments) else list(kind.tests)
    options = ["-p", "no:xdist", "--timeout=1200", "-m", "not slow"]
    return second_build.test(tree, settings, [*options, *chosen, *arguments])


def main() -> int:
    """Build and test one kind, or all; further arguments go to pytest."""
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
