"""Grammar samplers: what they allow, what they refuse without harm, and when lazy ones begin."""

from __future__ import annotations

import codecs
import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import child
from support.grammars import grammars

import llama_cy
from llama_cy import GrammarError, Sampler, SamplerChain

YES_NO = 'root ::= " yes" | " no"'


@pytest.fixture
def context(demo: llama_cy.Model) -> Iterator[llama_cy.Context]:
    with demo.context(n_ctx=256, n_threads=1) as opened:
        yield opened


def spelt(model: llama_cy.Model, text: str) -> list[int]:
    return model.vocab.tokenize(text, add_special=False)


def feed(sampler: Sampler, tokens: list[int]) -> int:
    """Accept tokens until one is refused; return how many were not."""
    for number, token in enumerate(tokens):
        try:
            sampler.accept(token)
        except GrammarError:
            return number
    return len(tokens)


class TestAllows:
    @given(grammars())
    def test_what_is_of_the_grammar(self, demo: llama_cy.Model, drawn: tuple[str, str]) -> None:
        grammar, text = drawn
        tokens = spelt(demo, text)
        with Sampler.grammar(demo.vocab, grammar) as sampler:
            assert feed(sampler, tokens) == len(tokens), (grammar, text)
            # It ends here, and only here.
            assert demo.vocab.eos is not None
            sampler.accept(demo.vocab.eos)
            sampler.reset()
            with pytest.raises(GrammarError, match=f"token {demo.vocab.eos}"):
                sampler.accept(demo.vocab.eos)

    @given(grammars(), st.data())
    def test_not_what_was_changed(self, demo: llama_cy.Model, drawn: tuple[str, str], data: st.DataObject) -> None:
        grammar, text = drawn
        place = data.draw(st.integers(0, len(text)))
        # No grammar has this letter.
        tokens = spelt(demo, text[:place] + "Q" + text[place:])
        with Sampler.grammar(demo.vocab, grammar) as sampler:
            assert feed(sampler, tokens) < len(tokens), (grammar, text)

    def test_generation_is_of_the_grammar(self, context: llama_cy.Context) -> None:
        chain = SamplerChain(Sampler.grammar(context.vocab, YES_NO), Sampler.dist(1))
        for _ in range(5):
            done = context.complete("Is it?", chain, max_tokens=20)
            assert (done.text in {" yes", " no"}, done.finish_reason) == (True, "eog")

    def test_tokens_by_number_and_name(self, demo: llama_cy.Model) -> None:
        vocab = demo.vocab
        assert vocab.eos is not None
        with Sampler.grammar(vocab, f"root ::= <[{vocab.eos - 1}]> !<[7]>") as sampler:
            assert feed(sampler, [vocab.eos - 2]) == 0
            assert feed(sampler, [vocab.eos - 1, 7]) == 1
            assert feed(sampler, [8]) == 1


