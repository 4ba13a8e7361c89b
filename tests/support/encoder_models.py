"""Random models with an encoder: bert, with a classifier if wanted, and t5, which decodes as well."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from gguf import PoolingType

from .model_writer import MetadataValue, ModelWriter, WeightType
from .vocabulary import Vocabulary, ugm, wpm

__all__ = ["write_bert", "write_t5"]


def write_bert(
    path: str | os.PathLike[str],
    *,
    vocab: Vocabulary | None = None,
    n_layer: int = 2,
    n_embd: int = 64,
    n_head: int = 4,
    n_ff: int = 96,
    n_ctx_train: int = 128,
    pooling_type: PoolingType = PoolingType.MEAN,
    labels: Sequence[str] | None = None,
    weight_type: WeightType = "F32",
    seed: int = 0,
    metadata: Mapping[str, MetadataValue] | None = None,
) -> Path:
    """Write a bert encoder: it sees both ways, keeps no memory and gives no logits.

    Parameters
    ----------
    path, n_layer, n_embd, n_head, n_ff, weight_type, seed, metadata
        See :func:`support.llama_models.write_llama`.
    vocab : Vocabulary, optional
        Tokenizer; :func:`support.vocabulary.wpm` unless given.
    n_ctx_train : int
        Number of learned positions; a longer input is an error.
    pooling_type : PoolingType
        Default of its contexts.
    labels : sequence of str, optional
        Adds a classifier with one output for each label, read with ``PoolingType.RANK``; an empty sequence adds one
        output without a label, as rerankers have.

    Returns
    -------
    Path
        ``path``.
    """
    vocab = wpm() if vocab is None else vocab
    model = ModelWriter(path, "bert", vocab=vocab, weight_type=weight_type, seed=seed, metadata=metadata)
    model.gguf.add_context_length(n_ctx_train)
    model.gguf.add_embedding_length(n_embd)
    model.gguf.add_block_count(n_layer)
    model.gguf.add_feed_forward_length(n_ff)
    model.gguf.add_head_count(n_head)
    model.gguf.add_layer_norm_eps(1e-12)
    model.gguf.add_causal_attention(False)
    model.gguf.add_pooling_type(pooling_type)
    model.gguf.add_token_type_count(2)
    if labels:
        model.gguf.add_classifier_output_labels(labels)

    model.matrix("token_embd.weight", vocab.n_tokens, n_embd, std=1.0)
    token_types = "token_types.weight"
    model.tensor(token_types, model.normal(token_types, 2, n_embd))
    positions = "position_embd.weight"
    model.tensor(positions, model.normal(positions, n_ctx_train, n_embd))
    model.norm("token_embd_norm.weight", n_embd)
    model.bias("token_embd_norm.bias", n_embd)
    for layer in range(n_layer):
        block = f"blk.{layer}"
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            model.linear(f"{block}.{part}.weight", n_embd, n_embd)
            model.bias(f"{block}.{part}.bias", n_embd)
        model.linear(f"{block}.ffn_up.weight", n_ff, n_embd)
        model.bias(f"{block}.ffn_up.bias", n_ff)
        model.linear(f"{block}.ffn_down.weight", n_embd, n_ff)
        model.bias(f"{block}.ffn_down.bias", n_embd)
        for part in ("attn_output_norm", "layer_output_norm"):
            model.norm(f"{block}.{part}.weight", n_embd)
            model.bias(f"{block}.{part}.bias", n_embd)
    if labels is not None:
        n_cls_out = len(labels) or 1
        model.linear("cls.weight", n_embd, n_embd)
        model.bias("cls.bias", n_embd)
        model.linear("cls.output.weight", n_cls_out, n_embd, gain=3.0)
        model.bias("cls.output.bias", n_cls_out)
    return model.write()


def write_t5(
    path: str | os.PathLike[str],
    *,
    vocab: Vocabulary | None = None,
    n_layer: int = 2,
    dec_n_layer: int = 2,
    n_embd: int = 64,
    n_head: int = 4,
    head_dim: int = 16,
    n_ff: int = 96,
    n_rel_attn_bkts: int = 8,
    n_ctx_train: int = 512,
    weight_type: WeightType = "F32",
    seed: int = 0,
    metadata: Mapping[str, MetadataValue] | None = None,
) -> Path:
    """Write a t5 encoder-decoder: encode the source, then decode from ``<pad>``, its decoder start token.

    ``dec_n_layer`` counts the decoder's layers, ``n_rel_attn_bkts`` the buckets of relative distance; ``vocab`` is
    :func:`support.vocabulary.ugm` unless given; the other parameters are those of
    :func:`support.llama_models.write_llama`.
    """
    vocab = ugm() if vocab is None else vocab
    model = ModelWriter(path, "t5", vocab=vocab, weight_type=weight_type, seed=seed, metadata=metadata)
    model.gguf.add_context_length(n_ctx_train)
    model.gguf.add_embedding_length(n_embd)
    model.gguf.add_block_count(n_layer)
    model.gguf.add_decoder_block_count(dec_n_layer)
    model.gguf.add_feed_forward_length(n_ff)
    model.gguf.add_head_count(n_head)
    model.gguf.add_key_length(head_dim)
    model.gguf.add_value_length(head_dim)
    model.gguf.add_layer_norm_rms_eps(1e-6)
    model.gguf.add_relative_attn_buckets_count(n_rel_attn_bkts)
    model.gguf.add_decoder_start_token_id(vocab.special_ids["padding"])

    model.linear("token_embd.weight", vocab.n_tokens, n_embd, gain=3.0)
    model.linear("output.weight", vocab.n_tokens, n_embd, gain=3.0)
    for side, count in (("enc", n_layer), ("dec", dec_n_layer)):
        model.norm(f"{side}.output_norm.weight", n_embd)
        for layer in range(count):
            block = f"{side}.blk.{layer}"
            _add_t5_attention(model, f"{block}.attn", n_embd, n_head * head_dim, head_dim)
            if layer == 0:  # the later layers share the first one's distances
                distances = f"{block}.attn_rel_b.weight"
                model.tensor(distances, model.normal(distances, n_rel_attn_bkts, n_head))
            if side == "dec":
                _add_t5_attention(model, f"{block}.cross_attn", n_embd, n_head * head_dim, head_dim)
            model.norm(f"{block}.ffn_norm.weight", n_embd)
            model.linear(f"{block}.ffn_gate.weight", n_ff, n_embd)
            model.linear(f"{block}.ffn_up.weight", n_ff, n_embd)
            model.linear(f"{block}.ffn_down.weight", n_embd, n_ff, gain=2.0)
    return model.write()


def _add_t5_attention(model: ModelWriter, name: str, n_embd: int, n_embd_heads: int, head_dim: int) -> None:
    model.norm(f"{name}_norm.weight", n_embd)
    # t5 does not scale the scores, so the query carries the usual factor
    model.linear(f"{name}_q.weight", n_embd_heads, n_embd, gain=head_dim**-0.5)
    model.linear(f"{name}_k.weight", n_embd_heads, n_embd)
    model.linear(f"{name}_v.weight", n_embd_heads, n_embd)
    model.linear(f"{name}_o.weight", n_embd, n_embd_heads, gain=2.0)
