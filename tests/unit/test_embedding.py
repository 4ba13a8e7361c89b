"""Texts become vectors: of the right shape, by the right pooling, in one decode the same as one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import PoolingType
from support.encoder_models import write_bert, write_t5
from support.gemma_models import write_gemma3, write_gemma_embedding
from support.llama_models import write_llama
from support.precision import assert_near
from support.recurrent_models import write_jamba, write_mamba

import llama_cy

TEXTS = ["hello world", "the cat runs", "once upon a time the dog and the house", "a", "hello world"]
EXACT: dict[str, Any] = {"n_threads": 1, "type_k": "f32", "type_v": "f32", "flash_attn_type": "disabled"}
WRITERS: dict[str, Callable[[Path], Path]] = {
    "bert": write_bert,
    "gemma-embedding": write_gemma_embedding,
    "t5": write_t5,
    "llama": write_llama,
    "gemma3": write_gemma3,
    "mamba": write_mamba,
    "jamba": write_jamba,
}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Iterator[llama_cy.Model]:
    with llama_cy.Model(write_bert(tmp_path_factory.mktemp("model") / "bert.gguf")) as model:
        yield model


@pytest.fixture
def embedder(bert: llama_cy.Model) -> Iterator[llama_cy.Embedder]:
    with llama_cy.Embedder(bert, **EXACT) as opened:
        yield opened


@pytest.fixture(scope="module", params=WRITERS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[llama_cy.Model]:
    path = tmp_path_factory.mktemp("model") / f"{request.param}.gguf"
    WRITERS[request.param](path)
    with llama_cy.Model(path) as loaded:
        yield loaded


@pytest.mark.parametrize("pooling_type", ["mean", "cls", "last", "none"])
def test_pooling(model: llama_cy.Model, pooling_type: str) -> None:
    """Hold the pooled vectors against those of the tokens, each text computed alone."""
    vectors = model.embed(TEXTS, pooling_type=pooling_type, normalize=None, **EXACT)
    assert len(vectors) == len(TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        tokens = model.vocab.tokenize(text)
        rows = model.embed(text, pooling_type="none", normalize=None, **EXACT)
        assert rows.shape == (len(tokens), model.n_embd_out)
        expected = {"mean": rows.mean(axis=0), "cls": rows[0], "last": rows[-1], "none": rows}[pooling_type]
        assert vector.dtype == np.float32
        kind = "recurrent" if model.is_recurrent or model.is_hybrid else "attention"
        # 0.0007 was seen where the CPU has other kernels for more rows.
        assert_near(vector, expected, rtol=1e-3, atol=1e-3, kind=kind)
    # A decoder's first token is the same in each text, and sees nothing else.
    assert pooling_type == "cls" or np.abs(vectors[0][-1] - vectors[1][-1]).max() > 0.01


class TestResult:
    def test_shapes(self, bert: llama_cy.Model) -> None:
        width = bert.n_embd_out
        assert bert.embed(TEXTS).shape == (5, width)
        assert bert.embed(TEXTS[:1]).shape == (1, width)
        assert bert.embed([]).shape == (0, width)
        assert bert.embed("hello").shape == (width,)
        assert bert.embed("hello").dtype == np.float32

    def test_inputs(self, bert: llama_cy.Model) -> None:
        tokens = bert.vocab.tokenize("hello world")
        expected = bert.embed("hello world", **EXACT)
        for same in (b"hello world", tokens, np.array(tokens, np.int32), tuple(tokens)):
            assert np.array_equal(bert.embed(same, **EXACT), expected)
        both = bert.embed(["hello world", tokens], **EXACT)
        assert_near(both, np.stack([expected, expected]), rtol=1e-5, atol=1e-6)
        assert np.array_equal(bert.embed(iter(["hello world"]), **EXACT)[0], expected)

    @pytest.mark.parametrize("normalize", [True, "l2"])
    def test_length_one(self, bert: llama_cy.Model, normalize: Any) -> None:
        vectors = bert.embed(TEXTS, normalize=normalize, **EXACT)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
        plain = bert.embed(TEXTS, normalize=None, **EXACT)
        assert_near(vectors, plain / np.linalg.norm(plain, axis=1, keepdims=True), rtol=1e-4, atol=1e-6)
        assert np.linalg.norm(plain, axis=1).max() > 2

    @pytest.mark.parametrize(("own", "expected"), [(PoolingType.CLS, "CLS"), (PoolingType.MEAN, "MEAN")])
    def test_pooling_of_the_model(self, tmp_path: Path, own: PoolingType, expected: str) -> None:
        path = write_bert(tmp_path / "bert.gguf", pooling_type=own)
        with llama_cy.Model(path) as model, llama_cy.Embedder(model, n_ctx=16) as embedder:
            assert embedder.pooling_type is llama_cy.PoolingType[expected]
            assert repr(embedder) == f"<Embedder of {model!r}, pooling {expected.lower()}>"

    def test_mean_where_the_model_says_nothing(self, tiny: llama_cy.Model) -> None:
        with llama_cy.Embedder(tiny, n_ctx=16) as embedder:
            assert embedder.pooling_type is llama_cy.PoolingType.MEAN


class TestLength:
    LONG = "hello " * 300

    def test_too_long(self, bert: llama_cy.Model) -> None:
        with pytest.raises(ValueError, match=r"input 1 has 302 tokens, out of range \[1, 128\]; truncate=True"):
            bert.embed(["a", self.LONG])
        with (
            llama_cy.Embedder(bert, n_ctx=10) as embedder,
            pytest.raises(ValueError, match=r"the input has 302 tokens, out of range \[1, 10\]"),
        ):
            embedder.embed(self.LONG)

    def test_truncated_text_still_ends(self, bert: llama_cy.Model) -> None:
        tokens = bert.vocab.tokenize(self.LONG)
        cut = bert.embed([self.LONG], truncate=True, **EXACT)
        assert np.array_equal(cut, bert.embed([tokens[:127] + tokens[-1:]], **EXACT))
        assert not np.array_equal(cut, bert.embed([tokens[:128]], **EXACT))

    def test_nothing(self, bert: llama_cy.Model) -> None:
        with pytest.raises(ValueError, match="input 1 has no tokens"):
            bert.embed([[1, 2], []])

    def test_longest(self, bert: llama_cy.Model) -> None:
        assert bert.embed([[5] * 128] * 9).shape == (9, bert.n_embd_out)


class TestBadInput:
    @pytest.mark.parametrize(
        ("inputs", "error", "text"),
        [
            (5, TypeError, "inputs must be a text"),
            (None, TypeError, "inputs must be a text"),
            ([None], TypeError, "input must be text or tokens"),
            ([[10**9]], ValueError, "token is 1000000000"),
            ([[-1]], ValueError, "token is -1"),
            ([["a"]], TypeError, "token must be an integer"),
        ],
    )
    def test_inputs(self, bert: llama_cy.Model, inputs: Any, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            bert.embed(inputs)

    def test_normalize(self, bert: llama_cy.Model) -> None:
        with pytest.raises(ValueError, match="normalize is 'l3'"):
            bert.embed("a", normalize="l3")  # type: ignore[arg-type]

    def test_rank(self, bert: llama_cy.Model) -> None:
        with pytest.raises(llama_cy.ContextError, match="use rerank"):
            bert.embed("a", pooling_type="rank")

    def test_pooling_type(self, bert: llama_cy.Model) -> None:
        with pytest.raises(ValueError, match="pooling_type is 'median'"):
            bert.embed("a", pooling_type="median")


class TestEmbedder:
    def test_forgets(self, tiny: llama_cy.Model) -> None:
        with llama_cy.Embedder(tiny, n_ctx=32, **EXACT) as embedder:
            first = embedder.embed(TEXTS)
            embedder.embed(TEXTS[::-1])
            assert np.array_equal(embedder.embed(TEXTS), first)

    @pytest.mark.parametrize("n_seq_max", [1, 2, 3, 16])
    def test_groups(self, bert: llama_cy.Model, n_seq_max: int) -> None:
        expected = bert.embed(TEXTS, **EXACT)
        with llama_cy.Embedder(bert, n_ctx=24, n_batch=24, n_seq_max=n_seq_max, **EXACT) as embedder:
            assert_near(embedder.embed(TEXTS), expected, rtol=1e-4, atol=1e-5)

    def test_threads_take_turns(self, embedder: llama_cy.Embedder) -> None:
        expected = embedder.embed(TEXTS)
        wrong = []

        def work() -> None:
            for _ in range(5):
                if not np.array_equal(embedder.embed(TEXTS), expected):
                    wrong.append(1)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    def test_closed(self, embedder: llama_cy.Embedder) -> None:
        assert embedder
        embedder.close()
        embedder.close()
        assert not embedder
        assert embedder.closed
        assert repr(embedder) == "<Embedder, closed>"
        with pytest.raises(llama_cy.ClosedError):
            embedder.embed("a")

    def test_closed_model(self, tmp_path: Path) -> None:
        model = llama_cy.Model(write_bert(tmp_path / "bert.gguf"))
        model.close()
        with pytest.raises(llama_cy.ClosedError):
            model.embed("a")
        with pytest.raises(llama_cy.ClosedError):
            model.rerank("a", ["b"])
