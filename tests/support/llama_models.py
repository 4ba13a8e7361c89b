"""Random models of the llama architecture: dense or mixture of experts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from .model_writer import MetadataValue, ModelWriter, WeightType
from .vocabulary import Vocabulary, spm

__all__ = ["write_llama"]

LOGIT_STD = 3.0


def write_llama(
    path: str | os.PathLike[str],
    *,
    vocab: Vocabulary | None = None,
    n_layer: int = 2,
    n_embd: int = 64,
    n_head: int = 4,
    n_head_kv: int = 2,
    head_dim: int | None = None,
    n_ff: int = 96,
    n_ctx_train: int = 512,
    rope_freq_base: float = 10000.0,
    rms_eps: float = 1e-5,
    tied: bool = False,
    n_expert: int = 0,
    n_expert_used: int | None = None,
    weight_type: WeightType = "F32",
    seed: int = 0,
    metadata: Mapping[str, MetadataValue] | None = None,
) -> Path:
    """Write a llama model: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

    Parameters
    ----------
    path : path-like
        File to write.
    vocab : Vocabulary, optional
        Tokenizer; :func:`support.vocabulary.spm` unless given.
    n_layer, n_embd, n_head, n_head_kv, n_ff, n_ctx_train : int
        Sizes; ``n_head`` must be a multiple of ``n_head_kv``.
    head_dim : int, optional
        Width of one attention head, even; ``n_embd // n_head`` unless given.
    rope_freq_base, rms_eps : float
        Base of the rotary frequencies and the term under the root of the norm.
    tied : bool
        Whether the token embedding serves as the output matrix.
    n_expert, n_expert_used : int
        Experts in each layer and experts a token goes to (2 unless given); 0 experts is a dense model.
    weight_type, seed, metadata
        See :class:`support.model_writer.ModelWriter`.

    Returns
    -------
    Path
        ``path``.
    """
    if n_head % n_head_kv:
        raise ValueError(f"n_head={n_head} is not a multiple of n_head_kv={n_head_kv}")
    head_dim = n_embd // n_head if head_dim is None else head_dim
    if head_dim % 2:
        raise ValueError(f"head_dim={head_dim} is odd; rotary positions turn pairs")
    vocab = spm() if vocab is None else vocab
    model = ModelWriter(path, "llama", vocab=vocab, weight_type=weight_type, seed=seed, metadata=metadata)

    model.gguf.add_context_length(n_ctx_train)
    model.gguf.add_embedding_length(n_embd)
    model.gguf.add_block_count(n_layer)
    model.gguf.add_feed_forward_length(n_ff)
    model.gguf.add_head_count(n_head)
    model.gguf.add_head_count_kv(n_head_kv)
    model.gguf.add_key_length(head_dim)
    model.gguf.add_value_length(head_dim)
    model.gguf.add_rope_dimension_count(head_dim)
    model.gguf.add_rope_freq_base(rope_freq_base)
    model.gguf.add_layer_norm_rms_eps(rms_eps)
    if n_expert:
        model.gguf.add_expert_count(n_expert)
        model.gguf.add_expert_used_count(min(2, n_expert) if n_expert_used is None else n_expert_used)

    logit_std = LOGIT_STD / n_embd**0.5
    model.matrix("token_embd.weight", vocab.n_tokens, n_embd, std=logit_std)
    model.norm("output_norm.weight", n_embd)
    if not tied:
        model.matrix("output.weight", vocab.n_tokens, n_embd, std=logit_std)
    for layer in range(n_layer):
        block = f"blk.{layer}"
        model.norm(f"{block}.attn_norm.weight", n_embd)
        model.linear(f"{block}.attn_q.weight", n_head * head_dim, n_embd)
        model.linear(f"{block}.attn_k.weight", n_head_kv * head_dim, n_embd)
        model.linear(f"{block}.attn_v.weight", n_head_kv * head_dim, n_embd)
        model.linear(f"{block}.attn_output.weight", n_embd, n_head * head_dim, gain=2.0)
        model.norm(f"{block}.ffn_norm.weight", n_embd)
        if n_expert:
            # converters leave the router F32
            router = f"{block}.ffn_gate_inp.weight"
            model.tensor(router, 2.0 / n_embd**0.5 * model.normal(router, n_expert, n_embd))
            model.linear(f"{block}.ffn_gate_exps.weight", n_ff, n_embd, stack=n_expert)
            model.linear(f"{block}.ffn_up_exps.weight", n_ff, n_embd, stack=n_expert)
            model.linear(f"{block}.ffn_down_exps.weight", n_embd, n_ff, gain=2.0, stack=n_expert)
        else:
            model.linear(f"{block}.ffn_gate.weight", n_ff, n_embd)
            model.linear(f"{block}.ffn_up.weight", n_ff, n_embd)
            model.linear(f"{block}.ffn_down.weight", n_embd, n_ff, gain=2.0)
    return model.write()
