"""A TextStream is the text of its tokens, whole characters only, up to the stop string."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import llama_cy

PROMPT = "Once upon a time"


@pytest.fixture
def context(demo: llama_cy.Model) -> Iterator[llama_cy.Context]:
    with demo.context(n_ctx=256, n_threads=1) as opened:
        yield opened


def stream(context: llama_cy.Context, **options: Any) -> llama_cy.TextStream:
    return context.stream(PROMPT, llama_cy.sampling(temperature=0), **options)


def test_text_of_the_tokens(context: llama_cy.Context) -> None:
    pieces = stream(context, max_tokens=30)
    text = "".join(pieces)
    assert len(text) > 30
    assert text == context.vocab.detokenize(pieces.tokens)
    assert (len(pieces.tokens), pieces.finish_reason) == (30, "length")


def test_stop_string_is_cut_off(context: llama_cy.Context) -> None:
    whole = "".join(stream(context, max_tokens=60))
    stop = whole[20:26]
    pieces = stream(context, max_tokens=60, stop=["never to be found", stop])
    assert "".join(pieces) == whole[: whole.index(stop)]
    assert pieces.finish_reason == "stop"
    # Its tokens were generated all the same.
    assert stop in context.vocab.detokenize(pieces.tokens)


def test_half_a_character_is_held_back(tiny: llama_cy.Model) -> None:
    vocab = tiny.vocab
    # The first byte of an é, over and over: each is known to be broken once the next one is there.
    half = next(token for token in range(len(vocab)) if vocab.token_to_piece(token) == b"\xc3")
    with tiny.context(n_ctx=64, n_threads=1) as context:
        pieces = context.stream([1], llama_cy.sampling(temperature=0, logit_bias={half: 10_000.0}), max_tokens=3)
        progress = [(text, len(pieces.tokens)) for text in pieces]
    assert progress == [("\ufffd", 2), ("\ufffd\ufffd", 3)]


def test_complete_is_the_whole_stream(context: llama_cy.Context) -> None:
    pieces = stream(context, max_tokens=25)
    done = stream(context, max_tokens=25).complete()
    assert (done.text, done.finish_reason) == ("".join(pieces), pieces.finish_reason)
    assert done.tokens == pieces.tokens
    assert str(done) == done.text


def test_complete_gives_what_was_not_handed_out(context: llama_cy.Context) -> None:
    pieces = stream(context, max_tokens=25)
    begin = next(pieces) + next(pieces)
    assert begin + pieces.complete().text == "".join(stream(context, max_tokens=25))


def test_context_complete(context: llama_cy.Context) -> None:
    done = context.complete(PROMPT, llama_cy.sampling(temperature=0), max_tokens=10, stop="zzzz")
    assert len(done.tokens) == done.timings.tokens == 10
    assert done.reused == 0
    again = context.complete(PROMPT, llama_cy.sampling(temperature=0), max_tokens=10)
    assert (again.reused, again.timings.prompt_tokens) == (len(context.vocab.tokenize(PROMPT)), 0)


def test_members_are_those_of_the_loop(context: llama_cy.Context) -> None:
    pieces = stream(context, max_tokens=5)
    list(pieces)
    loop = pieces.loop
    assert (pieces.tokens, pieces.timings, pieces.reused) == (loop.tokens, loop.timings, loop.reused)
    assert loop.context is context


def test_cancel_and_close(context: llama_cy.Context) -> None:
    pieces = stream(context)
    text = next(pieces)
    pieces.cancel()
    assert "".join(pieces) == context.vocab.detokenize(pieces.tokens)[len(text) :]
    assert pieces.finish_reason == "cancelled"
    with stream(context) as pieces:
        next(pieces)
    assert pieces.closed
    assert list(pieces) == []
    assert repr(pieces).endswith("cancelled>")


@pytest.mark.parametrize("stop", [[""], [b"bytes"], [3], 3, None])
def test_bad_stops(context: llama_cy.Context, stop: object) -> None:
    with pytest.raises((TypeError, ValueError), match="stop"):
        context.stream(PROMPT, stop=stop)  # type: ignore[arg-type]
