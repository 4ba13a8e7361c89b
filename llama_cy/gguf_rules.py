"""What llama.cpp takes for granted of a model's numbers: ranges, where another number ends in a trap or without an end.

llama.cpp checks many itself, and throws; here are those that it divides by, counts loops and graphs with, allocates
with, or asserts on in the midst of a computation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

MAX_LAYERS = 512
INT32_MAX = 2**31 - 1
LARGE = 2**24

# By the part of the key behind the architecture's name; for an array, the range of each item.
RANGES: dict[str, tuple[int, int]] = {
    "context_length": (0, INT32_MAX),
    "vocab_size": (1, LARGE),
    "embedding_length": (1, LARGE),
    "embedding_length_out": (0, LARGE),
    "embedding_length_per_layer_input": (0, LARGE),
    "features_length": (1, LARGE),
    "block_count": (1, MAX_LAYERS),
    "decoder_block_count": (1, MAX_LAYERS),
    "leading_dense_block_count": (0, MAX_LAYERS),
    "nextn_predict_layers": (0, MAX_LAYERS),
    "attn_res.block_size": (0, LARGE),
    "feed_forward_length": (0, LARGE),
    "expert_feed_forward_length": (0, LARGE),
    "expert_shared_feed_forward_length": (0, LARGE),
    "expert_chunk_feed_forward_length": (0, LARGE),
    "expert_count": (0, 1024),
    "expert_used_count": (0, 1024),
    "expert_shared_count": (0, 1024),
    "expert_group_count": (0, 1024),
    "expert_group_used_count": (0, 1024),
    "expert_latent_length": (0, LARGE),
    "experts_per_group": (1, 1024),
    "moe_latent_size": (0, LARGE),
    "n_deepstack_layers": (0, 64),
    "full_attention_interval": (1, MAX_LAYERS),
    "num_loops": (1, MAX_LAYERS),
    "hrm.layers_per_stack": (1, MAX_LAYERS),
    "hrm.h_cycles": (1, 64),
    "hrm.l_cycles": (1, 64),
    "token_shift_count": (0, 64),
    "time_mix_extra_dim": (0, LARGE),
    "time_decay_extra_dim": (0, LARGE),
    "pooling_type": (0, 4),
    "classifier.pooling_type": (0, 4),
    "attention.head_count": (0, 2**16),
    "attention.head_count_kv": (0, 2**16),
    "attention.key_length": (1, 2**16),
    "attention.value_length": (1, 2**16),
    "attention.key_length_swa": (1, 2**16),
    "attention.value_length_swa": (1, 2**16),
    "attention.key_length_mla": (0, 2**16),
    "attention.value_length_mla": (0, 2**16),
    "attention.key_length_mla_swa": (0, 2**16),
    "attention.value_length_mla_swa": (0, 2**16),
    "attention.group_norm_groups": (1, 2**16),
    "attention.relative_buckets_count": (2, 2**16),
    "attention.sliding_window": (0, 2**22),
    "attention.output_group_count": (1, 2**16),
    "attention.output_lora_rank": (0, LARGE),
    "attention.q_lora_rank": (0, LARGE),
    "attention.kv_lora_rank": (0, LARGE),
    "attention.kv_lora_rank_swa": (0, LARGE),
    "attention.decay_lora_rank": (0, LARGE),
    "attention.iclr_lora_rank": (0, LARGE),
    "attention.value_residual_mix_lora_rank": (0, LARGE),
    "attention.gate_lora_rank": (0, LARGE),
    "attention.shared_kv_layers": (0, MAX_LAYERS),
    "attention.compress_ratios": (0, LARGE),
    "attention.indexer.head_count": (0, 2**16),
    "attention.indexer.key_length": (0, 2**16),
    "attention.indexer.top_k": (0, LARGE),
    "attention.indexer.block_size": (1, LARGE),
    "attention.indexer.local_blocks": (0, LARGE),
    "attention.indexer.kpool": (0, LARGE),
    "hyper_connection.count": (0, 64),
    "hyper_connection.sinkhorn_iterations": (0, 256),
    "hyper_connection.low_rank": (0, LARGE),
    "rope.dimension_count": (0, 2**16),
    "rope.dimension_count_swa": (0, 2**16),
    "rope.dimension_sections": (0, 2**16),
    "rope.scaling.original_context_length": (0, INT32_MAX),
    "ssm.conv_kernel": (1, 2**16),
    "ssm.inner_size": (1, LARGE),
    "ssm.state_size": (1, LARGE),
    "ssm.time_step_rank": (1, LARGE),
    "ssm.group_count": (1, LARGE),
    "kda.head_dim": (1, 2**16),
    "wkv.head_size": (1, LARGE),
    "posnet.embedding_length": (1, LARGE),
    "posnet.block_count": (0, MAX_LAYERS),
    "convnext.embedding_length": (1, LARGE),
    "convnext.block_count": (0, MAX_LAYERS),
    "shortconv.l_cache": (2, 2**16),
    "adapters.count": (0, 2**16),
    "adapters.lora_rank": (0, LARGE),
    "ple.ngram_size": (0, 64),
    "ple.heads_per_ngram": (0, 64),
    "ple.conv_kernel": (0, 2**16),
    "block_size": (1, LARGE),
    "conv_kernel_size": (1, 2**16),
    "conv_group_size": (1, LARGE),
    "selector_rank": (0, LARGE),
    "selector_top_k": (0, LARGE),
    "dense_2_feat_in": (0, LARGE),
    "dense_2_feat_out": (0, LARGE),
    "dense_3_feat_in": (0, LARGE),
    "dense_3_feat_out": (0, LARGE),
}
# Where an architecture divides by what others may leave at zero.
FOR_ONE: dict[tuple[str, str], tuple[int, int]] = {
    ("ernie4_5-moe", "interleave_moe_layer_step"): (1, MAX_LAYERS),
}
# Models that llama.cpp itself saves have these as zero wherever they mean nothing; only these architectures read them.
DELTA = ("bailingmoe3", "glm5-next", "kimi-k3", "kimi-linear")
STATE_SPACE = (
    *("falcon-h1", "granitehybrid", "mamba2", "nemotron_h", "nemotron_h_moe", "plamo2"),
    *("qwen3next", "qwen35", "qwen35moe", "qwen4exp"),
)
READ_BY: dict[str, tuple[str, ...]] = {
    "experts_per_group": ("grovemoe",),
    "decoder_block_count": ("t5", "t5encoder"),
    "hrm.layers_per_stack": ("hrm_text",),
    "hrm.h_cycles": ("hrm_text",),
    "hrm.l_cycles": ("hrm_text",),
    "attention.group_norm_groups": ("wavtokenizer-dec",),
    "attention.relative_buckets_count": ("t5", "t5encoder"),
    "attention.indexer.block_size": ("minimax-m3",),
    "attention.output_group_count": ("deepseek4", "dflash"),
    "ssm.conv_kernel": (*STATE_SPACE, *DELTA, "jamba", "mamba"),
    "ssm.inner_size": (*STATE_SPACE, "jamba", "mamba"),
    "ssm.state_size": (*STATE_SPACE, "jamba", "mamba"),
    "ssm.time_step_rank": (*STATE_SPACE, "jamba", "mamba"),
    "ssm.group_count": STATE_SPACE,
    "kda.head_dim": DELTA,
    "wkv.head_size": ("rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"),
    "posnet.embedding_length": ("wavtokenizer-dec",),
    "convnext.embedding_length": ("wavtokenizer-dec",),
    "shortconv.l_cache": ("lfm2", "lfm2moe"),
}
# What it writes for a pooling that a model does not prescribe.
UNSPECIFIED = 2**32 - 1
# These have layers without attention, and may have no heads at all.
HEADLESS = ("mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7")
NO_ROPE = (
    *("gpt2", "gptj", "mpt", "refact", "bloom", "jamba", "jina-bert-v2", "t5", "t5encoder", "jais", "wavtokenizer-dec"),
    *("nemotron_h", "nemotron_h_moe", "kimi-linear", "kimi-k3", "glm5-next", *HEADLESS),
)
# These rotate by sections of the head whatever the file says.
SECTIONED = (
    *("qwen2vl", "paddleocr", "qwen3vl", "qwen3vlmoe"),
    *("qwen35", "qwen35moe", "qwen4exp", "qwen3tts"),
)
EPSILONS = ("layer_norm_epsilon", "layer_norm_rms_epsilon", "group_norm_epsilon")

# Tensors that are added, multiplied element by element, or convolved with: in 32 bits, as the activations are.
ELEMENTWISE = re.compile(
    r"""(.*\.)?(
        \w*norm(\d|_\w+)? | enorm | hnorm | [\w.]*_base | output_hc_scale | hc_(attn|ffn)_scale | layer_output_scale
        | exp_probs_b(_vl)? | attn_sinks | rope_freqs | rope_factors_(long|short) | z_l_init | act | gamma | token_types
        | ssm_(a|d|conv1d(_[qkv])?) | shortconv\.conv | ple_conv1d | \w*_ape | \w*res_score | altup_correct_scale
        | time_mix_(lerp_\w+|first|decay|ln|w0|a0|v0|k_k|k_a|r_k) | channel_mix_lerp_\w+
    )""",
    re.VERBOSE,
)
IN_32_BITS = (".bias", ".scale", ".input_scale")
# Tensors of ids; llama.cpp looks up rows with them.
IDS = re.compile(r"(.*\.)?(ffn_gate_tid2eid|d2t|masked_embd_ordering)")


def _numbers(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _left_out(arch: str, name: str, number: float) -> bool:
    """Whether a number stands for none in a file that llama.cpp saved."""
    if name == "kda.gate_lower_bound":
        return number == -math.inf
    if name == "pooling_type":
        return number == UNSPECIFIED
    if name.startswith(("attention.key_length", "attention.value_length")):
        return number == 0 and arch in HEADLESS
    return number == 0 and name in READ_BY and arch not in READ_BY[name]


def check_numbers(arch: str, values: Mapping[str, Any], refuse: Callable[[str], Exception]) -> None:
    """Raise what `refuse` makes of a reason, for the first number of a model that is out of range."""
    prefix = arch + "."
    own = {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
    for name, value in own.items():
        bounds = FOR_ONE.get((arch, name)) or RANGES.get(name)
        for number in _numbers(value):
            if isinstance(number, float):
                if not math.isfinite(number) and not _left_out(arch, name, number):
                    raise refuse(f"{prefix}{name} is {number}")
            elif bounds and isinstance(number, int) and not bounds[0] <= number <= bounds[1]:
                if _left_out(arch, name, number):
                    continue
                raise refuse(f"{prefix}{name} is {number}, which is out of range [{bounds[0]}, {bounds[1]}]")
        if name.rpartition(".")[2] in EPSILONS and isinstance(value, float) and value < 0:
            raise refuse(f"{prefix}{name} is {value}, which is out of range [0, inf)")
    _check_heads(arch, own, refuse)
    _check_sections(arch, own, refuse)
    _check_rope(arch, own, refuse)
    _check_layers(arch, own, refuse)


def _first(own: Mapping[str, Any], name: str, default: int = 0) -> int:
    """Return a number, the first layer's where each layer has its own."""
    value = own.get(name, default)
    if isinstance(value, list):
        value = value[0] if value else default
    return value if isinstance(value, int) else default


