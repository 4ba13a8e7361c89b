"""Random models of the gemma family: a sliding-window decoder and an embedding encoder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from gguf import PoolingType

from .model_writer import MetadataValue, ModelWriter, WeightType
from .vocabulary import Vocabulary, spm

__all__ = ["add_feed_forward", "write_gemma3", "write_gemma_embedding"]


def write_gemma3(
    path: str | os.PathLike[str],
    *,
    vocab: Vocabulary | None = None,
    n_layer: int = 2,
    n_embd: int = 64,
    n_head: int = 4,
    n_head_kv: int = 2,
    head_dim: int = 16,
    n_ff: int = 96,
    n_ctx_train: int = 512,
    n_swa: int = 8,
    swa_pattern: int = 2,
    weight_type: WeightType = "F32",
    seed: int = 0,
    metadata: Mapping[str, MetadataValue] | None = None,
) -> Path:
    """Write a gemma3 decoder; its layers see ``n_swa`` tokens back, and every ``swa_pattern``-th one sees all.

    The other parameters are those of :func:`support.llama_models.write_llama`.
    """
    vocab = spm() if vocab is None else vocab
    return _write(
        ModelWriter(path, "gemma3", vocab=vocab, weight_type=weight_type, seed=seed, metadata=metadata),
        n_vocab=vocab.n_tokens,
        n_layer=n_layer,
        n_embd=n_embd,
        n_head=n_head,
        n_head_kv=n_head_kv,
        head_dim=head_dim,
        n_ff=n_ff,
        n_ctx_train=n_ctx_train,
        n_swa=n_swa,
        swa_pattern=swa_pattern,
    )


def write_gemma_embedding(
    path: str | os.PathLike[str],
    *,
    vocab: Vocabulary | None = None,
    n_layer: int = 2,
    n_embd: int = 64,
    n_head: int = 4,
    n_head_kv: int = 2,
    head_dim: int = 16,
    n_ff: int = 96,
    n_ctx_train: int = 512,
    n_swa: int = 8,
    swa_pattern: int = 2,
    pooling_type: PoolingType = PoolingType.MEAN,
    weight_type: WeightType = "F32",
    seed: int = 0,
    metadata: Mapping[str, MetadataValue] | None = None,
) -> Path:
    """Write an embedding model of the gemma family: it sees both ways, keeps no memory and gives no logits.

    The parameters are those of :func:`write_gemma3`, and ``pooling_type`` is the default of its contexts.
    """
    vocab = spm() if vocab is None else vocab
    return _write(
        ModelWriter(path, "gemma-embedding", vocab=vocab, weight_type=weight_type, seed=seed, metadata=metadata),
        n_vocab=vocab.n_tokens,
        n_layer=n_layer,
        n_embd=n_embd,
        n_head=n_head,
        n_head_kv=n_head_kv,
        head_dim=head_dim,
        n_ff=n_ff,
        n_ctx_train=n_ctx_train,
        n_swa=n_swa,
        swa_pattern=swa_pattern,
        pooling_type=pooling_type,
    )


def _write(
    model: ModelWriter,
    *,
    n_vocab: int,
    n_layer: int,
    n_embd: int,
    n_head: int,
    n_head_kv: int,
    head_dim: int,
    n_ff: int,
    n_ctx_train: int,
    n_swa: int,
    swa_pattern: int,
    pooling_type: PoolingType | None = None,
) -> Path:
    model.gguf.add_context_length(n_ctx_train)
    model.gguf.add_embedding_length(n_embd)
    model.gguf.add_block_count(n_layer)
    model.gguf.add_feed_forward_length(n_ff)
    model.gguf.add_head_count(n_head)
    model.gguf.add_head_count_kv(n_head_kv)
    model.gguf.add_key_length(head_dim)
    model.gguf.add_value_length(head_dim)
    model.gguf.add_rope_freq_base(1e6)
    model.gguf.add_layer_norm_rms_eps(1e-6)
    model.gguf.add_sliding_window(n_swa)
    model.gguf.add_sliding_window_pattern(swa_pattern)
    if pooling_type is not None:
        model.gguf.add_pooling_type(pooling_type)

    # the input is scaled by the root of n_embd, so this embedding enters the layers with size 1
    model.linear("token_embd.weight", n_vocab, n_embd)
    model.norm("output_norm.weight", n_embd, gain=3.0)
    for layer in range(n_layer):
        block = f"blk.{layer}"
        model.norm(f"{block}.attn_norm.weight", n_embd)
        model.linear(f"{block}.attn_q.weight", n_head * head_dim, n_embd)
        model.linear(f"{block}.attn_k.weight", n_head_kv * head_dim, n_embd)
        model.linear(f"{block}.attn_v.weight", n_head_kv * head_dim, n_embd)
        model.linear(f"{block}.attn_output.weight", n_embd, n_head * head_dim)
        model.norm(f"{block}.attn_q_norm.weight", head_dim)
        model.norm(f"{block}.attn_k_norm.weight", head_dim)
        add_feed_forward(model, block, n_embd, n_ff)
    return model.write()


def add_feed_forward(model: ModelWriter, block: str, n_embd: int, n_ff: int) -> None:
    """Add the feed-forward weights of a block, between the norms of both branches."""
    # branches larger than the embedding, or the tied output would repeat the last token for ever
    model.norm(f"{block}.post_attention_norm.weight", n_embd, gain=2.0)
    model.norm(f"{block}.ffn_norm.weight", n_embd)
    model.linear(f"{block}.ffn_gate.weight", n_ff, n_embd)
    model.linear(f"{block}.ffn_up.weight", n_ff, n_embd)
    model.linear(f"{block}.ffn_down.weight", n_embd, n_ff)
    model.norm(f"{block}.post_ffw_norm.weight", n_embd, gain=2.0)
