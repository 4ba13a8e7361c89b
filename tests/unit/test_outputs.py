"""Logits and embeddings are those of the rows that were asked for, and what was not computed is never shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.encoder_models import write_bert, write_t5
from support.precision import assert_near

import llama_cy

PROMPT = [5, 9, 17, 33, 65]
EXACT: dict[str, Any] = {"n_threads": 1, "type_k": "f32", "type_v": "f32", "flash_attn_type": "disabled"}


@pytest.fixture
def context(tiny: llama_cy.Model) -> Iterator[llama_cy.Context]:
    with tiny.context(n_ctx=64, n_seq_max=2, **EXACT) as opened:
        yield opened


@pytest.fixture
def embedding(tiny: llama_cy.Model) -> Iterator[llama_cy.Context]:
    with tiny.context(n_ctx=64, embeddings=True, pooling_type="none", **EXACT) as opened:
        yield opened


class TestAllLogits:
    def test_rows_are_in_the_order_of_the_batch(self, context: llama_cy.Context) -> None:
        batch = llama_cy.Batch(8)
        # Two memories are computed in another order than this.
        for i, (token, pos, seq_id) in enumerate([(5, 0, 1), (9, 0, 0), (17, 1, 1), (33, 1, 0), (65, 2, 0)]):
            batch.add(token, pos, (seq_id,), logits=i != 2)
        context.decode(batch)
        rows = context.logits_all()
        assert rows.shape == (4, context.n_vocab)
        assert rows.dtype == np.float32
        for row, i in zip(rows, (0, 1, 3, 4), strict=True):
            assert np.array_equal(row, context.logits(i))
        assert not np.array_equal(rows[0], rows[1])

    def test_plain_tokens_have_one_row(self, context: llama_cy.Context) -> None:
        context.decode(PROMPT)
        assert context.logits_all().shape == (1, context.n_vocab)
        assert np.array_equal(context.logits_all()[0], context.logits())

    def test_none_before_the_first_decode(self, context: llama_cy.Context) -> None:
        assert context.logits_all().shape == (0, context.n_vocab)

    def test_copy_stays(self, context: llama_cy.Context) -> None:
        context.decode(PROMPT)
        rows = context.logits_all()
        before = rows.copy()
        context.decode([7])
        assert np.array_equal(rows, before)
        assert not np.array_equal(rows, context.logits_all())

    def test_an_encoder_has_none(self, tmp_path: Path) -> None:
        path = write_bert(tmp_path / "bert.gguf")
        with llama_cy.Model(path) as model, model.context(n_ctx=64, embeddings=True) as context:
            context.encode(PROMPT)
            for read in (context.logits, context.logits_all, context.logits_view):
                with pytest.raises(ValueError, match="no logits"):
                    read()

    def test_nothing_is_left_of_what_was_cancelled(self, tiny: llama_cy.Model) -> None:
        context = tiny.context(n_ctx=64, eval_callback=lambda tensor: tensor.name != "l_out-1")
        with context:
            with pytest.raises(llama_cy.DecodeAborted):
                context.decode(PROMPT)
            with pytest.raises(ValueError, match="row -1 has no logits"):
                context.logits()
            assert len(context.logits_all()) == 0


class TestEmbeddings:
    def test_rows(self, embedding: llama_cy.Context, tiny: llama_cy.Model) -> None:
        embedding.decode(PROMPT)
        rows = embedding.embeddings_all()
        assert rows.shape == (5, tiny.n_embd_out)
        assert rows.dtype == np.float32
        for i in range(5):
            assert np.array_equal(rows[i], embedding.embeddings(i))
            assert np.array_equal(rows[i], embedding.embeddings(i - 5))
        assert len({row.tobytes() for row in rows}) == 5

    def test_logits_are_a_map_of_them(self, embedding: llama_cy.Context) -> None:
        embedding.decode(PROMPT)
        logits, rows = embedding.logits_all(), embedding.embeddings_all()
        embedding.memory.clear()
        embedding.decode(PROMPT[::-1])
        more_logits, more_rows = embedding.logits_all(), embedding.embeddings_all()
        # Ten rows in 64 dimensions: what maps these embeddings to their logits is a linear map.
        solution = np.linalg.lstsq(np.vstack([rows, more_rows]), np.vstack([logits, more_logits]), rcond=None)[0]
        assert_near(rows @ solution, logits, rtol=1e-3, atol=1e-3)

    def test_row_that_is_not_there(self, embedding: llama_cy.Context) -> None:
        with pytest.raises(ValueError, match="row -1 has no embedding"):
            embedding.embeddings()
        embedding.decode(PROMPT)
        for i in (5, -6, 2**31 - 1):
            with pytest.raises(ValueError, match=f"row {i} has no embedding"):
                embedding.embeddings(i)

    def test_not_asked_for(self, context: llama_cy.Context) -> None:
        context.decode(PROMPT)
        for read in (context.embeddings, context.embeddings_all):
            with pytest.raises(ValueError, match="embeddings=True"):
                read()

    @pytest.mark.parametrize("pooling_type", ["mean", "cls", "last"])
    def test_pooled(self, tiny: llama_cy.Model, embedding: llama_cy.Context, pooling_type: str) -> None:
        embedding.decode(PROMPT)
        rows = embedding.embeddings_all()
        expected = {"mean": rows.mean(axis=0), "cls": rows[0], "last": rows[-1]}[pooling_type]
        with tiny.context(n_ctx=64, embeddings=True, pooling_type=pooling_type, **EXACT) as context:
            context.decode(PROMPT)
            assert_near(context.embeddings_seq(0), expected, rtol=1e-4, atol=1e-4)
            # What a row would show is memory that nothing was written to.
            for read in (context.embeddings, context.embeddings_all):
                with pytest.raises(ValueError, match="pooled"):
                    read()

    def test_no_pooling(self, embedding: llama_cy.Context) -> None:
        embedding.decode(PROMPT)
        with pytest.raises(ValueError, match="no pooling"):
            embedding.embeddings_seq(0)

    def test_encoder_decoder(self, tmp_path: Path) -> None:
        with llama_cy.Model(write_t5(tmp_path / "t5.gguf")) as model, model.context(n_ctx=64) as context:
            context.encode(PROMPT)
            assert context.embeddings_all().shape == (5, model.n_embd_out)
            with pytest.raises(ValueError, match="no logits"):
                context.logits()
            assert model.decoder_start_token is not None
            context.decode([model.decoder_start_token])
            assert context.logits_all().shape == (1, context.n_vocab)
            with pytest.raises(ValueError, match="no embeddings"):
                context.embeddings()


class TestSetEmbeddings:
    def test_on_and_off(self, tiny: llama_cy.Model, embedding: llama_cy.Context) -> None:
        embedding.decode(PROMPT)
        with tiny.context(n_ctx=64, pooling_type="none", **EXACT) as context:
            context.set_embeddings(True)
            context.decode(PROMPT)
            assert np.array_equal(context.embeddings_all(), embedding.embeddings_all())
            context.set_embeddings(False)
            context.decode([7])
            with pytest.raises(ValueError, match="no embeddings"):
                context.embeddings()

    def test_what_llama_cpp_could_not_build(self, tiny: llama_cy.Model) -> None:
        with (
            tiny.context(n_ctx=64, n_ubatch=5, n_seq_max=2) as context,
            pytest.raises(llama_cy.ContextError, match="n_ubatch 5 is not a multiple of n_seq_max 2"),
        ):
            context.set_embeddings(True)
        with tiny.context(n_ctx=64, n_ubatch=8, n_outputs_max=4) as context:
            with pytest.raises(llama_cy.ContextError, match="n_ubatch 8 is more than n_outputs_max 4"):
                context.set_embeddings(True)
            context.set_embeddings(False)

    def test_bad_value(self, context: llama_cy.Context) -> None:
        with pytest.raises(TypeError, match="value must be a bool"):
            context.set_embeddings("yes")  # type: ignore[arg-type]


class TestCausalAttn:
    def test_every_token_sees_every_other(self, context: llama_cy.Context) -> None:
        def first_row(tokens: list[int]) -> npt.NDArray[np.float32]:
            batch = llama_cy.Batch(8)
            for pos, token in enumerate(tokens):
                batch.add(token, pos, logits=pos == 0)
            context.memory.clear()
            context.decode(batch)
            return context.logits(0)

        assert context.causal_attn
        for causal in (True, False, True):
            context.set_causal_attn(causal)
            assert context.causal_attn is causal
            rows = [first_row(tokens) for tokens in (PROMPT, [*PROMPT[:-1], 66])]
            assert np.array_equal(rows[0], rows[1]) is causal

    def test_same_as_the_parameter(self, tiny: llama_cy.Model, context: llama_cy.Context) -> None:
        with tiny.context(n_ctx=64, n_seq_max=2, attention_type="non_causal", **EXACT) as other:
            assert not other.causal_attn
            other.decode(PROMPT)
            context.set_causal_attn(False)
            context.decode(PROMPT)
            assert np.array_equal(context.logits(), other.logits())

    def test_prompt_must_fit_into_a_micro_batch(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64, n_ubatch=4) as context:
            context.decode(PROMPT)
            context.set_causal_attn(False)
            context.memory.clear()
            with pytest.raises(llama_cy.InvalidBatchError, match="n_ubatch"):
                context.decode(PROMPT)

    def test_nothing_computed_the_other_way_is_reused(self, context: llama_cy.Context) -> None:
        greedy = llama_cy.Sampler.greedy()
        context.complete(PROMPT, greedy, max_tokens=2)
        context.set_causal_attn(False)
        done = context.complete(PROMPT, greedy, max_tokens=2)
        assert done.reused == 0
        assert context.complete(PROMPT, greedy, max_tokens=2).reused == 0

    def test_bad_value(self, context: llama_cy.Context) -> None:
        with pytest.raises(TypeError, match="value must be a bool"):
            context.set_causal_attn("no")  # type: ignore[arg-type]
