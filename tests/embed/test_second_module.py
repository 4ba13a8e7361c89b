"""Another Cython module, compiled against the installed headers, calls llama.cpp through the table."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import llama_cy

HERE = Path(__file__).parent
BUILD = """
from Cython.Build import cythonize
from setuptools import Extension, setup
import llama_cy
extension = Extension("second_module", ["second_module.pyx"], include_dirs=[llama_cy.get_include()],
                      extra_compile_args=["-std=c++17", "-O0"])
setup(name="second", script_args=["-q", "build_ext", "--inplace"],
      ext_modules=cythonize([extension], include_path=[llama_cy.get_include()], language_level=3, quiet=True))
"""


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Build the downstream module in a folder of its own and import it."""
    folder = tmp_path_factory.mktemp("second")
    (folder / "second_module.pyx").write_text((HERE / "second_module.pyx").read_text())
    (folder / "build.py").write_text(BUILD)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "build.py"],
        cwd=folder, capture_output=True, text=True, check=False, env=os.environ | {"CFLAGS": "-Wno-unused-function"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (built,) = folder.glob("second_module.*.so")
    spec = importlib.util.spec_from_file_location("second_module", built)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_loads_a_model(second: ModuleType, tiny: llama_cy.Model, tiny_path: Path) -> None:
    assert second.n_tokens(str(tiny_path)) == len(tiny.vocab)


def test_a_cpp_exception_crosses_the_modules(second: ModuleType, tiny: llama_cy.Model, tiny_path: Path) -> None:
    assert second.piece(str(tiny_path), 5) == tiny.vocab.token_to_piece(5, special=True)
    with pytest.raises(IndexError):
        second.piece(str(tiny_path), len(tiny.vocab) + 1000)
