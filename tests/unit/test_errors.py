"""The exceptions are one tree, each is also the built-in that fits, and they tell what C said."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import llama_cy
from llama_cy import errors

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.LlamaError)]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_one_tree(cls: type[llama_cy.LlamaError]) -> None:
    error = cls("it failed", code=-3, log=["line one", "line two"])
    assert isinstance(error, (llama_cy.LlamaError, RuntimeError))
    assert (error.code, error.log) == (-3, ("line one", "line two"))
    assert str(error) == "it failed\n  line one\n  line two"
    assert (cls().code, cls().log, str(cls("alone"))) == (None, (), "alone")


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_they_travel_between_processes(cls: type[llama_cy.LlamaError]) -> None:
    error = pickle.loads(pickle.dumps(cls("it failed", code=1, log=["line"])))
    assert type(error) is cls
    assert (str(error), error.code, error.log) == ("it failed\n  line", 1, ("line",))


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (llama_cy.ModelLoadError, OSError),
        (llama_cy.InvalidBatchError, ValueError),
        (llama_cy.GrammarError, ValueError),
        (llama_cy.StateError, ValueError),
        (llama_cy.ClosedError, ValueError),
        (llama_cy.KVCacheFullError, llama_cy.DecodeError),
        (llama_cy.DecodeAborted, llama_cy.DecodeError),
        (llama_cy.InvalidBatchError, llama_cy.DecodeError),
    ],
)
def test_parents(cls: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(cls, builtin)


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.gguf"
    with pytest.raises(OSError, match=r"nowhere\.gguf") as caught:
        llama_cy.Model(path)
    assert isinstance(caught.value, llama_cy.ModelLoadError)
    assert caught.value.errno == 2
    assert caught.value.filename == str(path)
