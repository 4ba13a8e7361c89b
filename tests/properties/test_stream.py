"""Whatever the tokens are: the stream is their text, and every way to generate gives the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llama_cy

KINDS = ["spm", "broken", "no-prefix", "bpe", "gpt-2", "gemma3", "mamba", "jamba"]
N_CTX = 256

seeds = st.integers(0, 2**32 - 2)
# Ids that every vocabulary has.
prompts = st.lists(st.integers(0, 255), min_size=1, max_size=40)
lengths = st.integers(0, 60)
samplings = st.fixed_dictionaries(
    {"temperature": st.sampled_from([0, 0.7, 1.0, 2.0]), "top_k": st.sampled_from([0, 1, 40]), "seed": seeds},
    optional={"repeat_penalty": st.sampled_from([0.9, 1.3]), "min_p": st.just(0)},
)


@pytest.fixture(scope="module", params=KINDS)
def context(request: pytest.FixtureRequest, models: dict[str, llama_cy.Model]) -> Iterator[llama_cy.Context]:
    with models[request.param].context(n_ctx=N_CTX, n_ubatch=16, n_threads=1) as opened:
        yield opened


def whole(data: bytes) -> int:
    """Count the bytes in front of a character that more bytes may complete."""
    for back in range(1, min(3, len(data)) + 1):
        lead = data[-back]
        if lead & 0xC0 != 0x80:
            length = 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return len(data) - back if length > back else len(data)
    return len(data)


def bounded(context: llama_cy.Context, length: int | None) -> int | None:
    """Return the length, or one where a memory without end would let a loop go on for ever."""
    return 60 if length is None and context.model.is_recurrent else length


@given(prompt=prompts, params=samplings, length=lengths)
def test_stream_is_the_text_of_its_tokens(
    context: llama_cy.Context, prompt: list[int], params: dict[str, Any], length: int
) -> None:
    vocab = context.vocab
    stream = context.stream(prompt, llama_cy.sampling(**params), max_tokens=length, ignore_eog=True)
    text = ""
    for piece in stream:
        assert piece
        text += piece
        # All that no further token can change is there, and nothing else.
        data = vocab.detokenize_bytes(stream.tokens)
        end = len(data) if stream.finish_reason else whole(data)
        assert text == data[:end].decode("utf-8", "replace")
    assert text == vocab.detokenize(stream.tokens)
    assert text.encode() == b"".join(map(vocab.token_to_piece, stream.tokens)).decode("utf-8", "replace").encode()


@given(prompt=prompts, params=samplings, length=lengths)
def test_every_way_gives_the_same(
    context: llama_cy.Context, prompt: list[int], params: dict[str, Any], length: int
) -> None:
    chain = llama_cy.sampling(**params)
    options: dict[str, Any] = {"max_tokens": length, "ignore_eog": True, "reuse": "exact"}
    generated = list(context.generate(prompt, chain, **options))
    assert len(generated) == length
    stream = context.stream(prompt, chain, **options)
    text = "".join(stream)
    done = context.complete(prompt, chain, **options)
    assert stream.tokens == done.tokens == generated
    assert done.text == text
    assert done.finish_reason == stream.finish_reason == "length"

    # Part by part: some tokens by the loop, the rest at once.
    stream = context.stream(prompt, chain, **options)
    parts = [piece for _, piece in zip(range(3), stream, strict=False)]
    assert "".join(parts) + stream.complete().text == text

    # The loop, spelled out.
    chain.reset()
    context.memory.clear()
    context.decode(prompt)
    stepwise = []
    for _ in range(length):
        stepwise.append(chain.sample(context))
        context.decode(stepwise[-1:])
    assert stepwise == generated


@given(prompt=prompts, params=samplings, length=lengths, rest=lengths)
def test_going_on_is_one_generation(
    context: llama_cy.Context, prompt: list[int], params: dict[str, Any], length: int, rest: int
) -> None:
    chain = llama_cy.sampling(**params)
    want = list(context.generate(prompt, chain, max_tokens=length + rest, ignore_eog=True, reuse="exact"))
    first = list(context.generate(prompt, chain, max_tokens=length, ignore_eog=True, reuse="exact"))
    then = list(context.generate(None, chain, max_tokens=rest, ignore_eog=True))
    assert first + then == want


@given(prompt=prompts, seed=seeds)
def test_same_seed_same_tokens(context: llama_cy.Context, prompt: list[int], seed: int) -> None:
    def tokens(chain: llama_cy.SamplerChain) -> list[int]:
        return context.complete(prompt, chain, max_tokens=20, ignore_eog=True, reuse="exact").tokens

    chain = llama_cy.sampling(temperature=1.5, top_k=0, seed=seed)
    assert chain.seed == seed
    want = tokens(chain)
    assert tokens(chain) == want
    assert tokens(llama_cy.sampling(temperature=1.5, top_k=0, seed=seed)) == want
    assert tokens(chain.clone()) == want
    # With the start of the prompt in memory already.
    context.memory.clear()
    context.decode(prompt)
    assert tokens(chain) == want


@given(prompt=prompts)
def test_random_seed_can_be_used_again(context: llama_cy.Context, prompt: list[int]) -> None:
    first, second = llama_cy.sampling(temperature=1.5, top_k=0), llama_cy.sampling(temperature=1.5, top_k=0)
    assert first.seed != second.seed
    want = context.complete(prompt, first, max_tokens=20, ignore_eog=True, reuse="exact").tokens
    seed = first.seed
    assert seed is not None
    again = llama_cy.sampling(temperature=1.5, top_k=0, seed=seed)
    assert context.complete(prompt, again, max_tokens=20, ignore_eog=True, reuse="exact").tokens == want


@given(prompt=prompts, params=samplings, length=st.one_of(st.none(), lengths), data=st.data())
def test_ends_tell_the_truth(
    context: llama_cy.Context, prompt: list[int], params: dict[str, Any], length: int | None, data: st.DataObject
) -> None:
    eos = context.vocab.eos
    assert eos is not None
    # Ends that are likely enough to be met.
    bias = {eos: data.draw(st.sampled_from([-100.0, 3.0, 6.0]))}
    stops = data.draw(st.lists(st.integers(0, context.n_vocab - 1), max_size=20))
    chain = llama_cy.sampling(**params, logit_bias=bias)
    length = bounded(context, length)
    every = list(context.generate(prompt, chain, max_tokens=length, ignore_eog=True, reuse="exact"))
    loop = context.generate(prompt, chain, max_tokens=length, stop_tokens=stops, reuse="exact")
    got = list(loop)
    assert loop.tokens == got == every[: len(got)]
    assert not set(got) & {eos, *stops}
    limit = N_CTX - len(prompt) + 1 if length is None else length
    if loop.finish_reason == "length":
        assert len(got) == len(every) == limit
    elif loop.finish_reason == "eog":
        assert every[len(got)] == eos
    else:
        assert loop.finish_reason == "stop"
        assert every[len(got)] in stops


@given(prompt=prompts, params=samplings, length=st.one_of(st.none(), lengths))
def test_memory_holds_what_was_handed_out(
    context: llama_cy.Context, prompt: list[int], params: dict[str, Any], length: int | None
) -> None:
    loop = context.generate(prompt, llama_cy.sampling(**params), max_tokens=bounded(context, length))
    seen = 0
    for _ in loop:
        seen += 1
        held = context.memory.seq_pos_max() + 1
        # The last token of a full context has no place any more.
        assert held == min(len(prompt) + seen, N_CTX)
    assert context.memory.seq_pos_max() + 1 == min(len(prompt) + seen, N_CTX)
    assert loop.timings.prompt_tokens == len(prompt) - loop.reused
    assert loop.timings.tokens == seen