def _check_heads(arch: str, own: Mapping[str, Any], refuse: Callable[[str], Exception]) -> None:
    heads = own.get("attention.head_count")
    if heads == 0 and arch not in HEADLESS:
        raise refuse(f"{arch}.attention.head_count is 0, which is out of range [1, 65536]")
    rank, groups = own.get("ssm.time_step_rank"), own.get("ssm.group_count")
    divides = arch in STATE_SPACE and arch != "plamo2"
    if divides and isinstance(rank, int) and isinstance(groups, int) and rank % groups:
        raise refuse(f"{arch}.ssm.time_step_rank is {rank}, which {groups}, the ssm.group_count, does not divide")


def _check_sections(arch: str, own: Mapping[str, Any], refuse: Callable[[str], Exception]) -> None:
    # llama.cpp asks most of them for the key, and takes zeros where this one has none.
    sections = own.get("rope.dimension_sections", 0 if arch == "paddleocr" else [])
    if isinstance(sections, int):
        # One number stands for all.
        sections = [sections] * 4
    sectioned = arch in SECTIONED or (arch == "dflash" and any(sections))
    if sectioned and sections and not any(sections[:3]):
        raise refuse(f"{arch}.rope.dimension_sections is {sections}: one of the first three must not be 0")


def _check_rope(arch: str, own: Mapping[str, Any], refuse: Callable[[str], Exception]) -> None:
    """Compare the dimensions that are rotated, in pairs, with those that there are."""
    n_heads = _first(own, "attention.head_count")
    if arch in NO_ROPE or n_heads == 0:
        return
    whole = _first(own, "attention.key_length", _first(own, "embedding_length") // n_heads)
    full = _first(own, "rope.dimension_count", whole)
    for suffix in ("", "_swa"):
        size = _first(own, f"attention.key_length{suffix}", whole)
        name = f"rope.dimension_count{suffix}"
        rotated = _first(own, name, full)
        if rotated % 2 or rotated > size:
            raise refuse(f"{arch}.{name} is {rotated}; an even number up to the head's size, {size}, is expected")


def _check_layers(arch: str, own: Mapping[str, Any], refuse: Callable[[str], Exception]) -> None:
    n_layer = _first(own, "block_count", 1)
    if arch == "gemma4-assistant":
        # All its layers predict further tokens, from keys and values of another model.
        return
    for name, least in (("nextn_predict_layers", 1), ("attention.shared_kv_layers", 2)):
        number = _first(own, name)
        if number and number > n_layer - least:
            raise refuse(f"{arch}.{name} is {number}, out of range [0, {n_layer - least}]: there are {n_layer} blocks")


def check_tensor(name: str, type_name: str, matrix: bool, refuse: Callable[[str], Exception]) -> None:
    """Raise what `refuse` makes of a reason, for a tensor of a type that nothing computes with.

    Parameters
    ----------
    matrix : bool
        Whether a matrix of this type can be multiplied with.
    """
    if type_name == "f32":
        return
    base = name.removesuffix(".weight")
    if base.endswith(IN_32_BITS) or ELEMENTWISE.fullmatch(base):
        raise refuse(f"the tensor {name} is of type {type_name}; f32 is expected")
    if not matrix and not (IDS.fullmatch(base) and type_name in ("i32", "i64")):
        raise refuse(f"the tensor {name} is of type {type_name}, which nothing multiplies with")
