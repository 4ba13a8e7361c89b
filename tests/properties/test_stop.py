"""Stop strings, against a search in the text that was not stopped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llama_cy

prompts = st.lists(st.integers(0, 255), min_size=1, max_size=10)
seeds = st.integers(0, 2**32 - 2)


@pytest.fixture(scope="module", params=["spm", "broken", "bpe"])
def context(request: pytest.FixtureRequest, models: dict[str, llama_cy.Model]) -> Iterator[llama_cy.Context]:
    with models[request.param].context(n_ctx=256, n_threads=1) as opened:
        yield opened


def first_end(data: bytes, stops: list[bytes]) -> tuple[int, int] | None:
    """Return where the stop begins and ends that is complete first; of several that end there, the longest."""
    found = [(at + len(stop), at) for stop in stops for at in [data.find(stop)] if at >= 0]
    if not found:
        return None
    end, begin = min(found)
    return begin, end


@st.composite
def stops_for(draw: st.DrawFn, text: str) -> list[str]:
    """Draw stop strings: parts of the text, such parts with something wrong at the end, and anything."""
    chosen = []
    for _ in range(draw(st.integers(0, 4))):
        if text and draw(st.integers(0, 4)):
            begin = draw(st.integers(0, len(text) - 1))
            part = text[begin : begin + draw(st.integers(1, 12))]
            chosen.append(part + draw(st.sampled_from(["", "", "", "x", "é"])))
        else:
            chosen.append(draw(st.text(min_size=1, max_size=5)))
    return [stop for stop in chosen if stop.isprintable() or draw(st.booleans())]


@given(prompt=prompts, seed=seeds, length=st.integers(0, 60), data=st.data())
def test_text_ends_in_front_of_the_first_stop(
    context: llama_cy.Context, prompt: list[int], seed: int, length: int, data: st.DataObject
) -> None:
    chain = llama_cy.sampling(temperature=1.5, top_k=0, seed=seed)
    vocab = context.vocab
    every = list(context.generate(prompt, chain, max_tokens=length, ignore_eog=True, reuse="exact"))
    raw = vocab.detokenize_bytes(every)
    stops = data.draw(stops_for(raw.decode("utf-8", "ignore")), "stops")
    found = first_end(raw, [stop.encode() for stop in stops])
    want = (raw if found is None else raw[: found[0]]).decode("utf-8", "replace")

    done = context.complete(prompt, chain, max_tokens=length, ignore_eog=True, stop=stops, reuse="exact")
    assert done.text == want
    if found is None:
        assert done.finish_reason == "length"
        assert done.tokens == every
    else:
        assert done.finish_reason == "stop"
        # No token more than it takes to see the stop string.
        assert done.tokens == every[: len(done.tokens)]
        assert len(vocab.detokenize_bytes(done.tokens)) >= found[1] > len(vocab.detokenize_bytes(done.tokens[:-1]))
        assert context.memory.seq_pos_max() + 1 == len(prompt) + len(done.tokens)

    stream = context.stream(prompt, chain, max_tokens=length, ignore_eog=True, stop=stops, reuse="exact")
    pieces = list(stream)
    assert "".join(pieces) == want
    assert all(pieces)
    assert stream.finish_reason == done.finish_reason
    assert stream.tokens == done.tokens
    if "\N{REPLACEMENT CHARACTER}" not in want:
        assert not any(stop in want for stop in stops)


@given(prompt=prompts, seed=seeds, stop=st.text(min_size=1, max_size=3))
def test_one_string_and_a_list_of_it_are_the_same(
    context: llama_cy.Context, prompt: list[int], seed: int, stop: str
) -> None:
    chain = llama_cy.sampling(temperature=1.5, top_k=0, seed=seed)
    first = context.complete(prompt, chain, max_tokens=30, stop=stop, reuse="exact")
    second = context.complete(prompt, chain, max_tokens=30, stop=(text for text in [stop, stop]), reuse="exact")
    assert (first.text, first.tokens, first.finish_reason) == (second.text, second.tokens, second.finish_reason)


@given(prompt=prompts, seed=seeds, data=st.data())
def test_only_what_may_become_a_stop_is_held_back(
    context: llama_cy.Context, prompt: list[int], seed: int, data: st.DataObject
) -> None:
    chain = llama_cy.sampling(temperature=1.5, top_k=0, seed=seed)
    vocab = context.vocab
    every = context.generate(prompt, chain, max_tokens=40, ignore_eog=True, reuse="exact")
    raw = vocab.detokenize_bytes(list(every))
    stops = data.draw(stops_for(raw.decode("utf-8", "ignore")), "stops")
    longest = max((len(stop.encode()) for stop in stops), default=0)
    stream = context.stream(prompt, chain, max_tokens=40, ignore_eog=True, stop=stops, reuse="exact")
    text = ""
    for piece in stream:
        text += piece
        if stream.finish_reason is None:
            # A stop string but its last byte, and a character but its last byte.
            held = len(vocab.detokenize_bytes(stream.tokens)) - len(text.encode("utf-8", "replace"))
            broken = text.count("\N{REPLACEMENT CHARACTER}") * 3
            assert held <= max(0, longest - 1) + 3 + broken
