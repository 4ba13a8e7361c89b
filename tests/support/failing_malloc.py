"""A library that, loaded into a child before all others, fails an allocation of our choice."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

__all__ = ["ARM", "build_failing_malloc"]

# For the child: `arm(n)` fails the n-th allocation from then on, `disarm()` tells how many there were and whether one
# failed, and `alive()` how many of our own blocks that were made in between are still there.
ARM = """
import ctypes
_library = ctypes.CDLL(None)
arm = _library.failing_malloc_arm
arm.argtypes, arm.restype = [ctypes.c_long], None
alive = _library.failing_malloc_alive
alive.restype = ctypes.c_long
_library.failing_malloc_disarm.restype = ctypes.c_long

def disarm():
    count = _library.failing_malloc_disarm()
    return abs(count), count < 0
"""


def build_failing_malloc(folder: Path) -> Path:
    """Compile the library with the C++ compiler; it needs glibc."""
    library = folder / "failing_malloc.so"
    source = Path(__file__).with_suffix(".cpp")
    compiler = os.environ.get("CXX", "c++")
    done = subprocess.run(
        [compiler, "-std=c++17", "-O2", "-fPIC", "-shared", str(source), "-o", str(library), "-ldl"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return library
