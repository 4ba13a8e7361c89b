"""What setup.py makes for a Mac, made on Linux: see docs/metal.md for what this shows and what only a Mac can show."""

from __future__ import annotations

import functools
import io
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.darwin import FRAMEWORK_SYMBOLS, FRAMEWORKS, LIBCXX, LIBSYSTEM, Toolchain, build, defined, members

lief = pytest.importorskip("lief", reason="make test-darwin installs it")
pytestmark = [pytest.mark.darwin, pytest.mark.timeout(3600)]
ROOT = Path(__file__).resolve().parents[2]
METAL = ROOT / "vendor" / "llama.cpp" / "ggml" / "src" / "ggml-metal"
# Mach-O: a symbol bound by name alone, wherever dyld finds it; a definition of the file itself.
FLAT = 254
PLATFORMS = ("darwin-arm64", "darwin-x86_64")


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    """Make the toolchain where the next run finds it again."""
    folder = ROOT / "build" / "darwin"
    folder.mkdir(parents=True, exist_ok=True)
    return Toolchain(folder)


@pytest.fixture(scope="module")
def built(toolchain: Toolchain) -> Callable[[str], dict[str, Path]]:
    """Build every module with the flags that native_config gives for a Mac, once for each kind."""
    return functools.cache(lambda platform: build(toolchain, ROOT, platform, ROOT / "build" / "darwin" / platform))


@pytest.fixture(scope="module", params=PLATFORMS)
def platform(request: pytest.FixtureRequest) -> str:
    """Name the Mac."""
    return str(request.param)


@pytest.fixture(scope="module")
def modules(built: Callable[[str], dict[str, Path]], platform: str) -> dict[str, Path]:
    """Give the modules by name."""
    return built(platform)


@pytest.fixture(scope="module")
def files(modules: dict[str, Path]) -> dict[str, Any]:
    """Read the Mach-O files; each holds one architecture."""
    read: dict[str, Any] = {}
    for name, path in modules.items():
        fat: Any = lief.MachO.parse(str(path))
        assert len(fat) == 1, name
        read[name] = fat.at(0)
    return read


def undefined(binary: Any) -> Iterator[tuple[str, int]]:
    """List what a module wants of others, and the number of the library that it expects it from."""
    for symbol in binary.symbols:
        if symbol.numberof_sections == 0 and symbol.raw_type & 1 and not symbol.value:
            yield symbol.name, symbol.library_ordinal


def test_every_module_is_there(modules: dict[str, Path]) -> None:
    assert set(modules) == {path.stem for path in (ROOT / "llama_cy").glob("*.pyx")}


def test_architecture_and_oldest_macos_are_those_of_the_settings(files: dict[str, Any], platform: str) -> None:
    cpu = {"darwin-arm64": "ARM64", "darwin-x86_64": "X86_64"}[platform]
    for name, binary in files.items():
        assert binary.header.cpu_type.name == cpu, name
        assert binary.header.file_type.name == "BUNDLE", name
        assert binary.build_version.platform.name == "MACOS", name
        assert list(binary.build_version.minos) == [13, 3, 0], name


def test_the_engine_room_names_each_framework_and_the_others_none(files: dict[str, Any]) -> None:
    for name, binary in files.items():
        libraries = {library.name for library in binary.libraries}
        wanted = {LIBCXX, LIBSYSTEM}
        if name == "_llama":
            wanted |= {f"{FRAMEWORKS}/{each}.framework/Versions/A/{each}" for each in FRAMEWORK_SYMBOLS}
        assert libraries == wanted, name


def test_no_path_of_this_machine_is_in_them(files: dict[str, Any], modules: dict[str, Path]) -> None:
    for name, binary in files.items():
        assert not binary.has_rpath, name
        content = modules[name].read_bytes()
        assert str(ROOT).encode() not in content, name
        assert os.path.expanduser("~").encode() + b"/" not in content, name


def test_only_the_init_function_is_exported(files: dict[str, Any]) -> None:
    for name, binary in files.items():
        assert [symbol.name for symbol in binary.exported_symbols] == [f"_PyInit_{name}"]


