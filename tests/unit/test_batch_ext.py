"""An extended batch computes what a batch does, takes embeddings for tokens, and refuses what llama.cpp gets wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from support.encoder_models import write_t5
from support.precision import agree, assert_near

import llama_cy

PROMPT = [5, 9, 17, 33, 65]
EXACT: dict[str, Any] = {"n_threads": 1, "type_k": "f32", "type_v": "f32", "flash_attn_type": "disabled"}


@pytest.fixture
def context(tiny: llama_cy.Model) -> Iterator[llama_cy.Context]:
    with tiny.context(n_ctx=64, n_seq_max=2, kv_unified=True, **EXACT) as opened:
        yield opened


@pytest.fixture
def batch(context: llama_cy.Context) -> Iterator[llama_cy.BatchExt]:
    opened = llama_cy.BatchExt(context)
    yield opened
    opened.close()


@pytest.fixture
def rows(tiny_path: Path) -> Any:
    tensors = {tensor.name: tensor.data for tensor in GGUFReader(tiny_path).tensors}
    return np.array(tensors["token_embd.weight"])[PROMPT]


def fill(batch: llama_cy.BatchExt, tokens: list[int], seq_id: int = 0) -> None:
    for pos, token in enumerate(tokens):
        i = batch.add_token(seq_id, token)
        batch.set_pos(i, pos)
        batch.set_output_logits(i, True)


class TestSameAsBatch:
    def test_sequences(self, context: llama_cy.Context, batch: llama_cy.BatchExt) -> None:
        old = llama_cy.Batch(16)
        for seq_id, tokens in enumerate((PROMPT, PROMPT[::-1])):
            fill(batch, tokens, seq_id)
            for pos, token in enumerate(tokens):
                old.add(token, pos, (seq_id,), logits=True)
        context.decode(old)
        expected = context.logits_all()
        context.memory.clear()
        context.process(batch)
        assert agree(context.logits_all(), expected)
        assert len(expected) == 10

    def test_shared_tokens(self, context: llama_cy.Context, batch: llama_cy.BatchExt) -> None:
        fill(batch, PROMPT)
        for i in range(5):
            batch.add_seq(i, 1)
        context.process(batch)
        assert [context.memory.seq_pos_max(seq_id) for seq_id in (0, 1)] == [4, 4]

    def test_outputs(self, context: llama_cy.Context, batch: llama_cy.BatchExt) -> None:
        fill(batch, PROMPT)
        for i in (0, 2):
            batch.set_output_logits(i, False)
        batch.set_output_embd(3, False)
        context.process(batch)
        assert len(context.logits_all()) == 2
        context.logits(1)
        with pytest.raises(ValueError, match="row 3 has no logits"):
            context.logits(3)
        batch.set_output_embd(3, True)
        context.memory.clear()
        context.process(batch)
        context.logits(3)

    def test_clear(self, context: llama_cy.Context, batch: llama_cy.BatchExt) -> None:
        fill(batch, PROMPT[::-1])
        batch.clear()
        assert len(batch) == 0
        fill(batch, PROMPT)
        context.process(batch)
        found = context.logits()
        context.memory.clear()
        context.decode(PROMPT)
        assert_near(found, context.logits(), rtol=1e-4, atol=1e-4)

    def test_encode(self, tmp_path: Path) -> None:
        with llama_cy.Model(write_t5(tmp_path / "t5.gguf")) as model, model.context(n_ctx=64, **EXACT) as context:
            context.encode(PROMPT)
            expected = context.embeddings_all()
            batch = llama_cy.BatchExt(context)
            fill(batch, PROMPT)
            context.process(batch, "encode")
            assert agree(context.embeddings_all(), expected)


class TestEmbeddings:
    def test_rows_of_tokens(self, context: llama_cy.Context, batch: llama_cy.BatchExt, rows: Any) -> None:
        for pos, row in enumerate(rows):
            batch.set_pos(batch.add_embd(0, row), pos)
        batch.set_output_logits(4, True)
        context.process(batch)
        found = context.logits()
        context.memory.clear()
        context.decode(PROMPT)
        assert_near(found, context.logits(), rtol=1e-5, atol=1e-5)

    def test_given_later(self, context: llama_cy.Context, batch: llama_cy.BatchExt, rows: Any) -> None:
        for pos in range(5):
            batch.set_pos(batch.add(0), pos)
        with pytest.raises(ValueError, match="i is 1; the next entry to get an embedding is 0"):
            batch.set_embd_token(1, rows[1])
        for i in range(5):
            batch.set_embd_token(i, rows[i])
        batch.set_output_logits(4, True)
        context.process(batch)
        found = context.logits()
        context.memory.clear()
        context.decode(PROMPT)
        assert_near(found, context.logits(), rtol=1e-5, atol=1e-5)

    def test_refused(self, context: llama_cy.Context, batch: llama_cy.BatchExt, rows: Any) -> None:
        for bad in (rows[0][:-1], np.zeros(0), rows, np.array(["a"] * 64)):
            with pytest.raises(ValueError, match="embedding"):
                batch.add_embd(0, bad)
        assert len(batch) == 0
        batch.add_embd(0, rows[0])
        with pytest.raises(ValueError, match="63 numbers, and those before it have 64"):
            batch.add_embd(0, rows[0][:-1])
        with pytest.raises(llama_cy.ContextError, match="takes no state"):
            batch.set_embd_state(0, rows[0])
        batch.add(0)
        with pytest.raises(ValueError, match="entry 1 has no embedding yet"):
            batch.add_embd(0, rows[0])

    def test_mixed(self, context: llama_cy.Context, batch: llama_cy.BatchExt, rows: Any) -> None:
        batch.set_pos(batch.add_embd(0, rows[0]), 0)
        batch.set_pos(batch.add_token(0, 5), 1)
        with pytest.raises(llama_cy.InvalidBatchError, match="1 of 2 entries have a token and 1 an embedding"):
            context.process(batch)
        batch.clear()
        batch.set_pos(batch.add_token(0, 5), 0)
        batch.set_embd_token(0, rows[0])
        with pytest.raises(llama_cy.InvalidBatchError, match="ctx_type='mtp'"):
            context.process(batch)


class TestRefused:
    def test_values(self, batch: llama_cy.BatchExt) -> None:
        for call, text in (
            (lambda: batch.add_token(0, -1), "token is -1"),
            (lambda: batch.add_token(0, 10**9), "token is 1000000000"),
            (lambda: batch.add_token(2, 1), "seq_id is 2"),
            (lambda: batch.add(-1), "seq_id is -1"),
            (lambda: batch.set_pos(0, 0), r"i is 0, which is out of range \[0, 0\)"),
        ):
            with pytest.raises(ValueError, match=text):
                call()
        batch.add_token(0, 1)
        for pos, text in ((-1, "pos is -1"), ([1, 2], "pos has 2 positions"), ([], "pos has 0 positions")):
            with pytest.raises(ValueError, match=text):
                batch.set_pos(0, pos)
        with pytest.raises(TypeError, match="value must be a bool"):
            batch.set_output_logits(0, "yes")  # type: ignore[arg-type]

    def test_full(self, batch: llama_cy.BatchExt) -> None:
        for _ in range(batch.n_tokens_max):
            batch.add_token(0, 1)
        assert len(batch) == batch.n_tokens_max
        with pytest.raises(ValueError, match="the batch is full"):
            batch.add_token(0, 1)

    def test_without_a_position(self, context: llama_cy.Context, batch: llama_cy.BatchExt) -> None:
        batch.add_token(0, 1)
        with pytest.raises(llama_cy.InvalidBatchError, match="entry 0 has no position"):
            context.process(batch)

    def test_empty(self, context: llama_cy.Context, batch: llama_cy.BatchExt) -> None:
        with pytest.raises(llama_cy.InvalidBatchError, match="empty"):
            context.process(batch)

    def test_of_another_context(self, tiny: llama_cy.Model, batch: llama_cy.BatchExt) -> None:
        fill(batch, PROMPT)
        with tiny.context(n_ctx=64) as other, pytest.raises(ValueError, match="another context"):
            other.process(batch)

    def test_nothing_to_encode_with(self, context: llama_cy.Context, batch: llama_cy.BatchExt) -> None:
        with pytest.raises(llama_cy.ContextError, match="no encoder"):
            context.process(batch, "encode")


class TestClose:
    def test_outlives_its_context(self, tiny: llama_cy.Model) -> None:
        context = tiny.context(n_ctx=64)
        batch = llama_cy.BatchExt(context)
        assert repr(batch) == f"<BatchExt of 0 entries, room for {context.n_batch}>"
        context.close()
        batch.add_token(0, 1)
        before = llama_cy.live_objects()
        batch.close()
        batch.close()
        assert sum(before.values()) == sum(llama_cy.live_objects().values()) + 1
        assert not batch
        assert batch.closed
        assert repr(batch) == "<BatchExt, closed>"
        with pytest.raises(llama_cy.ClosedError):
            batch.add_token(0, 1)
