"""How probable the tokens of a text are, against the logits of one large decode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.encoder_models import write_bert
from support.precision import rounding

import llama_cy
from llama_cy import Batch, Sampler, SamplerChain

# Sums differ with the size of a batch, and much more where keys and values are kept in 16 bits.
# On a GPU that is a share of the logits, which are up to 10 or so.
ROUNDING = max(0.001, 10 * rounding(0))
EXACT: dict[str, Any] = {"n_ctx": 256, "n_threads": 1, "type_k": "f32", "type_v": "f32", "flash_attn_type": "disabled"}


def oracle(model: llama_cy.Model, tokens: list[int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the log probabilities of every token behind each."""
    batch = Batch(len(tokens))
    with model.context(**EXACT) as context:
        for i, token in enumerate(tokens):
            batch.add(token, i, logits=True)
        context.decode(batch)
        logits = context.logits_all().astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    exact: np.ndarray[Any, np.dtype[np.float64]] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return exact


@given(
    n=st.integers(2, 100), top=st.integers(0, 6), n_ubatch=st.sampled_from([3, 32, 512]), seed=st.integers(0, 2**32 - 1)
)
def test_they_are_the_models(tiny: llama_cy.Model, n: int, top: int, n_ubatch: int, seed: int) -> None:
    tokens = np.random.default_rng(seed).integers(3, tiny.vocab.n_tokens, n).tolist()
    exact = oracle(tiny, tokens)
    with tiny.context(n_ubatch=n_ubatch, **EXACT) as context:
        found = context.logprobs(tokens, top=top)
        assert context.memory.seq_pos_max() == n - 1
    assert [one.token for one in found] == tokens[1:]
    for row, one in zip(exact, found, strict=False):
        assert one.logprob == pytest.approx(row[one.token], abs=ROUNDING)
        assert len(one.best) == top
        assert [p for _, p in one.best] == pytest.approx(np.sort(row)[::-1][:top].tolist(), abs=ROUNDING)
        assert all(row[token] == pytest.approx(p, abs=ROUNDING) for token, p in one.best)


def test_of_a_text(demo: llama_cy.Model) -> None:
    with demo.context(n_ctx=64, n_threads=1) as context:
        # It begins with a BOS, and ends with what the context held before forgotten.
        context.decode([5, 6, 7])
        common, odd = (context.logprobs(text, top=1) for text in ("Once upon a time", "Once upon a brick"))
        assert [one.token for one in common] == demo.vocab.tokenize("Once upon a time")[1:]
        assert common[-1].logprob > odd[-1].logprob
        assert common[-1].best[0] == (common[-1].token, common[-1].logprob)
        # What comes next goes on from there.
        assert len(context.complete(None, Sampler.greedy(), max_tokens=2).tokens) == 2


class TestRefuses:
    @pytest.mark.parametrize("tokens", [[], [5], ""])
    def test_too_few(self, tiny: llama_cy.Model, tokens: Any) -> None:
        with tiny.context(n_ctx=64, n_threads=1) as context, pytest.raises(ValueError, match="expected at least 2"):
            context.logprobs(tokens)

    def test_bad_values(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64, n_threads=1) as context:
            for top in (-1, context.n_vocab + 1):
                with pytest.raises(ValueError, match="top is"):
                    context.logprobs([5, 6], top=top)
            with pytest.raises(ValueError, match="out of range"):
                context.logprobs([5, -1])
            with pytest.raises(TypeError):
                context.logprobs(5)  # type: ignore[arg-type]
            with pytest.raises(llama_cy.KVCacheFullError):
                context.logprobs([5] * (context.n_ctx + 1))
            assert len(context.logprobs([5] * context.n_ctx)) == context.n_ctx - 1

    def test_contexts_without_logits(self, tiny: llama_cy.Model, tmp_path: Any) -> None:
        write_bert(tmp_path / "bert.gguf")
        with llama_cy.Model(tmp_path / "bert.gguf") as model, model.context(n_ctx=64, n_threads=1) as encoder:
            call = encoder.logprobs
            with pytest.raises(ValueError, match="encodes"):
                call([1, 2])
        with tiny.context(n_ctx=64, n_threads=1) as context:
            context.set_sampler(0, SamplerChain(Sampler.greedy()))
            with pytest.raises(ValueError, match="samples on the backend"):
                context.logprobs([5, 6])
            context.set_sampler(0, None)
            context.set_causal_attn(False)
            with pytest.raises(ValueError, match="causal"):
                context.logprobs([5, 6])
