"""A context is as large as asked for, computes on the threads it is given, and shows its logits truly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.encoder_models import write_t5
from support.llama_models import write_llama
from support.precision import assert_near
from support.recurrent_models import write_mamba

import llama_cy
from llama_cy.threadpool import default_n_threads

PROMPT = [5, 9, 17, 33, 65]


@pytest.fixture
def context(tiny: llama_cy.Model) -> Iterator[llama_cy.Context]:
    with tiny.context(n_ctx=64, n_threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[llama_cy.Model]:
    """Give a model whose heads are as wide as a block of a quantized cache."""
    path = write_llama(tmp_path_factory.mktemp("wide") / "wide.gguf", n_embd=128, n_head=4, n_head_kv=2, n_layer=1)
    with llama_cy.Model(path) as model:
        yield model


class TestSize:
    def test_parameters_come_back(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=1024, n_batch=300, n_ubatch=100, n_seq_max=4) as context:
            sizes = (context.n_ctx, context.n_batch, context.n_ubatch, context.n_seq_max)
        assert sizes == (1024, 300, 100, 4)

    @pytest.mark.parametrize(("unified", "expected"), [(False, 256), (True, 1024)])
    def test_sequences_share_the_memory(self, tiny: llama_cy.Model, unified: bool, expected: int) -> None:
        with tiny.context(n_ctx=1024, n_seq_max=4, kv_unified=unified) as context:
            assert context.n_ctx_seq == expected

    def test_memory_is_rounded_up(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=100) as context:
            assert context.n_ctx == 256
            context.decode(PROMPT * 51)
            with pytest.raises(llama_cy.KVCacheFullError, match="2 tokens do not fit") as caught:
                context.decode([1, 2])
            assert (caught.value.needed, caught.value.available) == (2, 1)
            context.decode([1])

    def test_default_is_what_the_model_was_trained_with(self, tiny: llama_cy.Model) -> None:
        with tiny.context() as context:
            assert context.n_ctx == tiny.n_ctx_train

    def test_row_has_a_logit_for_each_token(self, context: llama_cy.Context) -> None:
        assert context.n_vocab == len(context.vocab)
        context.decode(PROMPT)
        assert context.logits().shape == (context.n_vocab,)

    @pytest.mark.parametrize("n_ubatch", [1, 2, 5])
    def test_steps_change_nothing_but_rounding(self, tiny: llama_cy.Model, n_ubatch: int) -> None:
        rows = []
        for size in (n_ubatch, 512):
            with tiny.context(n_ctx=64, n_batch=512, n_ubatch=size, n_threads=1) as context:
                context.decode(PROMPT)
                rows.append(context.logits())
        assert_near(rows[0], rows[1], rtol=1e-3, atol=2e-2)


def uses_flash_attention(model: llama_cy.Model, **params: Any) -> bool:
    """Tell whether flash attention is among what a decode computes."""
    operations: list[str] = []
    context = model.context(n_threads=1, eval_callback=lambda tensor: operations.append(tensor.op), **params)
    with context:
        context.decode([1, 2])
    return "FLASH_ATTN_EXT" in operations


@pytest.mark.cpu
class TestAttention:
    """What a CPU computes with, unless somebody says."""

    @pytest.mark.parametrize(
        ("params", "flash"),
        [
            ({}, False),
            ({"n_seq_max": 4}, False),
            ({"flash_attn_type": None}, False),
            ({"flash_attn_type": "enabled"}, True),
            ({"flash_attn_type": "disabled"}, False),
            ({"flash_attn_type": "auto"}, True),
            ({"embeddings": True}, True),
            ({"type_k": "q8_0", "type_v": "q8_0"}, True),
            ({"type_k": "q8_0"}, False),
        ],
    )
    def test_choice(self, wide: llama_cy.Model, params: dict[str, Any], flash: bool) -> None:
        assert uses_flash_attention(wide, n_ctx=64, **params) is flash

    def test_scores_that_would_fill_the_memory(self, wide: llama_cy.Model) -> None:
        sizes: dict[str, Any] = {"n_ctx": 2**16, "n_batch": 2048, "n_ubatch": 2048}
        assert uses_flash_attention(wide, **sizes)
        assert not uses_flash_attention(wide, **sizes, n_seq_max=16)
        assert not uses_flash_attention(wide, **sizes | {"n_ubatch": 64})


class TestThreads:
    def test_default(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64) as context:
            assert context.n_threads == context.n_threads_batch == default_n_threads()

    def test_parameters(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64, n_threads=1, n_threads_batch=3) as context:
            assert (context.n_threads, context.n_threads_batch) == (1, 3)

    def test_attached_pools(self, context: llama_cy.Context) -> None:
        context.decode(PROMPT)
        expected = context.logits()
        context.attach(llama_cy.Threadpool(2), llama_cy.Threadpool(3, poll=0))
        assert (context.n_threads, context.n_threads_batch) == (2, 3)
        context.memory.clear()
        context.decode(PROMPT)
        assert_near(context.logits(), expected, rtol=1e-3, atol=1e-2)

    def test_one_pool_serves_both(self, context: llama_cy.Context) -> None:
        context.attach(llama_cy.Threadpool(2))
        assert (context.n_threads, context.n_threads_batch) == (2, 2)

    def test_pool_of_another_context(self, tiny: llama_cy.Model, context: llama_cy.Context) -> None:
        pool = llama_cy.Threadpool(1)
        with tiny.context(n_ctx=64) as other:
            other.attach(pool)
            with pytest.raises(ValueError, match="already serves another context"):
                context.attach(pool)
        context.attach(pool)


class TestLogits:
    def test_copy_stays(self, context: llama_cy.Context) -> None:
        context.decode(PROMPT)
        row = context.logits(-1)
        before = row.copy()
        context.decode([7])
        assert np.array_equal(row, before)
        assert not np.array_equal(row, context.logits(-1))

    def test_view_is_llama_cpp_s_own_row(self, context: llama_cy.Context) -> None:
        context.decode(PROMPT)
        view = context.logits_view(-1)
        assert view.dtype == np.float32
        assert not view.flags.writeable
        assert np.array_equal(view, context.logits(-1))
        assert view.ctypes.data == context.logits_view(-1).ctypes.data
        with pytest.raises(BufferError, match="cannot decode while 1 views of its logits are in use"):
            context.decode([7])
        with pytest.raises(BufferError, match="cannot close"):
            context.close()
        del view
        context.decode([7])

    def test_rows_of_a_batch(self, context: llama_cy.Context) -> None:
        batch = llama_cy.Batch(8)
        for pos, token in enumerate(PROMPT):
            batch.add(token, pos, logits=pos in (1, 4))
        context.decode(batch)
        rows = {i: context.logits(i) for i in (1, 4)}
        # From the end, only the rows with logits count.
        assert np.array_equal(context.logits(-1), rows[4])
        assert np.array_equal(context.logits(-2), rows[1])
        for i in (0, 2, 5, -3):
            with pytest.raises(ValueError, match=f"row {i} has no logits"):
                context.logits(i)

    def test_before_the_first_decode(self, context: llama_cy.Context) -> None:
        with pytest.raises(ValueError, match="row -1 has no logits"):
            context.logits()

    def test_without_a_batch_only_the_last_row(self, context: llama_cy.Context) -> None:
        context.decode(PROMPT)
        with pytest.raises(ValueError, match="row 0 has no logits"):
            context.logits(0)


class TestDecode:
    def test_tokens_go_behind_those_in_memory(self, context: llama_cy.Context) -> None:
        context.decode(PROMPT[:2])
        context.decode(PROMPT[2:])
        assert context.memory.seq_pos_max(0) == len(PROMPT) - 1
        pieces = context.logits()
        context.memory.clear()
        context.decode(PROMPT)
        assert_near(pieces, context.logits(), rtol=1e-3, atol=1e-2)

    def test_any_iterable(self, context: llama_cy.Context) -> None:
        rows = []
        for tokens in (PROMPT, tuple(PROMPT), iter(PROMPT), np.array(PROMPT, np.int32), np.array(PROMPT, np.uint8)):
            context.memory.clear()
            context.decode(tokens)
            rows.append(context.logits())
        assert all(np.array_equal(row, rows[0]) for row in rows)

    @pytest.mark.parametrize("tokens", [[], [-1], [2**31], [10**30]])
    def test_bad_tokens(self, context: llama_cy.Context, tokens: list[int]) -> None:
        with pytest.raises(ValueError, match=r"out of range|no token"):
            context.decode(tokens)
        assert context.memory.seq_pos_max(0) == -1

    def test_decoder_needs_its_encoder(self, tmp_path: Path) -> None:
        with llama_cy.Model(write_t5(tmp_path / "t5.gguf")) as model, model.context(n_ctx=64) as context:
            start = model.decoder_start_token
            assert start is not None
            with pytest.raises(llama_cy.InvalidBatchError, match="after encode"):
                context.decode([start])
            rows = []
            for source in (PROMPT, PROMPT[::-1]):
                context.memory.clear()
                context.encode(source)
                context.decode([start])
                rows.append(context.logits())
            assert not np.array_equal(rows[0], rows[1])

    def test_nothing_to_encode_with(self, context: llama_cy.Context) -> None:
        with pytest.raises(llama_cy.ContextError, match="no encoder"):
            context.encode(PROMPT)


class TestViews:
    def test_memory_is_that_of_the_context(self, context: llama_cy.Context) -> None:
        context.decode(PROMPT)
        assert context.memory.seq_pos_max() == 4
        assert context.memory.seq_rm(0, 3)
        assert context.memory.seq_pos_max() == 2

    def test_pooling_type(self, tmp_path: Path) -> None:
        with llama_cy.Model(write_llama(tmp_path / "llama.gguf")) as model:
            for given, expected in (("mean", "MEAN"), (llama_cy.PoolingType.LAST, "LAST"), ("none", "NONE")):
                with model.context(n_ctx=64, embeddings=True, pooling_type=given) as context:
                    assert context.pooling_type is llama_cy.PoolingType[expected]

    def test_repr_and_bool(self, tiny: llama_cy.Model) -> None:
        context = tiny.context(n_ctx=64, n_threads=2)
        assert repr(context) == "<Context of 256 tokens, 1 sequences, 2 threads>"
        assert context
        assert not context.closed
        context.close()
        context.close()
        assert repr(context) == "<Context, closed>"
        assert not context
        assert context.closed


def test_cancel_ends_the_next_piece(tiny: llama_cy.Model) -> None:
    with tiny.context(n_ctx=256, n_ubatch=8, n_threads=1) as context:

        def tokens() -> Iterator[int]:
            yield from PROMPT * 8
            # The tokens are collected before the first piece is decoded.
            context.cancel()

        with pytest.raises(llama_cy.DecodeAborted):
            context.decode(tokens())
        assert context.memory.seq_pos_max() < 39
        context.memory.clear()
        context.decode(PROMPT)
        assert context.memory.seq_pos_max() == 4


def test_synchronize_leaves_the_outputs(context: llama_cy.Context) -> None:
    context.decode(PROMPT)
    before = context.logits()
    context.synchronize()
    assert np.array_equal(context.logits(), before)


def test_recurrent_memory_has_no_end(tmp_path: Path) -> None:
    with llama_cy.Model(write_mamba(tmp_path / "mamba.gguf")) as model, model.context(n_ctx=16) as context:
        context.decode(PROMPT * (context.n_ctx // 2))
        assert context.memory.seq_pos_max() == 5 * (context.n_ctx // 2) - 1


def test_vocab_only_has_nothing_to_compute_with(tiny_path: Path) -> None:
    with (
        llama_cy.Model(tiny_path, vocab_only=True) as model,
        pytest.raises(llama_cy.ContextError, match="vocab_only"),
    ):
        model.context()
