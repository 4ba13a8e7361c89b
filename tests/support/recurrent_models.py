"""Random models with recurrent state: mamba (nothing else), jamba and lfm2 (next to attention)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .model_writer import MetadataValue, ModelWriter, WeightType
from .vocabulary import Vocabulary, spm

__all__ = ["write_jamba", "write_lfm2", "write_mamba"]

D_CONV = 4
LOGIT_GAIN = 3.0


def write_mamba(
    path: str | os.PathLike[str],
    *,
    vocab: Vocabulary | None = None,
    n_layer: int = 2,
    n_embd: int = 64,
    d_state: int = 8,
    dt_rank: int = 4,
    n_ctx_train: int = 512,
    weight_type: WeightType = "F32",
    seed: int = 0,
    metadata: Mapping[str, MetadataValue] | None = None,
) -> Path:
    """Write a mamba model: its whole memory is a recurrent state, of which no part can be removed.

    ``d_state`` and ``dt_rank`` are the sizes of the state and of the time-step projection (Gu and Dao 2023); the
    other parameters are those of :func:`support.llama_models.write_llama`.
    """
    vocab = spm() if vocab is None else vocab
    model = ModelWriter(path, "mamba", vocab=vocab, weight_type=weight_type, seed=seed, metadata=metadata)
    model.gguf.add_context_length(n_ctx_train)
    model.gguf.add_embedding_length(n_embd)
    model.gguf.add_block_count(n_layer)
    model.gguf.add_feed_forward_length(0)
    model.gguf.add_head_count(0)
    model.gguf.add_layer_norm_rms_eps(1e-5)
    _add_state_sizes(model, n_embd, d_state, dt_rank)

    _add_input_and_output(model, vocab, n_embd)
    for layer in range(n_layer):
        model.norm(f"blk.{layer}.attn_norm.weight", n_embd)
        _add_state_space(model, layer, n_embd, d_state, dt_rank)
    return model.write()


def write_jamba(
    path: str | os.PathLike[str],
    *,
    vocab: Vocabulary | None = None,
    n_layer: int = 4,
    n_embd: int = 64,
    n_head: int = 4,
    n_head_kv: int = 2,
    n_ff: int = 96,
    d_state: int = 8,
    dt_rank: int = 4,
    n_ctx_train: int = 512,
    weight_type: WeightType = "F32",
    seed: int = 0,
    metadata: Mapping[str, MetadataValue] | None = None,
) -> Path:
    """Write a jamba model: mamba layers, and attention without positions in every odd layer.

    The parameters are those of :func:`write_mamba` and :func:`support.llama_models.write_llama`.
    """
    vocab = spm() if vocab is None else vocab
    model = ModelWriter(path, "jamba", vocab=vocab, weight_type=weight_type, seed=seed, metadata=metadata)
    model.gguf.add_context_length(n_ctx_train)
    model.gguf.add_embedding_length(n_embd)
    model.gguf.add_block_count(n_layer)
    model.gguf.add_feed_forward_length(n_ff)
    model.gguf.add_head_count(n_head)
    model.gguf.add_head_count_kv(_attention_in_odd_layers(n_layer, n_head_kv))
    model.gguf.add_layer_norm_rms_eps(1e-5)
    _add_state_sizes(model, n_embd, d_state, dt_rank)

    _add_input_and_output(model, vocab, n_embd)
    for layer in range(n_layer):
        block = f"blk.{layer}"
        model.norm(f"{block}.attn_norm.weight", n_embd)
        if layer % 2:
            _add_attention(model, layer, n_embd, n_head, n_head_kv)
        else:
            _add_state_space(model, layer, n_embd, d_state, dt_rank)
            model.norm(f"{block}.ssm_dt_norm.weight", dt_rank)
            model.norm(f"{block}.ssm_b_norm.weight", d_state)
            model.norm(f"{block}.ssm_c_norm.weight", d_state)
        _add_feed_forward(model, layer, n_embd, n_ff)
    return model.write()


def write_lfm2(
    path: str | os.PathLike[str],
    *,
    vocab: Vocabulary | None = None,
    n_layer: int = 4,
    n_embd: int = 64,
    n_head: int = 4,
    n_head_kv: int = 2,
    n_ff: int = 96,
    n_shortconv_l_cache: int = 3,
    n_ctx_train: int = 512,
    weight_type: WeightType = "F32",
    seed: int = 0,
    metadata: Mapping[str, MetadataValue] | None = None,
) -> Path:
    """Write an lfm2 model: short convolutions, and attention in every odd layer; its state can be rolled back.

    ``n_shortconv_l_cache`` is the width of the convolution; the other parameters are those of
    :func:`support.llama_models.write_llama`.
    """
    vocab = spm() if vocab is None else vocab
    model = ModelWriter(path, "lfm2", vocab=vocab, weight_type=weight_type, seed=seed, metadata=metadata)
    model.gguf.add_context_length(n_ctx_train)
    model.gguf.add_embedding_length(n_embd)
    model.gguf.add_block_count(n_layer)
    model.gguf.add_feed_forward_length(n_ff)
    model.gguf.add_head_count(n_head)
    model.gguf.add_head_count_kv(_attention_in_odd_layers(n_layer, n_head_kv))
    model.gguf.add_rope_freq_base(1e6)
    model.gguf.add_layer_norm_rms_eps(1e-5)
    model.gguf.add_shortconv_l_cache(n_shortconv_l_cache)

    model.linear("token_embd.weight", vocab.n_tokens, n_embd, gain=LOGIT_GAIN)
    model.norm("token_embd_norm.weight", n_embd)  # the output norm, under the name lfm2 files give it
    model.linear("output.weight", vocab.n_tokens, n_embd, gain=LOGIT_GAIN)
    for layer in range(n_layer):
        block = f"blk.{layer}"
        model.norm(f"{block}.attn_norm.weight", n_embd)
        if layer % 2:
            _add_attention(model, layer, n_embd, n_head, n_head_kv)
            model.norm(f"{block}.attn_q_norm.weight", n_embd // n_head)
            model.norm(f"{block}.attn_k_norm.weight", n_embd // n_head)
        else:
            kernel = f"{block}.shortconv.conv.weight"
            model.tensor(kernel, model.normal(kernel, n_embd, n_shortconv_l_cache))
            model.linear(f"{block}.shortconv.in_proj.weight", 3 * n_embd, n_embd)
            model.linear(f"{block}.shortconv.out_proj.weight", n_embd, n_embd)
        _add_feed_forward(model, layer, n_embd, n_ff)
    return model.write()


def _attention_in_odd_layers(n_layer: int, n_head_kv: int) -> list[int]:
    """Return the key-value heads of each layer; a layer with none is recurrent."""
    if n_layer < 2:
        raise ValueError(f"n_layer={n_layer}: a hybrid model needs 2 layers or more")
    return [n_head_kv if layer % 2 else 0 for layer in range(n_layer)]


def _add_input_and_output(model: ModelWriter, vocab: Vocabulary, n_embd: int) -> None:
    model.linear("token_embd.weight", vocab.n_tokens, n_embd, gain=LOGIT_GAIN)
    model.norm("output_norm.weight", n_embd)
    model.linear("output.weight", vocab.n_tokens, n_embd, gain=LOGIT_GAIN)


def _add_attention(model: ModelWriter, layer: int, n_embd: int, n_head: int, n_head_kv: int) -> None:
    n_embd_kv = n_embd // n_head * n_head_kv
    model.linear(f"blk.{layer}.attn_q.weight", n_embd, n_embd)
    model.linear(f"blk.{layer}.attn_k.weight", n_embd_kv, n_embd)
    model.linear(f"blk.{layer}.attn_v.weight", n_embd_kv, n_embd)
    model.linear(f"blk.{layer}.attn_output.weight", n_embd, n_embd, gain=2.0)


def _add_feed_forward(model: ModelWriter, layer: int, n_embd: int, n_ff: int) -> None:
    model.norm(f"blk.{layer}.ffn_norm.weight", n_embd)
    model.linear(f"blk.{layer}.ffn_gate.weight", n_ff, n_embd)
    model.linear(f"blk.{layer}.ffn_up.weight", n_ff, n_embd)
    model.linear(f"blk.{layer}.ffn_down.weight", n_embd, n_ff, gain=2.0)


def _add_state_sizes(model: ModelWriter, n_embd: int, d_state: int, dt_rank: int) -> None:
    model.gguf.add_ssm_conv_kernel(D_CONV)
    model.gguf.add_ssm_inner_size(2 * n_embd)
    model.gguf.add_ssm_state_size(d_state)
    model.gguf.add_ssm_time_step_rank(dt_rank)


def _add_state_space(model: ModelWriter, layer: int, n_embd: int, d_state: int, dt_rank: int) -> None:
    """Add one selective state-space block, started as Gu and Dao (2023) start it: decays of 1 to ``d_state``."""
    block = f"blk.{layer}"
    d_inner = 2 * n_embd
    model.linear(f"{block}.ssm_in.weight", 2 * d_inner, n_embd)
    kernel = f"{block}.ssm_conv1d.weight"
    model.tensor(kernel, model.normal(kernel, d_inner, D_CONV))
    model.bias(f"{block}.ssm_conv1d.bias", d_inner)
    model.linear(f"{block}.ssm_x.weight", dt_rank + 2 * d_state, d_inner)
    time_step = f"{block}.ssm_dt.weight"
    model.tensor(time_step, model.normal(time_step, d_inner, dt_rank) / dt_rank**0.5)
    model.bias(f"{block}.ssm_dt.bias", d_inner)
    model.tensor(f"{block}.ssm_a", np.tile(-np.arange(1, d_state + 1, dtype=np.float32), (d_inner, 1)))
    model.norm(f"{block}.ssm_d", d_inner)
    model.linear(f"{block}.ssm_out.weight", n_embd, d_inner, gain=2.0)
