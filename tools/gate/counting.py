"""Count the calls of every function of llama.h, by putting a counting table in place of the real one.

All modules but `_llama` reach llama.cpp through the table, so the counts are exact, whatever the path of a call: a
property, a token loop without the GIL, a destructor. No other build is needed.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_name("counter.cpp")
CAPSULE = b"llama_cy._llama._api"


class Counts:
    """The counts so far, by the function's place in `names`.

    Attributes
    ----------
    names : list of str
    """

    def __init__(self, library: ctypes.CDLL, names: list[str]) -> None:
        self.names = names
        self._calls = (ctypes.c_uint64 * len(names)).in_dll(library, "calls")

    def now(self) -> list[int]:
        return list(self._calls)

    def since(self, before: list[int]) -> list[str]:
        """Return the functions called since."""
        return [name for name, old, new in zip(self.names, before, self._calls, strict=True) if new != old]


def build(names: list[str], package: Path) -> Path:
    """Compile the counting table, unless it was compiled before; return the library's path."""
    functions = "".join(f"FUNCTION({name})\n" for name in names)
    api = (package / "include" / "llama_cy_api.h").read_text(encoding="utf-8")
    key = hashlib.sha256("\0".join([functions, api, SOURCE.read_text(encoding="utf-8")]).encode()).hexdigest()[:16]
    folder = ROOT / "build" / "gate" / key
    library = folder / "counter.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "functions.h").write_text(functions, encoding="utf-8")
        fresh = folder / f"counter-{os.getpid()}.so"
        compiler = os.environ.get("CXX", "c++").split()
        flags = ["-std=c++17", "-O1", "-fPIC", "-shared", f"-I{folder}", f"-I{package / 'include'}"]
        subprocess.run([*compiler, *flags, str(SOURCE), "-o", str(fresh)], check=True)
        fresh.replace(library)
    return library


def install(names: list[str], broken: str | None = None) -> Counts:
    """Put the counting table in place; nothing may have imported llama_cy yet.

    Parameters
    ----------
    names : list of str
        The functions to count.
    broken : str, optional
        One that answers wrongly from now on: does nothing, or gives null, or something else than the truth.
    """
    if "llama_cy" in sys.modules:
        raise RuntimeError("llama_cy was imported before its calls could be counted")
    found = importlib.util.find_spec("llama_cy")
    assert found is not None
    assert found.submodule_search_locations is not None
    package = Path(next(iter(found.submodule_search_locations)))
    library = ctypes.CDLL(str(build(names, package)))
    spec = importlib.util.spec_from_file_location("llama_cy._llama", next(package.glob("_llama.*.so")))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["llama_cy._llama"] = module
    spec.loader.exec_module(module)
    pointer, capsule = ctypes.pythonapi.PyCapsule_GetPointer, ctypes.pythonapi.PyCapsule_New
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    capsule.restype, capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    library.install.restype, library.install.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    module._api = capsule(library.install(pointer(module._api, CAPSULE)), CAPSULE, None)  # type: ignore[attr-defined]
    if broken is not None:
        ctypes.c_int.in_dll(library, "broken").value = names.index(broken)
    return Counts(library, names)
