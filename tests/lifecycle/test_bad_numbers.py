"""Models whose numbers or tokens lead nowhere, and states that lie: an exception at the call that meets them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from fuzz.operations import Recipe, apply
from support.child import check_output
from support.llama_models import write_llama
from support.vocabulary import bpe

import llama_cy

NAN, INFINITY = "0000c07f", "0000807f"

SAMPLE = """
import sys
import llama_cy
from llama_cy import Sampler, SamplerChain
with llama_cy.Model(sys.argv[1], n_gpu_layers=0) as model, model.context(n_ctx=64, n_threads=1) as context:
    context.decode([1, 2, 3])
    chain = [Sampler.penalties(8, 1.1), Sampler.top_k(40), Sampler.top_p(0.9), Sampler.min_p(0.1), Sampler.temp(0.8)]
    for sampler in (Sampler.greedy(), Sampler.dist(1), SamplerChain(*chain, Sampler.dist(1))):
        for attempt in (lambda: sampler.sample(context), lambda: next(context.generate(None, sampler))):
            try:
                attempt()
            except ValueError as error:
                print(error)
    print(context.logits().shape)
"""


@pytest.mark.parametrize("number", [NAN, INFINITY])
def test_logits_that_are_no_numbers(tmp_path: Path, number: str) -> None:
    path = write_llama(tmp_path / "nan.gguf")
    path.write_bytes(
        apply(path.read_bytes(), [("data", "output.weight", 0, number), ("data", "output_norm.weight", 0, number)])
    )
    told = "the model computed NaN or infinity for a logit; there is nothing to choose among\n"
    assert check_output(SAMPLE, path) == 6 * told + "(395,)\n"


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        ([("set", "tokenizer.ggml.model", 8, "gemma4"), ("drop", "tokenizer.ggml.bos_token_id")], "BOS"),
        (
            [
                ("set", "tokenizer.ggml.model", 8, "gemma4"),
                ("drop", "tokenizer.ggml.eos_token_id"),
                ("set", "tokenizer.ggml.add_eos_token", 7, 1),
            ],
            "EOS",
        ),
    ],
)
def test_a_token_that_is_wanted_and_is_not_there(tmp_path: Path, recipe: Recipe, name: str) -> None:
    path = write_llama(tmp_path / "no-bos.gguf", vocab=bpe())
    path.write_bytes(apply(path.read_bytes(), recipe))
    with llama_cy.Model(path, n_gpu_layers=0) as model:
        for text in ("once", ""):
            with pytest.raises(ValueError, match=f"wants {name} to be added .* add_special=False"):
                model.vocab.tokenize(text)
        assert model.vocab.tokenize("once", add_special=False)
        with model.context(n_ctx=64) as context, pytest.raises(ValueError, match=f"wants {name}"):
            context.complete("once")


def test_a_byte_that_no_token_is(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "no-byte.gguf")
    path.write_bytes(apply(path.read_bytes(), [("item", "tokenizer.ggml.tokens", 3 + 0xC3, "gone")]))
    with llama_cy.Model(path, n_gpu_layers=0) as model:
        with pytest.raises(ValueError, match="can't tokenize the text"):
            model.vocab.tokenize("é")
        assert model.vocab.tokenize("once")


def signed(data: bytes, body: bytes) -> bytes:
    """Return a state with another body, whose length and checksum are right.

    At its head are 60 bytes, the length of the body and the checksum; between it and the body are the tokens.
    """
    tokens = data[72 : 72 + 4 * struct.unpack_from("<I", data, 56)[0]]
    head = data[:60] + struct.pack("<Q", len(body))
    return head + struct.pack("<I", zlib.crc32(tokens + body, zlib.crc32(head))) + tokens + body


def test_states_that_lie(tiny: llama_cy.Model) -> None:
    with tiny.context(n_ctx=64) as context:
        context.decode([1, 2, 3])
        saved = context.state.get()
        body = saved[72 + 4 * 3 :]
        assert signed(saved, body) == saved
        for lie in (b"", b"\0", body[:3], struct.pack("<I", len(body) - 3) + body[4:], b"\xff\xff\xff\xff" + body[4:]):
            with pytest.raises(llama_cy.StateError, match="do not hold the name of an architecture"):
                context.state.set(signed(saved, lie))
        # Refused before llama.cpp saw it, so that nothing was lost.
        assert context.memory.seq_pos_max(0) == 2
        context.state.set(saved)
        context.decode([4])
