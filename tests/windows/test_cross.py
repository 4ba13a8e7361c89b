"""What setup.py makes for Windows, made on Linux: docs/windows.md says what this shows and what it can't."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from support import cross, windows

import llama_cy
from llama_cy.cpu import features

lief = pytest.importorskip("lief", reason="make test-windows installs it")
pytestmark = [pytest.mark.windows, pytest.mark.timeout(3600)]
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "windows"
TAG = "cp311"
# The C library that CPython has, too: the same heap, and the same numbers for open files.
SYSTEM = re.compile(r"kernel32\.dll|api-ms-win-crt-\w+-l1-1-0\.dll|python311\.dll", re.IGNORECASE)


@pytest.fixture(scope="module")
def modules() -> dict[str, Path]:
    """Build every module with the flags that native_config gives for Windows."""
    return windows.build(ROOT, FOLDER, TAG)


@pytest.fixture(scope="module")
def engines(modules: dict[str, Path]) -> dict[str, Path]:
    """Give the engine room and its variants."""
    variants = (modules["_llama"].parent / "_variants").glob("*/_llama.*.pyd")
    return {"_llama": modules["_llama"]} | {path.parent.name: path for path in variants}


@pytest.fixture(scope="module")
def files(modules: dict[str, Path], engines: dict[str, Path]) -> dict[str, Any]:
    """Read the PE files."""
    return {name: lief.PE.parse(str(path)) for name, path in (modules | engines).items()}


def test_every_module_is_there(modules: dict[str, Path], engines: dict[str, Path]) -> None:
    assert set(modules) == {path.stem for path in (ROOT / "llama_cy").glob("*.pyx")}
    assert set(engines) == {"_llama", "x86_64_v2", "x86_64_v3", "x86_64_v4", "x86_64_v4_vnni"}


def test_each_is_a_library_for_windows_on_x86_64(files: dict[str, Any]) -> None:
    for name, binary in files.items():
        assert binary.header.machine.name == "AMD64", name
        assert lief.PE.Header.CHARACTERISTICS.DLL in binary.header.characteristics_list, name
        assert binary.optional_header.magic.name == "PE32_PLUS", name


def test_only_the_init_function_is_exported(files: dict[str, Any], engines: dict[str, Path]) -> None:
    for name, binary in files.items():
        exported = [entry.name for entry in binary.get_export().entries]
        assert exported == [f"PyInit_{'_llama' if name in engines else name}"]


def test_what_they_import_every_windows_has_or_python(files: dict[str, Any], engines: dict[str, Path]) -> None:
    for name, binary in files.items():
        libraries = {entry.name.lower() for entry in binary.imports}
        assert "python311.dll" in libraries, name
        # ggml reads the name of the CPU from the registry.
        assert {library for library in libraries if not SYSTEM.fullmatch(library)} == (
            {"advapi32.dll"} if name in engines else set()
        ), name


def test_no_path_of_this_machine_is_in_them(files: dict[str, Any], modules: dict[str, Path]) -> None:
    for name, path in modules.items():
        content = path.read_bytes()
        assert str(ROOT).encode() not in content, name
        assert os.path.expanduser("~").encode() + b"/" not in content, name
        assert not any(section.name.startswith(".debug") for section in files[name].sections), name


def test_llama_cpp_is_in_the_engine_rooms_alone(files: dict[str, Any], engines: dict[str, Path]) -> None:
    for name, binary in files.items():
        (text,) = [section for section in binary.sections if section.name == ".text"]
        assert (text.virtual_size > 2_000_000) == (name in engines), (name, text.virtual_size)


@pytest.fixture(scope="module")
def wine() -> windows.Wine:
    """Make a Windows."""
    wine = windows.Wine(FOLDER, TAG)
    if not wine.program:
        pytest.skip("there is no wine to run it; `apt install wine64`")
    return wine


@pytest.fixture(scope="module")
def path(modules: dict[str, Path]) -> list[Path]:
    """Lay out what an installed wheel and its requirements would be."""
    return [cross.package(ROOT, FOLDER / f"build-{TAG}"), windows.packages(FOLDER, TAG)]


STORY = """
import llama_cy, sys
with llama_cy.demo_model() as model, model.context(n_ctx=256, n_threads=2) as context:
    done = context.complete("Once upon a time", llama_cy.sampling(temperature=0), max_tokens=40)
    print(sys.platform, sys.modules["llama_cy._llama"].__file__, done.text, sep="|")
"""


def test_it_tells_the_same_story_under_wine(wine: windows.Wine, path: list[Path], engines: dict[str, Path]) -> None:
    with llama_cy.demo_model() as model, model.context(n_ctx=256, n_threads=2) as context:
        ours = context.complete("Once upon a time", llama_cy.sampling(temperature=0), max_tokens=40).text
    done = wine.call("-c", STORY, path=path)
    assert done.returncode == 0, done.stderr
    system, engine, text = done.stdout.strip().split("|")
    assert system == "win32"
    # The import asked the CPU.
    assert ("_variants" in engine) == ("avx2" in features())
    assert text == ours


SUITE = [f"unit/test_{name}.py" for name in ("vocab", "errors", "loop", "context", "stream", "async", "loading")]


@pytest.mark.parametrize("name", SUITE)
def test_tests_pass_under_wine(wine: windows.Wine, path: list[Path], name: str) -> None:
    arguments = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "pyproject.toml", f"tests/{name}")
    done = wine.call(*arguments, path=[*path, ROOT / "tests"], seconds=1800)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