class TestRefuses:
    @given(
        st.one_of(st.binary(max_size=6), st.text(max_size=3).map(lambda text: text.encode("utf-8", "surrogatepass")))
    )
    def test_what_is_no_utf8(self, demo: llama_cy.Model, data: bytes) -> None:
        pieces = [demo.vocab.token_to_piece(token) for token in range(demo.vocab.n_tokens)]
        decoder = codecs.getincrementaldecoder("utf-8")()
        n_bytes = 0
        try:
            for byte in data.partition(b"\0")[0]:
                decoder.decode(bytes([byte]))
                n_bytes += 1
        except UnicodeDecodeError:
            pass
        with Sampler.grammar(demo.vocab, "root ::= .*") as sampler:
            assert feed(sampler, [pieces.index(bytes([byte])) for byte in data]) == n_bytes

    def test_without_a_trace(self, demo: llama_cy.Model) -> None:
        yes, no = (spelt(demo, text) for text in (" yes", " no"))
        with Sampler.grammar(demo.vocab, YES_NO) as sampler:
            for token in [*spelt(demo, " maybe")[:1], demo.vocab.eos or 0, demo.vocab.bos or 0]:
                with pytest.raises(GrammarError):
                    sampler.accept(token)
            assert feed(sampler, yes) == len(yes)
            sampler.reset()
            assert feed(sampler, no) == len(no)

    def test_where_nothing_is_left(self, context: llama_cy.Context) -> None:
        letter = context.vocab.tokenize("x")[-1]
        chain = SamplerChain(
            Sampler.logit_bias({token: -float("inf") for token in range(context.n_vocab) if token != letter}),
            Sampler.grammar(context.vocab, YES_NO),
            Sampler.greedy(),
        )
        loop = context.generate("Is it?", chain)
        for _ in range(2):
            with pytest.raises(GrammarError, match="allows none"):
                next(loop)
        assert (loop.tokens, loop.finish_reason) == ([], None)

    def test_other_vocabularies(self, demo: llama_cy.Model, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64, n_threads=1) as context, Sampler.grammar(demo.vocab, YES_NO) as sampler:
            context.decode([1])
            with pytest.raises(ValueError, match="made for a vocabulary"):
                sampler.sample(context)
        with pytest.raises(ValueError, match="made for a vocabulary"):
            SamplerChain(Sampler.grammar(demo.vocab, YES_NO), Sampler.grammar(tiny.vocab, YES_NO))

    def test_tokens_out_of_range(self, demo: llama_cy.Model) -> None:
        with Sampler.grammar(demo.vocab, YES_NO) as sampler, pytest.raises(ValueError, match="out of range"):
            sampler.accept(demo.vocab.n_tokens)


# Any three characters or more, which can be read in ever more ways.
AMBIGUOUS = 'root ::= (a a b+ "x"*)+\na ::= . root*\nb ::= .\n'


class TestAmbiguous:
    @given(st.text("axé日 ", min_size=1, max_size=60))
    def test_ways_meet(self, demo: llama_cy.Model, text: str) -> None:
        assert demo.vocab.eos is not None
        with Sampler.grammar(demo.vocab, AMBIGUOUS) as sampler:
            tokens = spelt(demo, text)
            assert feed(sampler, tokens) == len(tokens)
            n_chars = len(b"".join(map(demo.vocab.token_to_piece, tokens)).decode())
            assert feed(sampler, [demo.vocab.eos]) == (n_chars >= 3)

    @pytest.mark.parametrize("part", ['"x" | "x"', '"x"? "x"?', '"x" root | "x"', '"x"{0,3} [x-z]*'])
    def test_a_long_token_that_goes_wrong_at_its_end(self, part: str) -> None:
        source = """
        import sys
        import llama_cy
        from support.llama_models import write_llama
        from support.vocabulary import spm

        write_llama(sys.argv[1], vocab=spm(512, pieces=["x" * 60 + "?", "x" * 60]))
        vocab = llama_cy.Model(sys.argv[1], vocab_only=True).vocab
        pieces = [vocab.token_to_piece(token) for token in range(len(vocab))]
        wrong, right = pieces.index(b"x" * 60 + b"?"), pieces.index(b"x" * 60)
        sampler = llama_cy.Sampler.grammar(vocab, 'root ::= (%s)+ "!"' % sys.argv[2])
        candidates = llama_cy.Candidates([0.0] * len(vocab))
        sampler.apply(candidates)
        print(*(candidates.logits[[wrong, right]] == 0))
        """
        with tempfile.TemporaryDirectory() as folder:
            assert child.check_output(source, Path(folder) / "x.gguf", part) == "False True\n"

    def test_too_many_ways(self, demo: llama_cy.Model) -> None:
        rows = np.random.default_rng(0).standard_normal((400, demo.vocab.n_tokens), dtype=np.float32)
        with SamplerChain(Sampler.grammar(demo.vocab, AMBIGUOUS), Sampler.greedy()) as chain:
            for _ in range(2):
                with pytest.raises(GrammarError, match="too many ways"):
                    list(map(chain.sample_logits, rows))
                # Nothing was chosen, and one token is less to think about than all of them.
                with chain.clone() as twin:
                    twin.accept(rows[0].argmax())
                chain.accept(rows[0].argmax())
                chain.reset()
                assert chain.sample_logits(rows[0]) == rows[0].argmax()


