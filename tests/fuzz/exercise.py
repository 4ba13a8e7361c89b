"""Do with a mutant whatever a program could do with the file."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import llama_cy

__all__ = ["REFUSALS", "exercise_adapter", "exercise_grammar", "exercise_model", "exercise_state"]

# What may be raised, by a load and by anything that follows a load.
REFUSALS = (llama_cy.LlamaError, ValueError, MemoryError)
# Of a snapshot, up to its checksum: magic, origin, sequence, flags, positions; tokens and bytes of state.
HEAD_SIZE = 8 + 32 + 4 * 4 + 4 + 8
TEXT = "Once upon a time, the 日本 🙂 <|im_end|>\n\n <tool> don't 123\t"


def tokens_for(model: llama_cy.Model) -> list[int]:
    """Return a few tokens that are within the vocabulary."""
    n = model.vocab.n_tokens
    return [token % n for token in (1, 5, n - 1, 17, 2)]


def look(model: llama_cy.Model) -> None:
    """Read all that a model tells."""
    for name in dir(llama_cy.Model):
        if not name.startswith("_"):
            with suppress(*REFUSALS):
                getattr(model, name)
    repr(model)
    vocab = model.vocab
    for name in dir(llama_cy.Vocab):
        if not name.startswith("_"):
            with suppress(*REFUSALS):
                getattr(vocab, name)
    for text in (TEXT, "", "\n", "\x00a", b"\xff\xfe"):
        for add_special, parse_special in ((True, True), (False, False)):
            with suppress(*REFUSALS):
                tokens = vocab.tokenize(text, add_special=add_special, parse_special=parse_special)
                vocab.detokenize(tokens)
    for token in {*range(min(8, vocab.n_tokens)), vocab.n_tokens - 1} - {-1}:
        with suppress(*REFUSALS):
            vocab.token_to_piece(token)
            vocab.get_text(token)
            vocab.get_score(token)
            vocab.get_attr(token)
            vocab.is_eog(token)


def compute(context: llama_cy.Context) -> None:
    """Decode, sample, save and restore."""
    tokens = tokens_for(context.model)
    if context.model.has_encoder:
        context.encode(tokens)
    if not context.model.has_decoder and context.model.has_encoder:
        return
    context.decode(tokens)
    with suppress(*REFUSALS):
        context.logits(-1)
    with suppress(*REFUSALS):
        context.embeddings_seq(0)
    with suppress(*REFUSALS):
        for _ in islice(context.generate(None, llama_cy.sampling(seed=1, top_k=5)), 3):
            pass
    with suppress(*REFUSALS):
        context.memory.seq_rm(0, 2, 4)
        context.memory.seq_add(0, 1, -1, 1)
        context.decode(tokens[:1])
    with suppress(*REFUSALS):
        saved = context.state.get()
        context.memory.clear()
        context.state.set(saved)
        context.decode(tokens[:1])


def contexts(model: llama_cy.Model, n_threads: int) -> Iterator[llama_cy.Context]:
    """Give contexts of several kinds."""
    kinds: tuple[dict[str, Any], ...] = ({}, {"embeddings": True, "n_seq_max": 2, "kv_unified": True})
    for params in kinds:
        with suppress(*REFUSALS), model.context(n_ctx=64, n_batch=32, n_threads=n_threads, **params) as context:
            yield context


def exercise_model(path: Path, trusted: bool, n_threads: int) -> None:
    """Load a model and use it; a refusal to load is raised."""
    params: dict[str, Any] = {} if trusted else {"trusted": False}
    with llama_cy.Model(path, n_gpu_layers=0, **params) as model:
        look(model)
        for context in contexts(model, n_threads):
            with suppress(*REFUSALS):
                compute(context)
    with suppress(*REFUSALS):
        llama_cy.Model(path, vocab_only=True).close()


def exercise_adapter(path: Path, model: llama_cy.Model, n_threads: int) -> None:
    """Load an adapter and compute with it."""
    with llama_cy.LoraAdapter(model, path) as adapter:
        for name in dir(llama_cy.LoraAdapter):
            if not name.startswith("_"):
                with suppress(*REFUSALS):
                    getattr(adapter, name)
        with model.context(n_ctx=64, n_batch=32, n_threads=n_threads) as context:
            context.set_adapters([adapter])
            with suppress(*REFUSALS):
                compute(context)


def exercise_grammar(text: str, model: llama_cy.Model, seed: int) -> None:
    """Sample by a grammar, and tell it tokens that it may not allow, at once and behind a trigger."""
    vocab = model.vocab
    behind_a_trigger = partial(llama_cy.Sampler.grammar_lazy, trigger_patterns=["[ab]+"], trigger_tokens=[5])
    rows = 3 * np.random.default_rng(seed).standard_normal((12, vocab.n_tokens), dtype=np.float32)
    for make in (llama_cy.Sampler.grammar, behind_a_trigger):
        with llama_cy.SamplerChain(make(vocab, text), llama_cy.Sampler.greedy()) as chain:
            for _ in range(2):
                with suppress(*REFUSALS):
                    for row in rows:
                        chain.sample_logits(row)
                chain.reset()
            for token in rows.argmax(axis=1):
                with suppress(*REFUSALS):
                    chain.accept(token)
            chain.clone().close()


def exercise_state(data: bytes, context: llama_cy.Context) -> None:
    """Restore a state and compute with it."""
    context.memory.clear()
    try:
        context.state.set(data)
    finally:
        if context.model.has_encoder:
            context.encode([1, 2, 3])
        context.decode([1, 2])
        context.memory.clear()


def resigned(data: bytes) -> bytes:
    """Give a mutated state the length and the checksum that it ought to have."""
    head, body = data[:HEAD_SIZE].ljust(HEAD_SIZE, b"\0"), data[HEAD_SIZE + 4 :]
    n_tokens = min(int.from_bytes(head[56:60], "little"), len(body) // 4)
    head = head[:56] + struct.pack("<IQ", n_tokens, len(body) - 4 * n_tokens)
    return head + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body
