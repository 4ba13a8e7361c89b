"""What llama.cpp would assert on in the file of an adapter, or later when it computes with one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import BinaryIO

from .gguf_header import Header, kind_name, read_header

FLOAT32, STRING = 6, 8
# What a file must say of itself; the architecture is llama.cpp's to compare.
STRINGS = {"general.type": "adapter", "general.architecture": None, "adapter.type": "lora"}
ALPHA = "adapter.lora.alpha"
EMBEDDING = "token_embd.weight"
SUFFIXES = (".lora_a", ".lora_b")

_Shape = tuple[int, int, int, int]


def check_adapter(file: BinaryIO, name: str, metadata: Mapping[str, str], *, start: int = 0) -> bool:
    """Raise for what llama.cpp would not survive, and return whether the adapter changes the token embedding.

    `metadata` is the model's; `start` is where in the file the adapter begins.
    """
    header = read_header(file, start, "adapter", name)
    _check_keys(header)
    return _check_tensors(header, metadata)


def _check_keys(header: Header) -> None:
    for key in (*STRINGS, ALPHA):
        found = header.kinds.get(key)
        wanted = FLOAT32 if key == ALPHA else STRING
        if found not in (None, wanted):
            raise header.failure(f"{key} is of type {kind_name(found)}, not {kind_name(wanted)}")
        if STRINGS.get(key) not in (None, text := header.values.get(key, "")):
            raise header.failure(f"{key} is {text!r}, not {STRINGS[key]!r}")
    alpha = header.values.get(ALPHA, 0.0)
    if not math.isfinite(alpha):
        raise header.failure(f"{ALPHA} is {alpha}")


def _check_tensors(header: Header, metadata: Mapping[str, str]) -> bool:
    pairs: dict[str, dict[str, _Shape]] = {}
    for tensor in header.tensors.values():
        for suffix in SUFFIXES:
            if tensor.name.endswith(suffix):
                if not tensor.multiplies:
                    raise header.failure(f"{tensor.name} is of type {tensor.type_name}: nothing multiplies with it")
                pairs.setdefault(tensor.name.replace(suffix, ""), {})[suffix] = tensor.dims
    if not pairs:
        raise header.failure("it has no LoRA tensors")
    for weight, pair in pairs.items():
        if len(pair) == len(SUFFIXES):
            _check_pair(header, weight, pair[".lora_a"], pair[".lora_b"], metadata)
    return EMBEDDING in pairs


def _check_pair(header: Header, weight: str, a: _Shape, b: _Shape, metadata: Mapping[str, str]) -> None:
    """Compare the axes that llama.cpp does not look at before it multiplies."""
    n_expert = 1
    if "exps." in weight:
        n_expert = int(metadata.get(f"{metadata.get('general.architecture')}.expert_count", 0))
        if "_exps." not in weight:
            raise header.failure(f"{weight}: experts in groups can't be adapted")
    rank, other = (a[0], b[0]) if weight.endswith(EMBEDDING) else (a[1], b[0])
    if a[2:] != (n_expert, 1) or b[2:] != (n_expert, 1) or rank != other:
        experts = f" or do not fit {n_expert} experts" if n_expert > 1 else ""
        raise header.failure(f"{weight}: the shapes of A {a} and B {b} do not fit together{experts}")