class TestLazy:
    def test_pattern(self, context: llama_cy.Context) -> None:
        lazy = Sampler.grammar_lazy(context.vocab, 'root ::= "the" " q"+ "."', trigger_patterns=[" (the)$"])
        chain = SamplerChain(lazy, Sampler.greedy())
        done = context.complete("Once upon a time", chain, max_tokens=60)
        before, _, behind = done.text.partition(" the ")
        assert before
        assert set(behind) <= set("q .")

    def test_token(self, demo: llama_cy.Model) -> None:
        vocab = demo.vocab
        (trigger,) = vocab.tokenize("z")[-1:]
        text = vocab.token_to_piece(trigger).decode()
        with Sampler.grammar_lazy(vocab, f'root ::= "{text}" "b"', trigger_tokens=[trigger]) as sampler:
            free = spelt(demo, "Once upon a time")
            assert feed(sampler, free) == len(free)
            sampler.accept(trigger)
            assert feed(sampler, free) == 0
            sampler.reset()
            assert feed(sampler, free) == len(free)

    def test_what_triggered_it_is_not_of_the_grammar(self, context: llama_cy.Context) -> None:
        lazy = Sampler.grammar_lazy(context.vocab, 'root ::= "q"', trigger_patterns=["(the)"])
        chain = SamplerChain(lazy, Sampler.greedy())
        loop = context.generate("Once upon a time", chain)
        with pytest.raises(GrammarError, match="what triggered it"):
            list(loop)
        held = loop.tokens
        assert (
            context.memory.seq_pos_max()
            == len(context.vocab.tokenize("Once upon a time", add_special=True)) + len(held) - 1
        )
        with pytest.raises(GrammarError, match="reset"):
            chain.sample(context)
        chain.reset()
        chain.accept(context.vocab.tokenize("Once", add_special=False)[0])

    def test_nothing_to_trigger_it(self, demo: llama_cy.Model) -> None:
        with pytest.raises(ValueError, match="nothing to trigger"):
            Sampler.grammar_lazy(demo.vocab, YES_NO)


class TestLives:
    def test_without_its_model(self) -> None:
        model = llama_cy.demo_model()
        yes = spelt(model, " yes")
        samplers = [Sampler.grammar(model.vocab, YES_NO), Sampler.dry(model.vocab)]
        chain = SamplerChain(Sampler.grammar(model.vocab, YES_NO), Sampler.greedy())
        samplers.append(chain.clone())
        before = llama_cy.live_objects()["model"]
        del chain
        model.close()
        del model
        gc.collect()
        assert llama_cy.live_objects()["model"] == before
        for sampler in samplers:
            assert feed(sampler, yes) == len(yes)
            sampler.reset()
            sampler.close()
        del samplers, sampler
        assert llama_cy.live_objects()["model"] == before - 1

    def test_clone_goes_on(self, demo: llama_cy.Model) -> None:
        yes = spelt(demo, " yes and no")
        grammar = 'root ::= " yes and no"'

        def alone(one: Sampler) -> Sampler:
            return one

        def in_a_chain(one: Sampler) -> Sampler:
            return SamplerChain(Sampler.top_k(5), one, Sampler.greedy())

        for wrap in (alone, in_a_chain):
            sampler = wrap(Sampler.grammar(demo.vocab, grammar))
            sampler.accept(yes[0])
            twin = sampler.clone()
            fresh = wrap(Sampler.grammar(demo.vocab, grammar))
            assert feed(twin, yes) == 0
            assert feed(twin, yes[1:]) == len(yes) - 1
            fresh.copy(sampler)
            assert feed(fresh, yes) == 0
            assert feed(fresh, yes[1:]) == len(yes) - 1
            assert feed(sampler, yes[1:]) == len(yes) - 1

    def test_nothing_is_printed(self) -> None:
        source = """
        import llama_cy
        model = llama_cy.demo_model()
        for grammar in ("root ::= x", "root ::= root", "root ::= [", 'root ::= "a"'):
            try:
                sampler = llama_cy.Sampler.grammar(model.vocab, grammar)
                sampler.accept(model.vocab.eos)
            except llama_cy.GrammarError:
                pass
        """
        assert child.check_output(source) == ""