def objective_c() -> set[str]:
    """Name what llama.cpp's two Objective-C files define: their headers' functions."""
    text = "".join((METAL / f"ggml-metal-{part}.h").read_text() for part in ("device", "context"))
    return {f"_{name}" for name in re.findall(r"\b(ggml_metal_\w+)\s*\(", text)}


def test_what_is_undefined_is_pythons_or_the_systems(files: dict[str, Any], platform: str) -> None:
    missing = objective_c() if platform == "darwin-arm64" else set()
    for name, binary in files.items():
        libraries = [library.name for library in binary.libraries]
        flat = {symbol for symbol, library in undefined(binary) if library == FLAT}
        others = {symbol for symbol in flat if not symbol.startswith(("_Py", "__Py"))}
        if name == "_llama":
            assert others <= missing, sorted(others - missing)
            assert bool(others) == bool(missing)
        else:
            assert others == set(), name
        # lld gave each of the rest the number of a library whose stub exports it.
        bound = [library for _, library in undefined(binary) if library != FLAT]
        assert bound
        assert all(1 <= library <= len(libraries) for library in bound), name


def test_llama_cpp_is_in_the_engine_room_alone(files: dict[str, Any]) -> None:
    for name, binary in files.items():
        wanted = {symbol for symbol, _ in undefined(binary) if symbol.startswith(("_llama_", "_ggml_", "_gguf_"))}
        assert name == "_llama" or wanted == set(), (name, wanted)
        size = sum(section.size for section in binary.sections if section.name == "__text")
        assert (size > 2_000_000) == (name == "_llama"), (name, size)


@pytest.fixture(scope="module")
def metal_library(toolchain: Toolchain, built: Callable[[str], dict[str, Path]]) -> dict[str, bytes]:
    """Read the members of the static Metal backend."""
    built("darwin-arm64")
    newest = max((ROOT / "build").glob("llama.cpp-*/ggml/src/ggml-metal/libggml-metal.a"), key=os.path.getmtime)
    return members(toolchain.zig, newest)


def test_every_kernel_is_embedded_and_stands_alone(
    toolchain: Toolchain, metal_library: dict[str, bytes], tmp_path: Path
) -> None:
    table = re.search(r"#define GGML_METAL_LIBS \\\n((?:.*\\\n)*.*)\n", (METAL / "ggml-metal-device.m").read_text())
    assert table is not None
    stems = re.findall(r"X\(\w+,\s*(\w+)\)", table[1])
    assert len(stems) > 20
    # Metal's own headers, empty; any other that a kernel asked for would not be found.
    own = tmp_path / "metal"
    own.mkdir()
    for header in ("metal_stdlib", "metal_tensor"):
        (own / header).touch()
    options = ["-E", "-P", "-x", "c++", "-nostdinc", "-isystem", str(own), "-DGGML_METAL_EMBED_LIBRARY=1"]
    for stem in stems:
        content = metal_library[f"ggml-metal-embed-{stem}.s.o"]
        assert {f"_ggml_metallib_{stem}_start", f"_ggml_metallib_{stem}_end"} <= defined(content)
        fat: Any = lief.MachO.parse(io.BytesIO(content))
        (section,) = [section for section in fat.at(0).sections if section.name == "__ggml_metallib"]
        (tmp_path / "embedded.metal").write_bytes(bytes(section.content))
        command = [toolchain.zig, "c++", *options, "embedded.metal"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (stem, done.stderr)
        kernel = (METAL / "kernels" / f"{stem}.metal").read_text()
        assert all(name in done.stdout for name in re.findall(r"^kernel\s+void\s+(\w+)\(", kernel, re.M)), stem
        assert "__embed_" not in done.stdout
        # Of ggml-common.h and ggml-metal-impl.h.
        assert "block_q4_0" not in kernel or "} block_q4_0;" in done.stdout, stem
        assert set(re.findall(r"ggml_metal_kargs_\w+", kernel)) <= set(re.findall(r"} (\w+);", done.stdout)), stem


def test_the_metal_backend_is_registered(files: dict[str, Any], platform: str) -> None:
    names = {symbol.name for symbol in files["_llama"].symbols}
    assert ("_ggml_backend_metal_reg" in names) == (platform == "darwin-arm64")
    assert "_ggml_backend_blas_reg" in names
