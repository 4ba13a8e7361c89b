"""Log probabilities are the log-softmax of the logits that the model computed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import llama_cy

PROMPT = [5, 9, 17, 33, 65]


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - np.max(logits)
    exact: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return exact


@pytest.fixture
def context(tiny: llama_cy.Model) -> Iterator[llama_cy.Context]:
    with tiny.context(n_ctx=128, n_threads=1) as opened:
        yield opened


@given(n=st.integers(0, 30), seed=st.integers(0, 2**32 - 2), temperature=st.sampled_from([0, 0.8, 3.0]))
def test_they_are_the_models(tiny: llama_cy.Model, n: int, seed: int, temperature: float) -> None:
    with tiny.context(n_ctx=128, n_threads=1) as context:
        chain = llama_cy.sampling(temperature=temperature, logit_bias={7: 3.0}, seed=seed)
        done = context.complete(PROMPT, chain, max_tokens=6, ignore_eog=True, logprobs=n)
        assert done.logprobs is not None
        assert [one.token for one in done.logprobs] == done.tokens
        context.memory.clear()
        context.decode(PROMPT)
        for one in done.logprobs:
            exact = log_softmax(context.logits())
            assert one.logprob == pytest.approx(exact[one.token], abs=2e-4)
            order = np.argsort(-exact, kind="stable")[:n]
            assert [token for token, _ in one.best] == order.tolist()
            assert [value for _, value in one.best] == pytest.approx(exact[order].tolist(), abs=2e-4)
            context.decode([one.token])


def test_all_of_the_vocabulary(context: llama_cy.Context) -> None:
    done = context.complete(PROMPT, max_tokens=1, ignore_eog=True, logprobs=context.n_vocab)
    assert done.logprobs is not None
    best = done.logprobs[0].best
    assert sorted(token for token, _ in best) == list(range(context.n_vocab))
    assert np.exp([value for _, value in best]).sum() == pytest.approx(1, abs=1e-4)


def test_on_loops_and_streams(context: llama_cy.Context) -> None:
    loop = context.generate(PROMPT, llama_cy.sampling(temperature=0), max_tokens=4, ignore_eog=True, logprobs=2)
    assert loop.logprobs == []
    next(loop)
    assert loop.logprobs is not None
    assert loop.logprobs[0].best[0][0] == loop.logprobs[0].token == loop.tokens[0]
    assert list(loop) == loop.tokens[1:]
    assert len(loop.logprobs) == 4
    stream = context.stream(PROMPT, llama_cy.sampling(temperature=0), max_tokens=4, ignore_eog=True, logprobs=2)
    "".join(stream)
    assert stream.logprobs == loop.logprobs


def test_none_unless_asked(context: llama_cy.Context) -> None:
    assert context.complete(PROMPT, max_tokens=2).logprobs is None
    assert context.generate(PROMPT).logprobs is None


def test_the_last_token_of_a_full_context(tiny: llama_cy.Model) -> None:
    with tiny.context(n_ctx=256, n_threads=1) as context:
        done = context.complete(PROMPT, llama_cy.sampling(temperature=0), ignore_eog=True, logprobs=1)
        assert done.finish_reason == "length"
        assert done.logprobs is not None
        assert len(done.logprobs) == len(done.tokens) == context.n_ctx - len(PROMPT) + 1


@pytest.mark.parametrize("n", [-1, 10**6])
def test_range(context: llama_cy.Context, n: int) -> None:
    with pytest.raises(ValueError, match=f"logprobs is {n}, which is out of range"):
        context.generate(PROMPT, logprobs=n)
