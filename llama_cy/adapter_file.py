"""Write LoRA adapters."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .checks import real
from .gguf_file import gguf_bytes
from .whole_file import whole_file

if TYPE_CHECKING:
    from .model import Model

MAX_NAME = 63


def _matrix(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    array = np.asarray(values, dtype=np.float32)
    if array.ndim not in (2, 3) or not array.size:
        raise ValueError(f"{name} has the shape {array.shape}; two dimensions are expected, three for experts")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds values that are not finite")
    return array


def write_lora(
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    model: Model,
    weights: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    alpha: float | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a LoRA adapter to a GGUF file, as :class:`LoraAdapter` reads it.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        The file; it appears whole or not at all.
    model : Model
        The model that the adapter is for.
    weights : mapping of str to pair of array-like
        By the name of the model's tensor, such as ``"blk.0.attn_q.weight"``: A of shape ``(rank, n_in)`` and B of
        shape ``(n_out, rank)``. The model then computes with its weight plus ``scale * alpha / rank * B @ A``.
    alpha : float, optional
        The rank of each pair, that is, a factor of 1, unless given.
    metadata : mapping of str to bool, int, float, str or sequence of int, optional
        More metadata.

    Raises
    ------
    ValueError
        The shapes of a pair do not fit together, or a value is not finite.
    """
    facts: dict[str, Any] = {
        "general.architecture": model.metadata["general.architecture"],
        "general.type": "adapter",
        "adapter.type": "lora",
        # llama.cpp reads 0 as none.
        "adapter.lora.alpha": 0.0 if alpha is None else real("alpha", alpha),
    }
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for name, (a, b) in weights.items():
        if len(name.encode()) + len(".lora_a") > MAX_NAME:
            raise ValueError(f"{name!r} is too long a name: {MAX_NAME - len('.lora_a')} bytes are allowed")
        first, second = _matrix(f"A of {name}", a), _matrix(f"B of {name}", b)
        if first.shape[-2] != second.shape[-1] or first.shape[:-2] != second.shape[:-2]:
            raise ValueError(f"A of {name} has the shape {first.shape} and B {second.shape}: their ranks differ")
        if name == "token_embd.weight":
            # Its rows are looked up, not multiplied with, so llama.cpp has them the other way round.
            first, second = second, first.T
        tensors |= {f"{name}.lora_a": first, f"{name}.lora_b": second}
    data = gguf_bytes(facts | dict(metadata or {}), tensors)
    with whole_file(path) as part:
        part.write_bytes(data)
