"""What a grammar leaves at each step of a text is what llama.cpp's own sampler leaves."""

from __future__ import annotations

import codecs
import random
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fuzz.grammars import GRAMMARS as EVERYTHING
from hypothesis import given
from hypothesis import strategies as st
from support.extension import build_extension, import_extension
from support.grammars import grammars
from support.vocab_files import vocab_files

import llama_cy
from llama_cy import GrammarError, Sampler, Vocab

EXAMPLES = Path(__file__).parents[2] / "vendor" / "llama.cpp" / "grammars"
GRAMMARS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(EXAMPLES.glob("*.gbnf"))} | {
    **EVERYTHING,
    "ways": 'root ::= ([a-z]+ | "a" [a-z]* | .) (" " [^\\n]* | "é"?)* "\\n"',
    "nested": 'root ::= "(" root? ")" | [ab] root | "[" (root ("," root)*)? "]"',
    "empty parts": 'root ::= a b c\na ::= x? y?\nb ::= a? "b"?\nc ::= ("c" b){0,3} a\nx ::= "x" | ""\ny ::= x "y" | x',
    "scripts": "root ::= [а-яё]+ ([^а-я]{1,3} | [日-本] .)* | [\U0001f600-\U0001f64f]+",
    "excluded": "root ::= ([^é日\U0001f642] | [\\x00-\\x1F])*",
    "last of tail": 'root ::= "a" b\nb ::= "b" c | c\nc ::= "c" b | d\nd ::= "d" | "" ',
}
# GPT-2's tokens hold bytes; SPM's have tokens for bytes; the last one's tokens are many and long.
VOCABULARIES = ("gpt-2", "llama-spm", "llama-bpe")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return import_extension(
        build_extension(Path(__file__).with_name("llama_grammar.pyx"), tmp_path_factory.mktemp("gbnf"))
    )


@pytest.fixture(scope="module", params=VOCABULARIES)
def vocab(request: pytest.FixtureRequest) -> Vocab:
    (path,) = [file.path for file in vocab_files() if file.name == request.param]
    return llama_cy.Model(path, vocab_only=True).vocab


def left(sampler: Sampler, vocab: Vocab, tokens: Sequence[int]) -> list[int]:
    candidates = llama_cy.Candidates(np.zeros(len(tokens), dtype=np.float32))
    candidates.ids[:] = tokens
    sampler.apply(candidates)
    return [int(token) for token in candidates.ids[np.isfinite(candidates.logits)]]


