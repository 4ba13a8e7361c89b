"""A context of the MTP head: from a token and the hidden state before it to logits of the token after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from hypothesis import given
from hypothesis import strategies as st
from support.llama_models import write_llama
from support.mtp_models import write_qwen35
from support.precision import assert_near

import llama_cy

N_EMBD = 64
EXACT: Any = {"n_ctx": 64, "type_k": "f32", "type_v": "f32", "n_threads": 1}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen35(tmp_path_factory.mktemp("mtp") / "qwen35.gguf", n_embd=N_EMBD)


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[llama_cy.Model]:
    with llama_cy.Model(path, load_mtp=True) as model:
        yield model


@pytest.fixture(scope="module")
def context(model: llama_cy.Model) -> Iterator[llama_cy.Context]:
    with model.context(ctx_type="mtp", **EXACT) as context:
        yield context


def process(context: llama_cy.Context, tokens: list[int], states: Any, start: int = 0) -> Any:
    """Return the logits of each token with the state before it."""
    batch = llama_cy.BatchExt(context)
    for i, (token, state) in enumerate(zip(tokens, states, strict=True)):
        batch.set_pos(batch.add_token(0, token), start + i)
        batch.set_embd_token(i, state)
        batch.set_output_logits(i, True)
    context.process(batch)
    return context.logits_all()


def rms(x: Any, weight: Any) -> Any:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight


@pytest.mark.parametrize("half", ["token", "state"])
def test_head_alone_in_numpy(tmp_path: Path, half: str) -> None:
    nothing, all_ = np.zeros((N_EMBD, N_EMBD), np.float32), np.eye(N_EMBD, dtype=np.float32)
    eh_proj = np.hstack([all_, nothing] if half == "token" else [nothing, all_])
    path = write_qwen35(tmp_path / "head.gguf", n_embd=N_EMBD, eh_proj=eh_proj)
    weights = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(path).tensors}
    tokens, states = [5, 17, 300], np.random.default_rng(1).standard_normal((3, N_EMBD), dtype=np.float32)
    with llama_cy.Model(path, load_mtp=True) as model, model.context(ctx_type="mtp", **EXACT) as context:
        found = process(context, tokens, states)
    read = weights["token_embd.weight"][tokens] if half == "token" else states
    read = rms(read, weights[f"blk.2.nextn.{'enorm' if half == 'token' else 'hnorm'}.weight"])
    expected = rms(read, weights["blk.2.nextn.shared_head_norm.weight"]) @ weights["output.weight"].T
    assert_near(found, expected, rtol=1e-4, atol=1e-4)


@given(st.lists(st.integers(0, 300), min_size=2, max_size=12), st.integers(1, 11))
def test_in_two_steps_as_in_one(context: llama_cy.Context, tokens: list[int], cut: int) -> None:
    cut = min(cut, len(tokens) - 1)
    states = np.random.default_rng(len(tokens)).standard_normal((len(tokens), N_EMBD), dtype=np.float32)
    context.memory.clear()
    expected = process(context, tokens, states).copy()
    context.memory.clear()
    process(context, tokens[:cut], states[:cut])
    found = process(context, tokens[cut:], states[cut:], cut)
    assert_near(found, expected[cut:], rtol=1e-3, atol=1e-3, kind="recurrent")
    assert context.memory.seq_pos_max(0) == len(tokens) - 1


def test_beside_the_model_it_drafts_for(model: llama_cy.Model, context: llama_cy.Context) -> None:
    """The hidden states come from the trunk, and each context has a memory of its own."""
    states = []

    def keep(tensor: llama_cy.Tensor) -> bool:
        states.append(tensor.data)
        return True

    with model.context(eval_callback=keep, eval_filter="h_nextn", **EXACT) as trunk:
        context.memory.clear()
        trunk.decode([1, 2, 3])
        assert states[-1].shape[-1] == N_EMBD
        hidden = states[-1].reshape(-1, N_EMBD)
        assert np.isfinite(process(context, [2, 3, 4][-len(hidden) :], hidden)).all()
        assert trunk.memory.seq_pos_max(0) == 2
        assert context.memory.seq_pos_max(0) == len(hidden) - 1


def test_refused(model: llama_cy.Model, context: llama_cy.Context, path: Path, tmp_path: Path) -> None:
    with pytest.raises(llama_cy.InvalidBatchError, match="BatchExt of tokens with embeddings only"):
        context.decode([1, 2])
    batch = llama_cy.BatchExt(context)
    batch.set_pos(batch.add_token(0, 1), 0)
    with pytest.raises(ValueError, match="embedding"):
        batch.set_embd_token(0, np.zeros(N_EMBD + 1))
    with pytest.raises(llama_cy.InvalidBatchError, match="ctx_type='mtp'"):
        context.process(batch)
    batch.close()
    with (
        llama_cy.Model(write_llama(tmp_path / "llama.gguf")) as plain,
        pytest.raises(llama_cy.ContextError, match="predict further tokens"),
    ):
        plain.context(ctx_type="mtp", n_ctx=64)
    with llama_cy.Model(path, load_mtp=False) as trunk:
        with trunk.context(n_ctx=64) as context_of_trunk:
            context_of_trunk.decode([1])
        with pytest.raises(llama_cy.ContextError, match="cannot create a context"):
            trunk.context(ctx_type="mtp", n_ctx=64)
