"""Another Cython module, compiled against the installed headers, calls llama.cpp through the table."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from support.extension import build_extension, import_extension

import llama_cy

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Build the downstream module in a folder of its own and import it."""
    return import_extension(build_extension(HERE / "second_module.pyx", tmp_path_factory.mktemp("second")))


def test_it_loads_a_model(second: ModuleType, tiny: llama_cy.Model, tiny_path: Path) -> None:
    assert second.n_tokens(str(tiny_path)) == len(tiny.vocab)


def test_a_cpp_exception_crosses_the_modules(second: ModuleType, tiny: llama_cy.Model, tiny_path: Path) -> None:
    assert second.piece(str(tiny_path), 5) == tiny.vocab.token_to_piece(5, special=True)
    with pytest.raises(IndexError):
        second.piece(str(tiny_path), len(tiny.vocab) + 1000)
