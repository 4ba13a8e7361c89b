"""Write small GGUF files with nothing but NumPy: adapters and control vectors."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

ALIGNMENT = 32
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9

KINDS = {
    "uint8": 0, "int8": 1, "uint16": 2, "int16": 3, "uint32": 4, "int32": 5, "float32": 6, "bool": 7,
    "uint64": 10, "int64": 11, "float64": 12,
}  # fmt: skip


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    """Encode a metadata value behind its type; whole numbers are unsigned where they can be, as llama.cpp has them.

    What comes from NumPy keeps its type.
    """
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.name in KINDS:
        data = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).tobytes()
        return struct.pack("<IIQ", ARRAY, KINDS[value.dtype.name], len(value)) + data
    if isinstance(value, np.generic) and value.dtype.name in KINDS:
        number: bytes = value.astype(value.dtype.newbyteorder("<")).tobytes()
        return struct.pack("<I", KINDS[value.dtype.name]) + number
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", UINT32, value) if value >= 0 else struct.pack("<Ii", INT32, value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT32, value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    if isinstance(value, Sequence) and value and all(isinstance(item, int) and item >= 0 for item in value):
        return struct.pack(f"<IIQ{len(value)}I", ARRAY, UINT32, len(value), *value)
    if isinstance(value, Sequence) and value and all(isinstance(item, str) for item in value):
        return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(_string, value))
    if isinstance(value, Sequence) and value and all(isinstance(item, float) for item in value):
        return struct.pack(f"<IIQ{len(value)}f", ARRAY, FLOAT32, len(value), *value)
    raise TypeError(f"metadata must be bool, int, float, str or a sequence of one of them, not {value!r}")


def gguf_bytes(metadata: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[np.float32]]) -> bytes:
    """Encode a file of float32 tensors; GGUF lists the axes of a tensor from the last to the first."""
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    head += [_string(key) + _value(value) for key, value in metadata.items()]
    body: list[bytes] = []
    offset = 0
    for name, array in tensors.items():
        data = np.ascontiguousarray(array, dtype="<f4").tobytes()
        head.append(_string(name) + struct.pack(f"<I{array.ndim}Q", array.ndim, *reversed(array.shape)))
        head.append(struct.pack("<IQ", 0, offset))
        body.append(data + b"\0" * (-len(data) % ALIGNMENT))
        offset += len(body[-1])
    start = b"".join(head)
    return b"".join([start, b"\0" * (-len(start) % ALIGNMENT), *body])
