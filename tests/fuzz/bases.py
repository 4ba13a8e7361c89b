"""The files that mutants are made of: small models of several architectures and vocabularies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from gguf import TokenType
from support.encoder_models import write_bert, write_t5
from support.gemma_models import write_gemma3, write_gemma_embedding
from support.llama_models import write_llama
from support.lora import random_lora, write_lora
from support.recurrent_models import write_jamba, write_lfm2, write_mamba
from support.vocabulary import Vocabulary, bpe, no_vocab, spm

__all__ = ["ADAPTED", "ADAPTERS", "MODELS", "write_bases"]


def rwkv() -> Vocabulary:
    """Return a vocabulary of every byte and a few words, escaped as RWKV's are."""
    texts = ["<s>", *(f"\\x{byte:02x}" for byte in range(256)), "the", " the", "\\n\\n", "once"]
    return Vocabulary(
        model="rwkv",
        n_tokens=len(texts),
        tokens=tuple(texts),
        types=(TokenType.NORMAL,) * len(texts),
        scores=(0.0,) * len(texts),
    )


def plamo2() -> Vocabulary:
    """Return a vocabulary with byte fallback and a few words."""
    texts = ["<unk>", "<s>", "</s>", "<pad>", *(f"<0x{byte:02X}>" for byte in range(256)), "a", "b", "ab", "the", "€"]
    special = [TokenType.UNKNOWN, *[TokenType.CONTROL] * 3, *[TokenType.BYTE] * 256]
    return Vocabulary(
        model="plamo2",
        n_tokens=len(texts),
        tokens=tuple(texts),
        types=(*special, *[TokenType.NORMAL] * (len(texts) - len(special))),
        scores=tuple(-float(i) for i in range(len(texts))),
        special_ids={"bos": 1, "eos": 2, "unknown": 0, "padding": 3},
    )


MODELS: Mapping[str, Callable[[Path], Path]] = {
    "llama": lambda path: write_llama(path, n_layer=1, n_ff=64),
    "llama-moe": lambda path: write_llama(path, n_layer=1, n_expert=4, n_expert_used=2),
    "llama-q8": lambda path: write_llama(path, n_layer=1, weight_type="Q8_0"),
    "llama-q4": lambda path: write_llama(path, n_layer=1, weight_type="Q4_0"),
    "llama-special": lambda path: write_llama(
        path, n_layer=1, vocab=spm(special=("<|im_end|>",), user_defined=("<tool>",)), tied=True,
        metadata={"tokenizer.chat_template": "{{ messages }}"},
    ),
    "llama-bpe": lambda path: write_llama(path, n_layer=1, vocab=bpe(special=("<|im_end|>",))),
    "llama-gemma4": lambda path: write_llama(
        path, n_layer=1, vocab=bpe(), metadata={"tokenizer.ggml.model": "gemma4"}
    ),
    "llama-rwkv": lambda path: write_llama(path, n_layer=1, vocab=rwkv()),
    "llama-plamo2": lambda path: write_llama(path, n_layer=1, vocab=plamo2()),
    "llama-no-vocab": lambda path: write_llama(path, n_layer=1, vocab=no_vocab(300)),
    "gemma3": write_gemma3,
    "gemma-embedding": write_gemma_embedding,
    "mamba": write_mamba,
    "jamba": write_jamba,
    "lfm2": write_lfm2,
    "bert": write_bert,
    "bert-labels": lambda path: write_bert(path, labels=["yes", "no"]),
    "t5": write_t5,
}  # fmt: skip

# Name of the model that the adapters are for.
ADAPTED = "llama"
SHAPES = {"blk.0.attn_q.weight": (64, 64), "blk.0.ffn_down.weight": (64, 64), "output.weight": (395, 64)}
ADAPTERS: Mapping[str, Callable[[Path], Path]] = {
    "lora": lambda path: write_lora(path, random_lora(SHAPES), alpha=4.0),
    "lora-embedding": lambda path: write_lora(
        path, {"token_embd.weight": (np.ones((395, 2), np.float32), np.ones((64, 2), np.float32))}
    ),
    "alora": lambda path: write_lora(
        path, random_lora(SHAPES), metadata={"adapter.alora.invocation_tokens": [5, 6, 7]}
    ),
}


def write_bases(folder: Path) -> None:
    """Write all of them, once."""
    for name, write in {**MODELS, **ADAPTERS}.items():
        path = folder / f"{name}.gguf"
        if not path.exists():
            part = path.with_suffix(".part")
            write(part)
            part.rename(path)
