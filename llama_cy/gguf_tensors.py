"""The tensors of a GGUF file as NumPy arrays: F32, F16, BF16 and Q8_0."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from .enums import GGMLType
from .gguf_header import Header, TensorInfo

_Decoder = Callable[[bytes], npt.NDArray[Any]]


def _bf16(data: bytes) -> npt.NDArray[np.float32]:
    # The upper half of a float32.
    return (np.frombuffer(data, dtype="<u2").astype(np.uint32) << 16).view(np.float32)


def _q8_0(data: bytes) -> npt.NDArray[np.float32]:
    # Blocks of 32: a scale, and what it scales.
    blocks = np.frombuffer(data, dtype=[("scale", "<f2"), ("quants", "i1", 32)])
    values: npt.NDArray[np.float32] = blocks["scale"].astype(np.float32)[:, None] * blocks["quants"]
    return values


DECODERS: dict[int, _Decoder] = {
    GGMLType.F32: lambda data: np.frombuffer(data, dtype="<f4"),
    GGMLType.F16: lambda data: np.frombuffer(data, dtype="<f2"),
    GGMLType.BF16: _bf16,
    GGMLType.Q8_0: _q8_0,
}


def _shape(info: TensorInfo) -> tuple[int, ...]:
    """Return the shape, the file's in reverse, with as many axes as a tensor of this name has."""
    name = info.name.removesuffix(".weight")
    one = name.endswith(("norm", ".bias", "rope_freqs"))
    return tuple(reversed(info.dims[: 1 if one else 3 if name.endswith("_exps") else 2]))


def read_tensors(
    file: BinaryIO, header: Header, dtype: npt.DTypeLike, progress: Callable[[float], object] | None = None
) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Yield the names and the values of all tensors of an open file.

    Parameters
    ----------
    file : binary file
    header : Header
        What was read of it.
    dtype : dtype
        What to turn the values into.
    progress : callable, optional
        Called with the share read, and at the end with 1.0.
    """
    whole = sum(info.size for info in header.tensors.values()) or 1
    done = 0
    for name, info in header.tensors.items():
        decode = DECODERS.get(info.kind)
        if decode is None:
            known = ", ".join(GGMLType(kind).name for kind in DECODERS)
            raise header.failure(f"the tensor {name} is {info.type_name.upper()}; NumPy reads {known}")
        file.seek(header.data_start + info.offset)
        yield name, decode(file.read(info.size)).astype(dtype).reshape(_shape(info))
        done += info.size
        if progress is not None:
            progress(done / whole)
