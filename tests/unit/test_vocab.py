"""What a vocabulary tells about its tokens, against the metadata that it was written from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.encoder_models import write_bert
from support.llama_models import write_llama
from support.vocabulary import SPACE, Vocabulary, spm

import llama_cy
from llama_cy import TokenAttr, VocabType

# Attribute, key in the file, text of the token.
NAMED = {
    "bos": ("bos", "<s>"),
    "eos": ("eos", "</s>"),
    "eot": ("eot", "<turn>"),
    "sep": ("seperator", "<sep>"),
    "pad": ("padding", "<pad>"),
    "mask": ("mask", "<mask>"),
    "fim_pre": ("fim_pre", "<pre>"),
    "fim_suf": ("fim_suf", "<suf>"),
    "fim_mid": ("fim_mid", "<mid>"),
    "fim_pad": ("fim_pad", "<hole>"),
    "fim_rep": ("fim_rep", "<repo>"),
    "fim_sep": ("fim_sep", "<file>"),
}


def named() -> Vocabulary:
    plain = spm(special=[text for _, text in NAMED.values() if text not in ("<s>", "</s>")], user_defined=["<ours>"])
    ids = {key: plain.id_of(text) for key, text in NAMED.values()}
    flags = {"add_bos_token": False, "add_eos_token": True, "add_sep_token": True, "add_space_prefix": True}
    return dataclasses.replace(plain, special_ids=ids, flags=flags)


VOCABULARY = named()


@pytest.fixture(scope="module")
def vocab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[llama_cy.Vocab]:
    path = tmp_path_factory.mktemp("vocab") / "named.gguf"
    write_llama(path, vocab=VOCABULARY, metadata={"tokenizer.ggml.suppress_tokens": [5, 7, 300]})
    with llama_cy.Model(path, vocab_only=True) as model:
        yield model.vocab


@pytest.mark.parametrize("name", NAMED)
def test_named_token(vocab: llama_cy.Vocab, name: str) -> None:
    assert getattr(vocab, name) == VOCABULARY.id_of(NAMED[name][1])


def test_newline(vocab: llama_cy.Vocab) -> None:
    assert vocab.nl == VOCABULARY.id_of("<0x0A>")
    assert vocab.token_to_piece(vocab.nl) == b"\n"


def test_what_is_put_around_a_text(vocab: llama_cy.Vocab, tiny: llama_cy.Model) -> None:
    assert (vocab.add_bos, vocab.add_eos, vocab.add_sep) == (False, True, True)
    assert (tiny.vocab.add_bos, tiny.vocab.add_eos, tiny.vocab.add_sep) == (True, False, False)
    assert vocab.tokenize("a")[-1] == vocab.eos


def test_missing_tokens_are_none(tmp_path: Path) -> None:
    bare = dataclasses.replace(spm(), special_ids={"bos": 1, "eos": 2, "unknown": 0})
    with llama_cy.Model(write_llama(tmp_path / "bare.gguf", vocab=bare), vocab_only=True) as model:
        for name in NAMED.keys() - {"bos", "eos"}:
            assert getattr(model.vocab, name) is None, name
        assert model.vocab.suppress_tokens == ()


def test_suppress_tokens(vocab: llama_cy.Vocab) -> None:
    assert vocab.suppress_tokens == (5, 7, 300)


def test_each_token(vocab: llama_cy.Vocab) -> None:
    kinds = {
        1: TokenAttr.NORMAL,
        2: TokenAttr.UNKNOWN,
        3: TokenAttr.CONTROL,
        4: TokenAttr.USER_DEFINED,
        6: TokenAttr.BYTE,
    }
    for token, (text, kind, score) in enumerate(
        zip(VOCABULARY.tokens, VOCABULARY.types, VOCABULARY.scores, strict=True)
    ):
        assert vocab.get_text(token) == text
        assert vocab.get_score(token) == score
        assert vocab.get_attr(token) == kinds[int(kind)]
        assert vocab.is_control(token) == (int(kind) == 3)


def test_end_of_generation(vocab: llama_cy.Vocab) -> None:
    ends = {token for token in range(len(vocab)) if vocab.is_eog(token)}
    # Where a file is over, so is what is asked of the model there.
    assert {vocab.eos, vocab.eot, vocab.fim_pad, vocab.fim_rep, vocab.fim_sep} == ends


def test_pieces(vocab: llama_cy.Vocab) -> None:
    word = VOCABULARY.id_of(f"{SPACE}the")
    assert vocab.token_to_piece(word) == b" the"
    assert vocab.token_to_piece(word, lstrip=1) == b"the"
    mask = VOCABULARY.id_of("<mask>")
    assert vocab.token_to_piece(mask) == b""
    assert vocab.token_to_piece(mask, special=True) == b"<mask>"
    assert vocab.token_to_piece(VOCABULARY.id_of("<0xE4>")) == b"\xe4"


def test_detokenize_cleans_on_request(vocab: llama_cy.Vocab) -> None:
    tokens = vocab.tokenize("the cat", add_special=False)
    assert vocab.detokenize(tokens) == " the cat"
    assert vocab.detokenize(tokens, clean_spaces=True) == "the cat"
    mask = VOCABULARY.id_of("<mask>")
    assert vocab.detokenize([mask, *tokens], clean_spaces=True, unparse_special=True).startswith("<mask>")


def test_type(vocab: llama_cy.Vocab, tmp_path: Path) -> None:
    assert vocab.type == VocabType.SPM
    with llama_cy.Model(write_bert(tmp_path / "bert.gguf"), vocab_only=True) as model:
        assert model.vocab.type == VocabType.WPM
        assert (model.vocab.sep, model.vocab.mask, model.vocab.pad) == (3, 4, 0)


@pytest.mark.parametrize("name", ["get_text", "get_score", "get_attr", "is_eog", "is_control", "token_to_piece"])
@pytest.mark.parametrize("token", [-1, len(VOCABULARY.tokens), 2**31, -(2**31), 2**40])
def test_token_out_of_range(vocab: llama_cy.Vocab, name: str, token: int) -> None:
    with pytest.raises(ValueError, match=rf"token {token} is out of range \[0, {len(vocab)}\)"):
        getattr(vocab, name)(token)


@pytest.mark.parametrize("token", [None, "a", 1.5, b"a"])
def test_what_is_no_token(vocab: llama_cy.Vocab, token: Any) -> None:
    with pytest.raises(TypeError, match="a token is an integer"):
        vocab.get_text(token)
