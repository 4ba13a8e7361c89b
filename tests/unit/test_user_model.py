"""Models of metadata and a function that gives the weights."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGUFReader, GGUFValueType
from support.encoder_models import write_t5

import llama_cy

Shape = tuple[int, ...]
TYPES = {
    GGUFValueType.UINT32: np.uint32,
    GGUFValueType.INT32: np.int32,
    GGUFValueType.FLOAT32: np.float32,
    GGUFValueType.UINT16: np.uint16,
}


class Source:
    """The metadata and the weights of a file, and which of them were asked for."""

    def __init__(self, path: Path) -> None:
        reader = GGUFReader(path)
        self.metadata: dict[str, Any] = {}
        for name, field in reader.fields.items():
            if not name.startswith("GGUF."):
                value, kind = field.contents(), TYPES.get(field.types[-1])
                self.metadata[name] = value if kind is None else np.array(value, kind)[()]
        self.weights = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
        self.asked: dict[str, llama_cy.GGMLType] = {}

    def __call__(self, name: str, shape: Shape, kind: llama_cy.GGMLType) -> npt.NDArray[Any] | None:
        self.asked[name] = kind
        return self.weights.get(name)


@pytest.fixture
def source(tiny_path: Path) -> Source:
    return Source(tiny_path)


def row_of(model: llama_cy.Model) -> npt.NDArray[np.float32]:
    with model.context(n_ctx=64, n_threads=1) as context:
        context.decode([1, 5, 7])
        return context.logits()


def test_a_model_from_user_computes_what_the_file_does(tiny: llama_cy.Model, source: Source) -> None:
    with llama_cy.Model.init_from_user(source.metadata, source) as model:
        assert source.asked.keys() >= source.weights.keys()
        assert (model.path, model.n_layer, model.vocab.n_tokens) == ("", tiny.n_layer, tiny.vocab.n_tokens)
        assert np.array_equal(row_of(model), row_of(tiny))


@pytest.mark.parametrize(("kind", "error"), [("f16", 0.01), ("bf16", 0.05), ("q8_0", 0.05), ("q4_0", 0.6)])
def test_types(tiny: llama_cy.Model, source: Source, kind: str, error: float) -> None:
    types: dict[str, llama_cy.GGMLType | str] = {
        "blk.0.attn_q.weight": kind,
        "output.weight": llama_cy.GGMLType[kind.upper()],
    }
    with llama_cy.Model.init_from_user(source.metadata, source, types=types) as model:
        assert {source.asked[name] for name in types} == {llama_cy.GGMLType[kind.upper()]}
        assert source.asked["token_embd.weight"] is llama_cy.GGMLType.F32
        rows = row_of(model), row_of(tiny)
    assert 0 < np.abs(rows[0] - rows[1]).max() < error * np.abs(rows[1]).max()


def test_none_is_what_a_file_may_leave_out(source: Source) -> None:
    with llama_cy.Model.init_from_user(source.metadata, lambda name, shape, kind: None) as model:
        assert not row_of(model).any()


def test_a_t5_from_user(tmp_path: Path) -> None:
    path = write_t5(tmp_path / "t5.gguf")
    source = Source(path)

    def row(model: llama_cy.Model) -> npt.NDArray[np.float32]:
        with model.context(n_ctx=64, n_threads=1) as context:
            context.encode([5, 6, 7])
            context.decode([model.decoder_start_token or 0])
            return context.logits()

    with llama_cy.Model(path) as model, llama_cy.Model.init_from_user(source.metadata, source) as from_user:
        assert np.array_equal(row(from_user), row(model))


def test_vocabulary_only(tiny: llama_cy.Model, source: Source) -> None:
    with llama_cy.Model.init_from_user(source.metadata, source, vocab_only=True) as model:
        assert model.vocab.tokenize("Hello") == tiny.vocab.tokenize("Hello")
        assert source.asked == {}


def test_what_it_raises_comes_out_with_its_traceback(source: Source) -> None:
    calls = []

    def give(name: str, shape: Shape, kind: llama_cy.GGMLType) -> None:
        calls.append(name)
        if len(calls) == 3:
            raise ArithmeticError(name)

    with pytest.raises(ArithmeticError) as caught:
        llama_cy.Model.init_from_user(source.metadata, give)
    assert len(calls) == 3
    assert "give" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


def wrong_shape(name: str, shape: Shape, kind: llama_cy.GGMLType) -> npt.NDArray[np.float32]:
    return np.zeros((*shape, 2), np.float32)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"set_tensor_data": wrong_shape}, ValueError, "is expected"),
        ({"set_tensor_data": lambda name, shape, kind: "text"}, ValueError, "could not convert string"),
        ({"set_tensor_data": None}, TypeError, "must be callable, not NoneType"),
        ({"metadata": []}, TypeError, "metadata must be a mapping, not list"),
        ({"metadata": {"general.architecture": object()}}, TypeError, "metadata must be bool"),
        ({"metadata": {}}, llama_cy.ModelLoadError, "cannot load the model '<metadata>'"),
        ({"metadata": {"general.architecture": "nonsense"}}, llama_cy.ModelLoadError, "<metadata>"),
        ({"types": ["a"]}, TypeError, "types must be a mapping"),
        ({"types": {"x": "q9"}}, ValueError, "types['x'] is 'q9'"),
        ({"types": {"x" * 64: "f16"}}, ValueError, "is 64 bytes; 1 to 63"),
        ({"types": {3: "f16"}}, TypeError, "must be str, not int"),
        ({"types": {"output.weight": "q8_1"}}, ValueError, "which nothing multiplies with"),
        ({"types": {"output.weight": "iq2_xxs"}}, ValueError, "iq2_xxs"),
        ({"types": {"output_norm.weight": "f16"}}, ValueError, "f32 is expected"),
        ({"nonsense": 1}, TypeError, "nonsense"),
    ],
)
def test_refuses(source: Source, change: dict[str, Any], error: type[Exception], text: str) -> None:
    arguments: dict[str, Any] = {"metadata": source.metadata, "set_tensor_data": source} | change
    with pytest.raises(error, match=re.escape(text)):
        llama_cy.Model.init_from_user(**arguments)


@pytest.mark.parametrize("key", ["llama.embedding_length", "llama.block_count", "llama.attention.head_count"])
def test_refuses_numbers_that_make_no_model(source: Source, key: str) -> None:
    with pytest.raises(llama_cy.ModelLoadError, match=re.escape(key)):
        llama_cy.Model.init_from_user(source.metadata | {key: 0}, source)
