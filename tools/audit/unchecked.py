"""Functions that index, loop or recurse by what they are given without an assert: no pattern finds them, so they are listed."""

# ruff: noqa: E501 - a pattern is easier to read on one line
from __future__ import annotations

from typing import NamedTuple

__all__ = ["UNCHECKED", "Unchecked"]


class Unchecked(NamedTuple):
    """A function that takes something for granted, and what sees to it, as ``file:word``."""

    file: str
    function: str
    granted: str
    where: str


UNCHECKED = (
    Unchecked("src/llama-vocab.cpp", "llama_vocab::impl::is_control", "the token's range", "llama_cy/vocab.pyx:token"),
    Unchecked("src/llama-vocab.cpp", "llama_vocab::impl::is_byte", "the token's range", "llama_cy/vocab.pyx:token"),
    Unchecked("src/llama-vocab.cpp", "llama_vocab::impl::detokenize", "the tokens' range", "llama_cy/vocab.pyx:collect"),
    Unchecked(
        "src/llama-vocab.cpp", "llm_tokenizer_rwkv_session::tokenize", "that each byte that begins a token is one",
        "llama_cy/gguf_vocab.pyx:check_first_bytes",
    ),
    Unchecked(
        "src/llama-vocab.cpp", "naive_trie::insert", "that texts are short: it goes a call deeper for each byte",
        "llama_cy/gguf_vocab.pyx:MAX_TRIE_TEXT",
    ),
    Unchecked(
        "src/llama-vocab.cpp", "llm_tokenizer_plamo2::build", "that texts are short: it takes the third power of their length",
        "llama_cy/gguf_vocab.pyx:MAX_PLAMO2_WORK",
    ),
    Unchecked(
        "src/llama-sampler.cpp", "llama_token_data_array_partial_sort", "that logits are numbers: NaN has no order",
        "llama_cy/kernels/row.h:domain_error",
    ),
    Unchecked("src/llama-batch.cpp", "llama_batch_allocr::init", "sequences below the limit", "llama_cy/batch.pyx:seq_ids"),
    Unchecked("src/llama-hparams.cpp", "llama_hparams::n_gqa", "that heads go into one another", "llama_cy/gguf_rules.py:RANGES"),
    Unchecked("src/models/rwkv6-base.cpp", "llm_build_rwkv6_base::build_rwkv6_time_mix", "a head size to divide by", "llama_cy/gguf_rules.py:wkv.head_size"),
    Unchecked("src/models/mamba-base.cpp", "llm_build_mamba_base::build_mamba2_layer", "heads and groups to divide by", "llama_cy/gguf_rules.py:ssm.group_count"),
    Unchecked("src/models/qwen35.cpp", "llama_model_qwen35::load_arch_hparams", "an interval to divide by", "llama_cy/gguf_rules.py:full_attention_interval"),
    Unchecked("src/models/t5.cpp", "llama_model_t5::load_arch_tensors", "that there are so many decoder blocks", "llama_cy/gguf_rules.py:decoder_block_count"),
    Unchecked("src/llama-context.cpp", "llama_context::get_logits_ith", "that a row was computed", "llama_cy/outputs.pyx:row"),
    Unchecked("ggml/src/ggml-cpu/ops.cpp", "ggml_compute_forward_group_norm_f32", "groups to divide by", "llama_cy/gguf_rules.py:attention.group_norm_groups"),
    Unchecked(
        "ggml/src/ggml-cpu/ops.cpp", "ggml_compute_forward_argsort_f32", "that numbers are numbers; NaN among a file's weights "
        "is found where it is not trusted", "llama_cy/loading.pyx:check_tensors = True",
    ),
)  # fmt: skip
