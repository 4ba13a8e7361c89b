"""LoRA files, written with the ``gguf`` package: good ones, and all that is nearly one."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFValueType, GGUFWriter
from numpy.typing import NDArray

__all__ = ["Pairs", "random_lora", "write_lora"]

Pairs = Mapping[str, tuple[NDArray[Any], NDArray[Any]]]


def random_lora(shapes: Mapping[str, tuple[int, ...]], *, rank: int = 2, seed: int = 0, std: float = 0.3) -> Pairs:
    """Return random A and B for weights of these shapes, (..., n_out, n_in) as NumPy orders them."""
    pairs = {}
    for name, (*stack, n_out, n_in) in shapes.items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        a = rng.standard_normal((*stack, rank, n_in), dtype=np.float32) / n_in**0.5
        b = std * rng.standard_normal((*stack, n_out, rank), dtype=np.float32)
        pairs[name] = (a, b)
    return pairs


def write_lora(
    path: str | os.PathLike[str],
    pairs: Pairs,
    *,
    arch: str = "llama",
    alpha: float | None = None,
    metadata: Mapping[str, Any] | None = None,
    tensors: Mapping[str, NDArray[Any]] | None = None,
) -> Path:
    """Write a LoRA, with `tensors` beside its pairs; `metadata` adds keys or replaces them."""
    file = GGUFWriter(path, arch)
    facts: dict[str, Any] = {"general.type": "adapter", "adapter.type": "lora"}
    if alpha is not None:
        facts["adapter.lora.alpha"] = float(alpha)
    for key, value in (facts | dict(metadata or {})).items():
        if isinstance(value, list):
            # By itself the package would write signed ones.
            file.add_key_value(key, value, GGUFValueType.ARRAY, sub_type=GGUFValueType.UINT32)
        else:
            file.add_key_value(key, value, GGUFValueType.get_type(value))
    for name, (a, b) in pairs.items():
        file.add_tensor(f"{name}.lora_a", np.ascontiguousarray(a))
        file.add_tensor(f"{name}.lora_b", np.ascontiguousarray(b))
    for name, values in (tensors or {}).items():
        file.add_tensor(name, np.ascontiguousarray(values))
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    return Path(path)
