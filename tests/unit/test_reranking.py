"""A rank head's scores are those of the pair as the model was trained to see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.encoder_models import write_bert
from support.precision import assert_near

import llama_cy
from llama_cy.reranking import sequences

QUERY = "the cat"
DOCUMENTS = ["hello world", "the cat runs", "once upon a time", "a dog", "the house"]
EXACT: dict[str, Any] = {"n_threads": 1, "flash_attn_type": "disabled"}
TEMPLATE = "[CLS] {query} runs {document} [SEP]"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[llama_cy.Model]:
    with llama_cy.Model(write_bert(tmp_path_factory.mktemp("model") / "bert.gguf", labels=[])) as loaded:
        yield loaded


def score(model: llama_cy.Model, tokens: list[int]) -> npt.NDArray[np.float32]:
    with model.context(n_ctx=128, embeddings=True, pooling_type="rank", **EXACT) as context:
        context.decode(tokens)
        return context.embeddings_seq(0)


class TestScores:
    def test_of_the_pair(self, model: llama_cy.Model) -> None:
        vocab = model.vocab
        ranking = model.rerank(QUERY, DOCUMENTS, **EXACT)
        assert ranking.outputs.shape == (5, 1)
        assert ranking.outputs.dtype == np.float32
        assert ranking.labels == (None,)
        assert len(ranking) == 5
        want = []
        for document in DOCUMENTS:
            # [CLS] query [SEP] document [SEP]
            tokens = [2, *vocab.tokenize(QUERY, add_special=False), 3, *vocab.tokenize(document, add_special=False), 3]
            want.append(score(model, tokens)[0])
        assert_near(ranking.scores, np.array(want), rtol=1e-4, atol=1e-5)
        assert len(set(ranking.scores.tolist())) == 5

    def test_order(self, model: llama_cy.Model) -> None:
        ranking = model.rerank(QUERY, [*DOCUMENTS, DOCUMENTS[0]], **EXACT)
        scores = ranking.scores[ranking.order]
        assert sorted(ranking.order) == list(range(6))
        assert (np.diff(scores) <= 0).all()

    def test_one_by_one(self, model: llama_cy.Model) -> None:
        ranking = model.rerank(QUERY, DOCUMENTS, **EXACT)
        alone = [model.rerank(QUERY, [document], **EXACT).scores[0] for document in DOCUMENTS]
        assert_near(np.array(alone), ranking.scores, rtol=1e-4, atol=1e-5)

    def test_labels(self, tmp_path: Path) -> None:
        with llama_cy.Model(write_bert(tmp_path / "bert.gguf", labels=["yes", "no", "perhaps"])) as model:
            ranking = model.rerank(QUERY, DOCUMENTS, **EXACT)
            assert ranking.labels == ("yes", "no", "perhaps")
            assert ranking.outputs.shape == (5, 3)
            assert np.array_equal(ranking.scores, ranking.outputs[:, 0])
            tokens = sequences(model, QUERY, DOCUMENTS, 128, False)
            assert_near(ranking.outputs[4], score(model, tokens[4]), rtol=1e-4, atol=1e-5)

    def test_nothing_to_rank(self, model: llama_cy.Model) -> None:
        ranking = model.rerank(QUERY, [])
        assert ranking.outputs.shape == (0, 1)
        assert ranking.order == []

    def test_kept_ready(self, model: llama_cy.Model) -> None:
        with llama_cy.Reranker(model, n_ctx=64, n_seq_max=2, **EXACT) as reranker:
            assert reranker
            assert repr(reranker) == f"<Reranker of {model!r}>"
            first = reranker.rerank(QUERY, DOCUMENTS).scores
            reranker.rerank("hello", DOCUMENTS)
            assert np.array_equal(reranker.rerank(QUERY.encode(), DOCUMENTS).scores, first)
        assert reranker.closed
        assert not reranker
        assert repr(reranker) == "<Reranker, closed>"
        with pytest.raises(llama_cy.ClosedError):
            reranker.rerank(QUERY, DOCUMENTS)


class TestTokens:
    def test_template(self, tmp_path: Path) -> None:
        metadata: dict[str, Any] = {"tokenizer.chat_template.rerank": TEMPLATE, "tokenizer.chat_template": "x"}
        path = write_bert(tmp_path / "bert.gguf", labels=[], metadata=metadata)
        with llama_cy.Model(path) as model:
            vocab = model.vocab
            middle = vocab.tokenize("the cat runs a dog", add_special=False)
            assert sequences(model, QUERY, ["a dog"], 128, False) == [[2, *middle, 3]]
            # A document that spells out a token of control does not end the text early.
            (tokens,) = sequences(model, QUERY, ["a [SEP] dog"], 128, False)
            assert tokens.count(3) == 1
            assert model.rerank(QUERY, DOCUMENTS, **EXACT).scores.shape == (5,)

    def test_template_without_a_document(self, tmp_path: Path) -> None:
        metadata: dict[str, Any] = {"tokenizer.chat_template.rerank": "{query} only", "tokenizer.chat_template": "x"}
        path = write_bert(tmp_path / "bert.gguf", labels=[], metadata=metadata)
        with llama_cy.Model(path) as model, pytest.raises(llama_cy.ContextError, match="not understood"):
            model.rerank("a [SEP]", ["b"])

    def test_too_long(self, model: llama_cy.Model) -> None:
        long = "hello " * 300
        with pytest.raises(ValueError, match=r"with document 1 has 305 tokens, out of range \[1, 128\]; truncate=True"):
            model.rerank(QUERY, ["a", long])
        (tokens,) = sequences(model, QUERY, [long], 128, True)
        assert len(tokens) == 128
        assert tokens[-1] == 3
        assert model.rerank(QUERY, ["a", long], truncate=True).scores.shape == (2,)
        with pytest.raises(ValueError, match="with document 0 has"):
            model.rerank(long, ["a"], truncate=True)

    def test_bad_input(self, model: llama_cy.Model) -> None:
        with pytest.raises(TypeError, match="query must be str"):
            model.rerank(5, ["a"])  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="document 1 must be str"):
            model.rerank("a", ["a", 5])  # type: ignore[list-item]
        with pytest.raises(TypeError, match="documents must be an iterable"):
            model.rerank("a", "b")


def test_no_head(tmp_path: Path, tiny: llama_cy.Model) -> None:
    """Without a head llama.cpp would give other numbers for scores, and no error."""
    with pytest.raises(llama_cy.ContextError, match="no rank head"):
        tiny.rerank(QUERY, DOCUMENTS)
    with (
        llama_cy.Model(write_bert(tmp_path / "bert.gguf")) as model,
        pytest.raises(llama_cy.ContextError, match="no rank head"),
    ):
        model.rerank(QUERY, DOCUMENTS)
