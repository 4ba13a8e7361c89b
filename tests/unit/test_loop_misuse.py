"""Loops and those who use them badly: each ends with what it should, with and without a thread that decodes ahead."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import llama_cy

PROMPT = [5, 9, 17, 33, 65]


@pytest.fixture(params=[0, 3], ids=["plain", "ahead"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"ignore_eog": True, "run_ahead": request.param}


@pytest.fixture
def context(tiny: llama_cy.Model) -> Iterator[llama_cy.Context]:
    with tiny.context(n_ctx=256, n_threads=1) as opened:
        yield opened


def greedy() -> llama_cy.SamplerChain:
    return llama_cy.sampling(temperature=0)


def test_a_chain_that_filters_everything(context: llama_cy.Context, options: dict[str, Any]) -> None:
    bans = dict.fromkeys(range(context.n_vocab), -math.inf)
    for chain in (llama_cy.sampling(temperature=0, logit_bias=bans), llama_cy.sampling(logit_bias=bans, seed=1)):
        with pytest.raises(ValueError, match="the samplers rule out every token"):
            context.complete(PROMPT, chain, **options)
        assert context.memory.seq_pos_max() == len(PROMPT) - 1


@pytest.mark.parametrize("stop", ["", [""], ["a", ""]])
def test_an_empty_stop_string(context: llama_cy.Context, options: dict[str, Any], stop: Any) -> None:
    with pytest.raises(ValueError, match="a stop string must not be empty"):
        context.stream(PROMPT, stop=stop, **options)


def test_a_stop_string_longer_than_the_output(context: llama_cy.Context, options: dict[str, Any]) -> None:
    want = context.complete(PROMPT, greedy(), max_tokens=6, **options).text
    assert context.complete(PROMPT, greedy(), max_tokens=6, stop=want + "x" * 10_000, **options).text == want
    assert "".join(context.stream(PROMPT, greedy(), max_tokens=6, stop=want + "x", **options)) == want


def test_no_tokens(context: llama_cy.Context, options: dict[str, Any]) -> None:
    loop = context.generate(PROMPT, greedy(), max_tokens=0, **options)
    assert list(loop) == []
    assert loop.finish_reason == "length"
    assert context.memory.seq_pos_max() == len(PROMPT) - 1


def test_no_limit_ends_with_the_context(context: llama_cy.Context, options: dict[str, Any]) -> None:
    done = context.complete(PROMPT, greedy(), max_tokens=None, **options)
    assert done.finish_reason == "length"
    # The last one has no place any more, and is handed out all the same.
    assert len(done.tokens) == context.n_ctx - len(PROMPT) + 1
    assert context.memory.seq_pos_max() == context.n_ctx - 1


def test_a_consumer_that_raises(context: llama_cy.Context, options: dict[str, Any]) -> None:
    got = []

    def consume() -> None:
        for token in context.generate(PROMPT, greedy(), **options):
            got.append(token)
            if len(got) == 3:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        consume()
    assert context.memory.seq_pos_max() == len(PROMPT) + 2
    got += list(context.generate(None, greedy(), max_tokens=3, **options))
    assert got == list(context.generate(PROMPT, greedy(), max_tokens=6, **options))


def test_a_consumer_that_looks_into_the_context(context: llama_cy.Context, options: dict[str, Any]) -> None:
    want = list(context.generate(PROMPT, greedy(), max_tokens=8, **options))
    got: list[int] = []
    for token in context.generate(PROMPT, greedy(), max_tokens=8, **options):
        got.append(token)
        assert context.memory.seq_pos_max() == len(PROMPT) - 1 + len(got)
        if len(got) < 8:
            assert int(np.argmax(context.logits())) == want[len(got)]
    assert got == want


def test_a_consumer_that_decodes(context: llama_cy.Context, options: dict[str, Any]) -> None:
    loop = context.generate(PROMPT, greedy(), **options)
    next(loop)
    context.decode([1, 2])
    with pytest.raises(llama_cy.LlamaError, match="used by something else"):
        next(loop)
    assert context.memory.seq_pos_max() == len(PROMPT) + 2


def test_two_loops_that_go_on_from_what_is_held(context: llama_cy.Context, options: dict[str, Any]) -> None:
    context.decode(PROMPT)
    first = context.generate(None, greedy(), **options)
    next(first)
    second = context.generate(None, greedy(), max_tokens=3, **options)
    token = next(second)
    with pytest.raises(llama_cy.LlamaError, match="used by something else"):
        next(first)
    assert [token, *second] == second.tokens
    assert context.memory.seq_pos_max() == len(PROMPT) + 3


def test_two_loops(context: llama_cy.Context, options: dict[str, Any]) -> None:
    first = context.generate(PROMPT, greedy(), **options)
    second = context.generate(PROMPT, greedy(), max_tokens=3, **options)
    token = next(first)
    assert next(second) == token
    with pytest.raises(llama_cy.LlamaError, match="used by something else"):
        next(first)
    assert len(list(second)) == 2


@pytest.mark.parametrize("how", ["loop", "context", "sampler"])
def test_after_close(tiny: llama_cy.Model, options: dict[str, Any], how: str) -> None:
    with tiny.context(n_ctx=64, n_threads=1) as context, greedy() as sampler:
        loop = context.generate(PROMPT, sampler, **options)
        next(loop)
        closing: dict[str, Any] = {"loop": loop, "context": context, "sampler": sampler}
        closing[how].close()
        if how == "loop":
            assert list(loop) == []
            assert loop.finish_reason == "cancelled"
        else:
            with pytest.raises(llama_cy.ClosedError):
                next(loop)
        assert len(loop.tokens) == 1
