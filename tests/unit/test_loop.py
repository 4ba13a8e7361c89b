"""A TokenLoop gives the tokens that sampling and decoding by hand give, and says why it ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.encoder_models import write_bert
from support.llama_models import write_llama
from support.vocabulary import no_vocab

import llama_cy
from llama_cy.loop import prompt_tokens

PROMPT = [5, 9, 17, 33, 65]


@pytest.fixture
def context(tiny: llama_cy.Model) -> Iterator[llama_cy.Context]:
    with tiny.context(n_ctx=256, n_threads=1) as opened:
        yield opened


def greedy() -> llama_cy.SamplerChain:
    return llama_cy.sampling(temperature=0)


def by_hand(context: llama_cy.Context, n: int) -> list[int]:
    context.memory.clear()
    context.decode(PROMPT)
    tokens: list[int] = []
    while len(tokens) < n:
        tokens.append(int(np.argmax(context.logits())))
        context.decode(tokens[-1:])
    return tokens


class TestTokens:
    def test_are_those_of_a_loop_by_hand(self, context: llama_cy.Context) -> None:
        expected = by_hand(context, 20)
        loop = llama_cy.TokenLoop(context, PROMPT, greedy(), max_tokens=20, ignore_eog=True, reuse=False)
        assert list(loop) == loop.tokens == expected

    def test_the_context_holds_what_was_handed_out(self, context: llama_cy.Context) -> None:
        loop = context.generate(PROMPT, greedy(), ignore_eog=True)
        for i, _ in zip(range(1, 5), loop, strict=False):
            assert context.memory.seq_pos_max() == len(PROMPT) - 1 + i
        assert np.argmax(context.logits()) == next(loop)

    def test_text_prompt(self, demo: llama_cy.Model) -> None:
        with demo.context(n_ctx=64, n_threads=1) as context:
            tokens = [list(context.generate(prompt, greedy(), max_tokens=5)) for prompt in ("Once upon", b"Once upon")]
            ids = demo.vocab.tokenize("Once upon")
            assert tokens == [list(context.generate(ids, greedy(), max_tokens=5))] * 2

    def test_prompt_has_one_bos(self, tiny: llama_cy.Model) -> None:
        vocab = tiny.vocab
        assert vocab.bos is not None
        text = vocab.get_text(vocab.bos)
        assert prompt_tokens(vocab, text + "a") == prompt_tokens(vocab, "a")
        assert prompt_tokens(vocab, "a").count(vocab.bos) == 1

    def test_none_goes_on(self, context: llama_cy.Context) -> None:
        expected = by_hand(context, 12)
        options: dict[str, Any] = {"max_tokens": 6, "ignore_eog": True}
        first = list(context.generate(PROMPT, greedy(), reuse=False, **options))
        assert first + list(context.generate(None, greedy(), **options)) == expected

    def test_default_sampler_draws(self, context: llama_cy.Context) -> None:
        loop = context.generate(PROMPT, max_tokens=1)
        assert loop.sampler.seed is not None
        assert "dist" in repr(loop.sampler)


class TestEnd:
    def test_length(self, context: llama_cy.Context) -> None:
        loop = context.generate(PROMPT, greedy(), max_tokens=3, ignore_eog=True)
        assert loop.finish_reason is None
        assert len(list(loop)) == 3
        assert loop.finish_reason == "length"

    def test_no_tokens(self, context: llama_cy.Context) -> None:
        loop = context.generate(PROMPT, greedy(), max_tokens=0)
        assert (list(loop), loop.finish_reason) == ([], "length")
        assert context.memory.seq_pos_max() == len(PROMPT) - 1

    def test_full_context(self, context: llama_cy.Context) -> None:
        loop = context.generate(PROMPT, greedy(), ignore_eog=True)
        # The last token needs no place.
        assert len(list(loop)) == context.n_ctx - len(PROMPT) + 1
        assert loop.finish_reason == "length"

    def test_stop_token_is_not_handed_out(self, context: llama_cy.Context) -> None:
        tokens = by_hand(context, 20)
        stop = tokens[7]
        loop = context.generate(PROMPT, greedy(), max_tokens=20, stop_tokens=[stop], ignore_eog=True, reuse=False)
        assert list(loop) == tokens[: tokens.index(stop)]
        assert loop.finish_reason == "stop"

    def test_eog(self, context: llama_cy.Context) -> None:
        eos = context.vocab.eos
        assert eos is not None
        chain = llama_cy.sampling(temperature=0, logit_bias={eos: 1000.0})
        loop = context.generate(PROMPT, chain)
        assert (list(loop), loop.finish_reason) == ([], "eog")
        chain.reset()
        loop = context.generate(PROMPT, chain, ignore_eog=True, max_tokens=3)
        assert (list(loop), loop.finish_reason) == ([eos] * 3, "length")

    def test_cancel(self, context: llama_cy.Context) -> None:
        loop = context.generate(PROMPT, greedy(), ignore_eog=True)
        tokens = [next(loop), next(loop)]
        loop.cancel()
        assert list(loop) == []
        assert (loop.tokens, loop.finish_reason) == (tokens, "cancelled")

    def test_close(self, context: llama_cy.Context) -> None:
        with context.generate(PROMPT, greedy(), ignore_eog=True) as loop:
            tokens = [next(loop)]
        assert (loop.closed, loop.finish_reason, loop.tokens) == (True, "cancelled", tokens)
        assert repr(loop) == "<TokenLoop after 1 tokens, cancelled>"


class TestReuse:
    def test_counts(self, context: llama_cy.Context) -> None:
        for reuse, expected in ((True, 0), (True, 5), ("exact", 5), (False, 0)):
            loop = context.generate(PROMPT, greedy(), max_tokens=1, reuse=reuse)  # type: ignore[arg-type]
            list(loop)
            assert loop.reused == expected
            assert loop.timings.prompt_tokens == len(PROMPT) - expected

    def test_timings(self, context: llama_cy.Context) -> None:
        loop = context.generate(PROMPT, greedy(), max_tokens=8, ignore_eog=True)
        assert loop.timings == (0, 0.0, 0, 0.0)
        assert loop.timings.tokens_per_second == 0.0
        list(loop)
        timings = loop.timings
        assert (timings.prompt_tokens, timings.tokens) == (5, 8)
        # Any machine is done by then; a clock that counts from elsewhere is not.
        assert 0 < timings.prompt_seconds < 60
        assert 0 < timings.seconds < 60
        assert timings.tokens_per_second == pytest.approx(8 / timings.seconds)
        assert timings.prompt_tokens_per_second == pytest.approx(5 / timings.prompt_seconds)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"max_tokens": -1}, "max_tokens is -1, which is out of range"),
            ({"reuse": "some"}, "reuse must be True, False or 'exact', not 'some'"),
            ({"stop_tokens": [10**6]}, "token 1000000 is out of range"),
        ],
    )
    def test_options(self, context: llama_cy.Context, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            context.generate(PROMPT, **options)

    def test_empty_prompt(self, context: llama_cy.Context) -> None:
        with pytest.raises(ValueError, match="the prompt is empty"):
            context.generate([])

    def test_long_prompt(self, context: llama_cy.Context) -> None:
        with pytest.raises(llama_cy.KVCacheFullError, match="has 300 tokens and the context holds 256") as caught:
            context.generate([1] * 300)
        assert (caught.value.needed, caught.value.available) == (300, 256)

    def test_context_used_by_something_else(self, context: llama_cy.Context) -> None:
        loop = context.generate(PROMPT, greedy(), ignore_eog=True)
        next(loop)
        context.decode([3])
        with pytest.raises(llama_cy.LlamaError, match="was used by something else"):
            next(loop)

    def test_nothing_to_go_on_from(self, context: llama_cy.Context) -> None:
        with pytest.raises(ValueError, match="has no logits"):
            next(context.generate(None, greedy()))

    def test_sampler_that_selects_nothing(self, context: llama_cy.Context) -> None:
        chain = llama_cy.SamplerChain(llama_cy.Sampler.top_k(5))
        with pytest.raises(ValueError, match="no sampler selected a token"):
            next(context.generate(PROMPT, chain))

    def test_encoder(self, tmp_path: Path) -> None:
        with (
            llama_cy.Model(write_bert(tmp_path / "bert.gguf")) as model,
            model.context(n_ctx=64, embeddings=True) as context,
            pytest.raises(llama_cy.LlamaError, match="only encodes"),
        ):
            context.generate(PROMPT)

    def test_no_tokenizer(self, tmp_path: Path) -> None:
        path = write_llama(tmp_path / "llama.gguf", vocab=no_vocab(64))
        with llama_cy.Model(path) as model, model.context(n_ctx=64) as context:
            assert len(list(context.generate([1, 2], greedy(), max_tokens=2))) == 2
            with pytest.raises(ValueError, match="has no tokenizer"):
                context.generate("text")
