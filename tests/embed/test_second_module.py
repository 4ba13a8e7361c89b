"""Another Cython module, compiled against the installed headers, calls llama.cpp through the table."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from support.extension import build_extension, import_extension

import llama_cy

HERE = Path(__file__).parent


# By the rules of 2 a cimport in a package looks there first: llama_cy.llama and llama are not mixed up.
@pytest.fixture(scope="module", params=[2, 3], ids="language_level={}".format)
def second(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Build the downstream module in a folder of its own and import it."""
    folder = tmp_path_factory.mktemp("second")
    return import_extension(build_extension(HERE / "second_module.pyx", folder, level=request.param))


def test_it_loads_a_model(second: ModuleType, tiny: llama_cy.Model, tiny_path: Path) -> None:
    assert second.n_tokens(str(tiny_path)) == len(tiny.vocab)


def test_the_mirror_has_a_name_in_the_package(second: ModuleType, tiny: llama_cy.Model, tiny_path: Path) -> None:
    assert second.vocab_type(str(tiny_path)) == tiny.vocab.type


def test_our_classes_are_taken(second: ModuleType, tiny: llama_cy.Model) -> None:
    with tiny.context(n_ctx=32) as context:
        assert second.is_open(context)
    with pytest.raises(TypeError):
        second.is_open(tiny)


def test_a_cpp_exception_crosses_the_modules(second: ModuleType, tiny: llama_cy.Model, tiny_path: Path) -> None:
    assert second.piece(str(tiny_path), 5) == tiny.vocab.token_to_piece(5, special=True)
    with pytest.raises(IndexError):
        second.piece(str(tiny_path), len(tiny.vocab) + 1000)
