"""Random models with a head that predicts the token after the next one (MTP)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .gemma_models import add_feed_forward
from .model_writer import MetadataValue, ModelWriter
from .recurrent_models import LOGIT_GAIN
from .vocabulary import Vocabulary, spm

__all__ = ["write_gemma4", "write_gemma4_assistant", "write_qwen35"]

D_CONV, D_STATE, N_K_HEADS, N_V_HEADS = 4, 16, 2, 4
# Of the gemma4 pair.
N_HEAD, N_SWA = 4, 8


def write_qwen35(
    path: str | os.PathLike[str],
    *,
    vocab: Vocabulary | None = None,
    n_layer: int = 2,
    n_embd: int = 64,
    n_head: int = 4,
    n_head_kv: int = 2,
    n_ff: int = 96,
    n_ctx_train: int = 512,
    eh_proj: NDArray[np.float32] | None = None,
    seed: int = 0,
    metadata: Mapping[str, MetadataValue] | None = None,
) -> Path:
    """Write a qwen35 model: a gated delta net in even layers, attention in odd ones, and its MTP block behind them.

    ``eh_proj`` of shape ``(n_embd, 2 * n_embd)`` makes the block give just this map of the token's embedding and the
    hidden state before it, without attention and feed-forward network. The other parameters are those of
    :func:`support.llama_models.write_llama`.
    """
    vocab = spm() if vocab is None else vocab
    head_dim = n_embd // n_head
    model = ModelWriter(path, "qwen35", vocab=vocab, seed=seed, metadata=metadata)
    gguf = model.gguf
    gguf.add_context_length(n_ctx_train)
    gguf.add_embedding_length(n_embd)
    gguf.add_block_count(n_layer + 1)
    gguf.add_nextn_predict_layers(1)
    gguf.add_feed_forward_length(n_ff)
    gguf.add_head_count(n_head)
    gguf.add_head_count_kv(n_head_kv)
    gguf.add_rope_freq_base(1e6)
    gguf.add_rope_dimension_sections([head_dim // 4, head_dim // 8, head_dim // 8, 0])
    gguf.add_layer_norm_rms_eps(1e-5)
    gguf.add_full_attention_interval(2)
    gguf.add_ssm_conv_kernel(D_CONV)
    gguf.add_ssm_inner_size(N_V_HEADS * D_STATE)
    gguf.add_ssm_state_size(D_STATE)
    gguf.add_ssm_time_step_rank(N_V_HEADS)
    gguf.add_ssm_group_count(N_K_HEADS)

    model.linear("token_embd.weight", vocab.n_tokens, n_embd, gain=LOGIT_GAIN)
    model.norm("output_norm.weight", n_embd)
    model.linear("output.weight", vocab.n_tokens, n_embd, gain=LOGIT_GAIN)
    for layer in range(n_layer + 1):
        block = f"blk.{layer}"
        still = layer == n_layer and eh_proj is not None
        model.norm(f"{block}.attn_norm.weight", n_embd)
        model.norm(f"{block}.post_attention_norm.weight", n_embd)
        if layer % 2 == 0 and layer < n_layer:
            _add_delta_net(model, block, n_embd)
        else:
            model.linear(f"{block}.attn_q.weight", 2 * n_embd, n_embd)  # the queries and their gate
            model.linear(f"{block}.attn_k.weight", head_dim * n_head_kv, n_embd)
            model.linear(f"{block}.attn_v.weight", head_dim * n_head_kv, n_embd)
            model.linear(f"{block}.attn_output.weight", n_embd, n_embd, gain=0.0 if still else 2.0)
            model.norm(f"{block}.attn_q_norm.weight", head_dim)
            model.norm(f"{block}.attn_k_norm.weight", head_dim)
        model.linear(f"{block}.ffn_gate.weight", n_ff, n_embd)
        model.linear(f"{block}.ffn_up.weight", n_ff, n_embd)
        model.linear(f"{block}.ffn_down.weight", n_embd, n_ff, gain=0.0 if still else 2.0)
    if eh_proj is None:
        model.linear(f"{block}.nextn.eh_proj.weight", n_embd, 2 * n_embd)
    else:
        model.tensor(f"{block}.nextn.eh_proj.weight", eh_proj)
    for name in ("enorm", "hnorm", "shared_head_norm"):
        model.norm(f"{block}.nextn.{name}.weight", n_embd)
    return model.write()


def _add_delta_net(model: ModelWriter, block: str, n_embd: int) -> None:
    """Add the linear attention of Yang et al. (2024), with decays around a half."""
    n_value = N_V_HEADS * D_STATE
    n_conv = 2 * N_K_HEADS * D_STATE + n_value
    model.linear(f"{block}.attn_qkv.weight", n_conv, n_embd)
    model.linear(f"{block}.attn_gate.weight", n_value, n_embd)
    kernel = f"{block}.ssm_conv1d.weight"
    model.tensor(kernel, model.normal(kernel, n_conv, D_CONV))
    model.bias(f"{block}.ssm_dt.bias", N_V_HEADS)
    model.tensor(f"{block}.ssm_a", -1.0 - 0.1 * model.normal(f"{block}.ssm_a", N_V_HEADS))
    model.linear(f"{block}.ssm_beta.weight", N_V_HEADS, n_embd)
    model.linear(f"{block}.ssm_alpha.weight", N_V_HEADS, n_embd)
    model.norm(f"{block}.ssm_norm.weight", D_STATE)
    model.linear(f"{block}.ssm_out.weight", n_embd, n_value, gain=2.0)


def write_gemma4(path: str | os.PathLike[str], *, n_embd: int = 64, n_head_kv: int = 2, head_dim: int = 16) -> Path:
    """Write a gemma4 model of two layers: one sees ``N_SWA`` tokens back, the other all."""
    model = _begin_gemma4(path, "gemma4", n_embd=n_embd, n_head_kv=n_head_kv, head_dim=head_dim, seed=0)
    model.gguf.add_embedding_length_per_layer_input(0)
    for layer in range(2):
        block = f"blk.{layer}"
        model.linear(f"{block}.attn_k.weight", n_head_kv * head_dim, n_embd)
        model.linear(f"{block}.attn_v.weight", n_head_kv * head_dim, n_embd)
        model.norm(f"{block}.attn_k_norm.weight", head_dim)
    return model.write()


def write_gemma4_assistant(
    path: str | os.PathLike[str],
    *,
    n_embd: int = 32,
    n_embd_out: int = 64,
    n_head_kv: int = 2,
    head_dim: int = 16,
) -> Path:
    """Write what drafts for :func:`write_gemma4`: it attends to the keys and values of that model.

    ``n_embd_out`` is the width of the model that it drafts for; the other parameters are its own.
    """
    model = _begin_gemma4(path, "gemma4-assistant", n_embd=n_embd, n_head_kv=n_head_kv, head_dim=head_dim, seed=1)
    model.gguf.add_nextn_predict_layers(2)
    model.gguf.add_embedding_length_out(n_embd_out)
    model.linear("nextn.pre_projection.weight", n_embd, 2 * n_embd_out)
    model.linear("nextn.post_projection.weight", n_embd_out, n_embd)
    return model.write()


def _begin_gemma4(
    path: str | os.PathLike[str], arch: str, *, n_embd: int, n_head_kv: int, head_dim: int, seed: int
) -> ModelWriter:
    """Add the sizes and weights that both have."""
    vocab = spm()
    n_ff = 3 * n_embd // 2
    model = ModelWriter(path, arch, vocab=vocab, seed=seed)
    gguf = model.gguf
    gguf.add_context_length(512)
    gguf.add_embedding_length(n_embd)
    gguf.add_block_count(2)
    gguf.add_feed_forward_length(n_ff)
    gguf.add_head_count(N_HEAD)
    gguf.add_head_count_kv(n_head_kv)
    for add in (gguf.add_key_length, gguf.add_value_length, gguf.add_key_length_swa, gguf.add_value_length_swa):
        add(head_dim)
    gguf.add_rope_freq_base(1e6)
    gguf.add_layer_norm_rms_eps(1e-6)
    gguf.add_sliding_window(N_SWA)
    gguf.add_sliding_window_pattern([True, False])
    model.linear("token_embd.weight", vocab.n_tokens, n_embd)
    model.norm("output_norm.weight", n_embd, gain=3.0)
    model.tensor("rope_freqs.weight", np.ones(head_dim // 2, np.float32))
    for layer in range(2):
        block = f"blk.{layer}"
        model.norm(f"{block}.attn_norm.weight", n_embd)
        model.linear(f"{block}.attn_q.weight", N_HEAD * head_dim, n_embd)
        model.linear(f"{block}.attn_output.weight", n_embd, N_HEAD * head_dim)
        model.norm(f"{block}.attn_q_norm.weight", head_dim)
        add_feed_forward(model, block, n_embd, n_ff)
        model.tensor(f"{block}.layer_output_scale.weight", np.ones(1, np.float32))
    return model
