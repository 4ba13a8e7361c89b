"""What the compiled modules export, and what they need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import llama_cy

PACKAGE = Path(llama_cy.__file__).parent
MODULES = sorted(PACKAGE.glob("*.so"))
PREFIXES = ("llama_", "ggml_", "gguf_", "_Z")


def symbols(module: Path, *options: str) -> list[str]:
    """List a module's dynamic symbols with nm."""
    output = subprocess.run(["nm", "-D", *options, module], capture_output=True, text=True, check=True).stdout
    return [line.split()[-1] for line in output.splitlines()]


@pytest.mark.skipif(sys.platform != "linux", reason="nm -D reads ELF files")
@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name.partition(".")[0])
def test_only_the_init_function_is_exported(module: Path) -> None:
    assert symbols(module, "--defined-only") == [f"PyInit_{module.name.partition('.')[0]}"]


@pytest.mark.skipif(sys.platform != "linux", reason="nm -D reads ELF files")
@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name.partition(".")[0])
def test_llama_cpp_is_reached_through_the_table_only(module: Path) -> None:
    wanted = [name for name in symbols(module, "--undefined-only") if name.startswith(PREFIXES[:3])]
    assert wanted == []


@pytest.mark.skipif(sys.platform != "linux", reason="ldd reads ELF files")
def test_no_openmp_and_no_shared_llama_cpp() -> None:
    for module in MODULES:
        libraries = subprocess.run(["ldd", module], capture_output=True, text=True, check=True).stdout
        assert not any(name in libraries for name in ("gomp", "libomp", "libllama", "libggml")), libraries


def test_every_module_of_the_build_is_installed() -> None:
    built = {path.name.partition(".")[0] for path in MODULES}
    assert built == {path.stem for path in PACKAGE.glob("*.pyx")}


def test_the_build_is_named() -> None:
    version = llama_cy.version()
    assert len(version.llama_cpp) == 40
    assert "GGML_OPENMP=OFF" in version.build_options
    assert "CPU" in version.system_info