def unfinished(data: bytes) -> bytes | None:
    """Return the bytes of the last character, if some are missing; None if it can't become UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(data)
    except UnicodeDecodeError:
        return None
    return decoder.getstate()[0]


def may_follow(vocab: Vocab, text: bytes, token: int) -> bool:
    """Tell whether a token goes on with a text in UTF-8, or ends it; llama.cpp does not ask."""
    return not text if vocab.is_eog(token) else unfinished(text + vocab.token_to_piece(token)) is not None


def walk(oracle: Any, sampler: Sampler, vocab: Vocab, draw: random.Random, *, n_steps: int, every: int = 1) -> bytes:
    """Go on with tokens that are left, comparing all that are left in front of each."""
    text = b""
    for _ in range(n_steps):
        rest = unfinished(text)
        assert rest is not None
        # Few are read one by one.
        for tokens in (sorted(draw.sample(range(vocab.n_tokens), 50)), range(0, vocab.n_tokens, every)):
            want = [token for token in oracle.allowed(tokens) if may_follow(vocab, rest, token)]
            assert left(sampler, vocab, tokens) == want, text
        on = [token for token in want if not vocab.is_eog(token)]
        if not on:
            break
        drawn = draw.sample(on, min(4, len(on)))
        pieces = {token: vocab.token_to_piece(token) for token in drawn}
        # Parts of characters are rare among many tokens, and short pieces among long ones.
        token = min(drawn, key=lambda token: (not unfinished(rest + pieces[token]), len(pieces[token]) * draw.random()))
        text += pieces[token]
        oracle.accept(token)
        sampler.accept(token)
    return text


@pytest.mark.parametrize("name", GRAMMARS)
def test_large_vocabularies(theirs: ModuleType, vocab: Vocab, name: str) -> None:
    grammar = GRAMMARS[name]
    oracle = theirs.LlamaGrammar(vocab, grammar.encode())
    every = 1 + vocab.n_tokens // 20_000
    with Sampler.grammar(vocab, grammar) as sampler:
        for seed in range(2):
            walk(oracle, sampler, vocab, random.Random(seed), n_steps=5, every=every)
            oracle.reset()
            sampler.reset()


@given(grammars(), st.randoms(use_true_random=False))
def test_grammars_at_random(
    theirs: ModuleType, demo: llama_cy.Model, drawn: tuple[str, str], draw: random.Random
) -> None:
    grammar, _ = drawn
    oracle = theirs.LlamaGrammar(demo.vocab, grammar.encode())
    with Sampler.grammar(demo.vocab, grammar) as sampler:
        walk(oracle, sampler, demo.vocab, draw, n_steps=12)
        with sampler.clone() as twin, Sampler.grammar(demo.vocab, grammar) as other:
            other.copy(sampler)
            tokens = range(demo.vocab.n_tokens)
            assert (
                left(twin, demo.vocab, tokens) == left(other, demo.vocab, tokens) == left(sampler, demo.vocab, tokens)
            )


def test_what_llama_cpp_leaves_and_then_refuses(theirs: ModuleType, demo: llama_cy.Model) -> None:
    vocab = demo.vocab
    pieces = [vocab.token_to_piece(token) for token in range(vocab.n_tokens)]
    # A token by its number, where another one is not at its end.
    longer = [token for token, piece in enumerate(pieces) if piece.startswith(b"a") and len(piece) > 1]
    oracle = theirs.LlamaGrammar(vocab, b'root ::= "a" !<[0]>')
    assert longer
    assert oracle.allowed(longer) == longer
    with pytest.raises(RuntimeError, match="Unexpected empty grammar stack"):
        oracle.accept(longer[0])
    with Sampler.grammar(vocab, 'root ::= "a" !<[0]>') as sampler:
        assert left(sampler, vocab, longer) == []
        sampler.accept(pieces.index(b"a"))
        assert left(sampler, vocab, longer) == longer


LAZY = {
    "a group": ('root ::= "b" [a-z]* " "? .*', "a(b+)c"),
    "no group": ("root ::= [a-e ]+", "[cd] ?e"),
    "a group that is empty": ("root ::= .+", "(x*)(e)"),
    "all of it": ("root ::= [^e]* .", "^[\\s\\S]*?(e[\\s\\S]*)$"),
    "within a character": ("root ::= [^a]+", "(\xc3\xa9|e)"),
}


@given(draw=st.randoms(use_true_random=False))
@pytest.mark.parametrize("name", LAZY)
def test_triggers(theirs: ModuleType, demo: llama_cy.Model, name: str, draw: random.Random) -> None:
    vocab = demo.vocab
    grammar, pattern = LAZY[name]
    token = vocab.tokenize("d", add_special=False)[-1] if draw.random() < 0.3 else None
    oracle = theirs.LlamaGrammar(vocab, grammar.encode(), pattern.encode(), token)
    patterns, triggers = [pattern], [] if token is None else [token]
    tokens = range(vocab.n_tokens)
    with Sampler.grammar_lazy(vocab, grammar, trigger_patterns=patterns, trigger_tokens=triggers) as sampler:
        for _ in range(12):
            want = oracle.allowed(tokens)
            if len(want) < len(tokens):
                want = [one for one in want if may_follow(vocab, b"", one)]
            assert left(sampler, vocab, tokens) == want
            short = [one for one in want if len(vocab.token_to_piece(one)) < 4 and not vocab.is_eog(one)]
            short = [one for one in short if unfinished(vocab.token_to_piece(one)) == b""]
            if not short:
                break
            one = draw.choice(short)
            try:
                oracle.accept(one)
            except RuntimeError:
                with pytest.raises(GrammarError, match="what triggered it"):
                    sampler.accept(one)
                break
            sampler.accept(one)
