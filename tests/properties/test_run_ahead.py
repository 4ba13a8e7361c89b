"""A loop that decodes ahead can't be told from one that does not, wherever the caller leaves it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llama_cy

N_CTX = 128
OPTIONS: dict[str, Any] = {"n_ctx": N_CTX, "n_ubatch": 8, "n_threads": 1}
prompts = st.lists(st.integers(0, 255), min_size=1, max_size=20)
CHAINS: dict[str, Any] = {
    "greedy": lambda: llama_cy.sampling(temperature=0),
    "usual": lambda: llama_cy.sampling(seed=3),
    "penalties": lambda: llama_cy.sampling(seed=4, repeat_penalty=1.4, temperature=2.0),
    "xtc": lambda: llama_cy.SamplerChain(
        llama_cy.Sampler.top_k(40), llama_cy.Sampler.xtc(0.5, 0.05, 1, 7), llama_cy.Sampler.dist(5)
    ),
}
ACTIONS = ("next", "next", "next", "logits", "pos", "close", "accept", "reset", "clone")


def state(context: llama_cy.Context) -> Any:
    return context.memory.seq_pos_min(), context.memory.seq_pos_max(), context.logits().tobytes()


@pytest.mark.parametrize("kind", ["spm", "bpe", "gemma3"])
@given(data=st.data(), prompt=prompts, actions=st.lists(st.sampled_from(ACTIONS), max_size=14))
def test_whoever_looks_sees_no_difference(
    models: dict[str, llama_cy.Model], kind: str, data: st.DataObject, prompt: list[int], actions: list[str]
) -> None:
    name = data.draw(st.sampled_from(sorted(CHAINS)))
    n = data.draw(st.integers(1, 5))
    use = data.draw(st.sampled_from(["generate", "stream"]))
    goes_on = data.draw(st.booleans())
    logprobs = data.draw(st.sampled_from([None, 2]))
    seen = []
    for ahead in (0, n):
        trace: list[Any] = []
        with models[kind].context(**OPTIONS) as context, CHAINS[name]() as chain:
            if goes_on:
                context.decode(prompt)
            loop = getattr(context, use)(
                None if goes_on else prompt, chain, max_tokens=9, ignore_eog=True, run_ahead=ahead, logprobs=logprobs
            )
            for action in actions:
                if action == "next" and not loop.closed:
                    trace.append(next(loop, None))
                elif action == "logits":
                    trace.append(state(context) if loop.tokens or goes_on else None)
                elif action == "pos":
                    trace.append(context.memory.seq_pos_max())
                elif action == "accept":
                    chain.accept(17)
                elif action == "reset":
                    chain.reset()
                elif action == "clone":
                    with chain.clone() as twin, models[kind].context(**OPTIONS) as other:
                        trace.append(list(other.generate([1], twin, max_tokens=3, ignore_eog=True)))
                elif action == "close":
                    loop.close()
            trace += [loop.tokens, loop.finish_reason, loop.logprobs]
            if loop.tokens or goes_on:
                trace.append(state(context))
            del loop
            trace.append(list(context.generate([*prompt, 3], chain, max_tokens=5, ignore_eog=True)))
        seen.append(trace)
    assert seen[0] == seen[1]


@given(prompt=prompts, n=st.integers(1, 5), count=st.integers(0, 12), name=st.sampled_from(sorted(CHAINS)))
def test_breaking_off_leaves_the_last_token_seen(
    models: dict[str, llama_cy.Model], prompt: list[int], n: int, count: int, name: str
) -> None:
    with models["spm"].context(**OPTIONS) as context, CHAINS[name]() as chain:
        got = []
        for token in context.generate(prompt, chain, max_tokens=count or None, ignore_eog=True, run_ahead=n):
            got.append(token)
            if len(got) > count:
                break
        assert context.memory.seq_pos_max() == len(prompt) + len(got) - 1
        with models["spm"].context(**OPTIONS) as plain, CHAINS[name]() as other:
            loop = plain.generate(prompt, other, ignore_eog=True)
            assert [next(loop) for _ in got] == got
            # What comes next, by the same samplers in the same state.
            options: dict[str, Any] = {"max_tokens": 6, "ignore_eog": True}
            assert list(context.generate(None, chain, **options)) == list(plain.generate(None, other, **options))


@given(
    text=st.sampled_from(["Once upon a time", "The dog"]),
    n=st.integers(1, 4),
    stop=st.sampled_from(["the", ".", "a b"]),
)
def test_stop_strings(demo: llama_cy.Model, text: str, n: int, stop: str) -> None:
    done: list[list[Any]] = []
    for ahead in (0, n):
        with demo.context(n_ctx=128, n_threads=1) as context:
            stream = context.stream(text, llama_cy.sampling(seed=1), stop=stop, max_tokens=60, run_ahead=ahead)
            done.append(["".join(stream), stream.finish_reason, stream.tokens, state(context)])
            done[-1].append(context.complete(text, llama_cy.sampling(seed=1), run_ahead=ahead, max_tokens=20).text)
    assert done[0] == done[1]


@given(n=st.integers(1, 4), count=st.integers(0, 12), lazy=st.booleans(), seed=st.integers(0, 9))
def test_grammars(demo: llama_cy.Model, n: int, count: int, lazy: bool, seed: int) -> None:
    grammar = 'root ::= ([ a-z]+ | " the"? [a-z ,]* | " "+)* "."'
    seen = []
    for ahead in (0, n):
        follow = (
            llama_cy.Sampler.grammar_lazy(demo.vocab, grammar, trigger_patterns=["e([a-z])"])
            if lazy
            else llama_cy.Sampler.grammar(demo.vocab, grammar)
        )
        with demo.context(n_ctx=128, n_threads=1) as context:
            chain = llama_cy.SamplerChain(follow, llama_cy.Sampler.temp(1.5), llama_cy.Sampler.dist(seed))
            loop = context.generate("Once upon", chain, max_tokens=20, run_ahead=ahead)
            trace = [token for token, _ in zip(loop, range(count), strict=False)]
            with chain.clone() as twin:
                loop.close()
                trace += context.generate(None, twin, max_tokens=8, run_ahead=ahead)
            trace += context.generate(None, chain, max_tokens=8)
            seen.append((trace, context.memory.seq_pos_max()))
    assert seen[0] == seen[1]


@given(n=st.integers(1, 20))
def test_a_context_that_is_full(models: dict[str, llama_cy.Model], n: int) -> None:
    done = []
    for ahead in (0, n):
        with models["spm"].context(**OPTIONS) as context:
            loop = context.generate([1, 2], llama_cy.sampling(temperature=0), ignore_eog=True, run_ahead=ahead)
            done.append((list(loop), loop.finish_reason, state(context)))
    assert done[0] == done[1]
    assert done[0][1] == "length"
