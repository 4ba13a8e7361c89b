"""What setup.py makes for other Linuxes than this one, and for a CPython that no test machine has: docs/embed.md."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import cross, debian, pythons
from support.child import check_output

lief = pytest.importorskip("lief", reason="make test-linux installs it")
pytestmark = [
    pytest.mark.linux,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="these are builds on x86-64 for others"),
]
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "linux"
KINDS = ("arm64", "musl", "later")
MACHINES = {"arm64": "AARCH64", "musl": "X86_64", "later": "X86_64"}
# What every system of the kind has.
LIBRARIES = {
    "arm64": {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "ld-linux-aarch64.so.1"},
    "musl": {"libc.so"},
    "later": {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"},
}


class Built(NamedTuple):
    """A folder with the package, its modules, and the Python that runs it, if any does."""

    folder: Path
    modules: dict[str, Path]
    python: pythons.Python | None


@functools.cache
def built(kind: str) -> Built:
    """Build every module once."""
    python: pythons.Python | None = None
    target, own = "linux-x86_64", dict[str, str]()
    if kind == "arm64":
        python = pythons.arm64(FOLDER / kind)
        tools = {"CC": "aarch64-linux-gnu-gcc", "CXX": "aarch64-linux-gnu-g++", "AR": "/usr/bin/aarch64-linux-gnu-ar"}
        target, own = "linux-aarch64", cross.linux(tools, "aarch64") | python.build
        own["LLAMA_CY_PORTABLE"] = "1"
    elif kind == "musl":
        own = cross.linux(cross.zig_programs(FOLDER / kind / "bin", "x86_64-linux-musl"), "x86_64")
        own |= {"LLAMA_CY_PORTABLE": "1", "SETUPTOOLS_EXT_SUFFIX": ".cpython-311-x86_64-linux-musl.so"}
        # One engine room of the five says it all.
        own["CROSS_VARIANTS"] = "0"
    else:
        python = pythons.later(FOLDER / kind)
        own = python.build
    modules = cross.build(ROOT, target, FOLDER / f"build-{kind}", os.environ | own)
    return Built(cross.package(ROOT, FOLDER / f"build-{kind}"), modules, python)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Name the build."""
    return str(request.param)


@pytest.fixture(scope="module")
def files(kind: str) -> dict[str, Any]:
    """Read the ELF files."""
    return {name: lief.ELF.parse(str(path)) for name, path in built(kind).modules.items()}


def test_every_module_is_there(kind: str) -> None:
    assert set(built(kind).modules) == {path.stem for path in (ROOT / "llama_cy").glob("*.pyx")}


def test_each_is_for_its_machine_and_needs_what_is_there(files: dict[str, Any], kind: str) -> None:
    for name, binary in files.items():
        assert binary.header.machine_type.name == MACHINES[kind], name
        assert set(binary.libraries) <= LIBRARIES[kind], name
        assert not any(entry.tag.name in ("RPATH", "RUNPATH") for entry in binary.dynamic_entries), name


def test_only_the_init_function_is_exported(files: dict[str, Any]) -> None:
    for name, binary in files.items():
        exported = [symbol.name for symbol in binary.exported_symbols]
        assert [each for each in exported if each != ""] == [f"PyInit_{name}"], name


def test_all_that_is_wanted_on_musl_is_musls_or_pythons() -> None:
    libc: Any = lief.ELF.parse(str(debian.sysroot(FOLDER / "libc", "amd64", "bookworm", "musl") / MUSL))
    there = {symbol.name for symbol in libc.exported_symbols}
    assert {"malloc", "pthread_getattr_np"} <= there
    assert not {"on_exit", "backtrace"} & there
    for name, path in built("musl").modules.items():
        binary: Any = lief.ELF.parse(str(path))
        wanted = {symbol.name for symbol in binary.imported_symbols if symbol.binding.name == "GLOBAL"}
        missing = {symbol for symbol in wanted - there if not symbol.startswith(("Py", "_Py"))}
        assert missing == set(), name


# Where Debian 12 has it; later ones have it under usr.
MUSL = "lib/x86_64-linux-musl/libc.so"
STORY = """
import llama_cy, sys
with llama_cy.demo_model() as model, model.context(n_ctx=256, n_threads=2) as context:
    print(context.complete("Once upon a time", llama_cy.sampling(temperature=0), max_tokens=30).text)
"""


@pytest.fixture(scope="module", params=("arm64", "later"))
def call(request: pytest.FixtureRequest) -> Callable[..., str]:
    """Run a Python that has the build; return what it wrote."""
    kind = str(request.param)
    folder, _, python = built(kind)
    assert python is not None
    packages = FOLDER / "arm64/sysroot/usr/lib/python3/dist-packages"
    if kind == "later":
        packages = pythons.packages(FOLDER / "site-later", pythons.LATER, *PACKAGES)

    def run(*arguments: str) -> str:
        done = python.call(*arguments, path=[folder, packages], cwd=folder)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    return run


PACKAGES = ("numpy", "pytest>=8", "pytest-timeout", "hypothesis", "gguf", "typer", "rich", "jinja2")


def test_it_tells_the_same_story(call: Callable[..., str]) -> None:
    assert call("-c", STORY) == check_output(STORY)


def test_tests_pass_on_the_later_python() -> None:
    folder, _, python = built("later")
    assert python is not None
    packages = pythons.packages(FOLDER / "site-later", pythons.LATER, *PACKAGES)
    files = [f"tests/{name}.py" for name in ("unit/test_vocab", "unit/test_sampler_chain", "unit/test_loop")]
    done = python.call("-m", "pytest", "-q", "-p", "no:cacheprovider", *files, path=[folder, packages], cwd=folder)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
