"""The public names, the headers for other extensions, the versions, and an import that nobody notices."""

from __future__ import annotations

import importlib.metadata
import logging
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import llama_cy
from llama_cy import enums, errors

ROOT = Path(__file__).resolve().parents[2]

# Prints what an import changed. NumPy goes first: its BLAS may start threads of its own.
IMPORT = """
import os, subprocess, sys, time
import numpy
def n_threads():
    if os.path.isdir("/proc/self/task"):
        return len(os.listdir("/proc/self/task"))
    table = subprocess.run(["ps", "-M", str(os.getpid())], capture_output=True, text=True, check=True).stdout
    return len(table.splitlines()) - 1
modules, threads, begin = set(sys.modules), n_threads(), time.perf_counter()
import llama_cy
seconds = time.perf_counter() - begin
report = [str(n_threads() - threads), str(seconds), *sorted(set(sys.modules) - modules)]
with open(sys.argv[1], "w") as file:
    file.write("\\n".join(report))
"""

# Touches every member of every class on an object that no constructor has filled.
EMPTY = """
import sys
import llama_cy
for name in llama_cy.__all__:
    cls = getattr(llama_cy, name)
    if not isinstance(cls, type) or cls.__module__ == "llama_cy.enums":
        continue
    try:
        empty = cls.__new__(cls)
    except TypeError:
        continue
    for member in ("__repr__", "__bool__", "__len__", "__iter__", "__next__", "__enter__", "__exit__", *dir(cls)):
        if not member.startswith("__") or member in vars(cls):
            print(f"{name}.{member}", flush=True)
            for arguments in ((), (1,), (b"",), ((None,),), (1, 1)):
                try:
                    getattr(empty, member)(*arguments)
                except Exception:
                    pass
"""


def test_all_is_sorted_and_whole() -> None:
    names = llama_cy.__all__
    assert list(names) == sorted(set(names))
    assert set(enums.__all__) <= set(names)
    missing = [name for name in names if not hasattr(llama_cy, name)]
    assert not missing


def test_star_import_brings_our_names_and_no_others() -> None:
    namespace: dict[str, object] = {}
    exec("from llama_cy import *", namespace)
    del namespace["__builtins__"]
    assert set(namespace) == set(llama_cy.__all__)
    assert not [name for name in namespace if name.startswith("_")]
    for name, value in namespace.items():
        home = value.__name__ if isinstance(value, ModuleType) else value.__module__
        assert home.partition(".")[0] == "llama_cy", f"{name} comes from {home}"


def test_every_exception_is_exported() -> None:
    ours = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, BaseException)
    }
    assert "DecodeError" in ours
    assert ours <= set(llama_cy.__all__)


def test_get_include_holds_what_other_extensions_need() -> None:
    folder = Path(llama_cy.get_include())
    names = {path.name for path in folder.iterdir()}
    headers = {"llama.h", "ggml.h", "ggml-cpu.h", "ggml-backend.h", "ggml-alloc.h", "ggml-opt.h", "gguf.h"}
    mirror = {path.name for path in (ROOT / "include").glob("*.pxd")}
    assert "llama.pxd" in mirror
    assert headers | mirror | {"llama_cy_api.h"} <= names
    for name in (*mirror, "llama_cy_api.h"):
        assert (folder / name).read_bytes() == (ROOT / "include" / name).read_bytes()
    package = Path(llama_cy.__file__).parent
    assert (package / "__init__.pxd").is_file()


def test_version_tells_what_runs() -> None:
    version = llama_cy.version()
    assert version.llama_cy == llama_cy.__version__ == importlib.metadata.version("llama_cy")
    pinned = re.search(r"commit: ([0-9a-f]{40})", (ROOT / "vendor" / "llama.cpp.txt").read_text())
    assert pinned is not None
    assert version.llama_cpp == pinned[1]
    options = dict(option.partition("=")[::2] for option in version.build_options.split())
    assert options["GGML_OPENMP"] == "OFF"
    assert "CPU" in version.system_info
    assert version._fields == ("llama_cy", "llama_cpp", "build_options", "system_info", "llama_cpp_version")


def test_import_is_silent_and_needs_numpy_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report"
    command = [sys.executable, "-W", "error", "-c", IMPORT, str(report)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    threads, seconds, *modules = report.read_text().splitlines()
    assert int(threads) == 0
    packages = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    assert "llama_cy" in modules
    with capsys.disabled():
        print(f"\nimport llama_cy: {float(seconds) * 1000:.0f} ms over NumPy's own, {len(modules)} modules")
    assert {name for name in packages if not name.startswith("_")} <= {"llama_cy", "numpy", "cython_runtime"}


def test_import_leaves_logging_alone() -> None:
    code = "import logging, llama_cy; assert not logging.root.handlers; assert logging.root.level == logging.WARNING"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert logging.getLogger("llama_cy").handlers


def test_an_object_without_its_constructor_is_harmless() -> None:
    done = subprocess.run([sys.executable, "-c", EMPTY], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"signal {-done.returncode} in {done.stdout.splitlines()[-1]}"
    assert "Sampler.reset" in done.stdout.splitlines()
