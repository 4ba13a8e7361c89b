"""A GGUF file taken apart and put together again, without a thought for whether it makes sense."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

__all__ = ["ARRAY", "NUMBERS", "STRING", "Layout", "TensorInfo"]

STRING, ARRAY = 8, 9
# Type of a number to its struct code.
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass
class TensorInfo:
    """One entry of the tensor list."""

    name: bytes
    dims: list[int]
    type: int
    offset: int

    def encode(self) -> bytes:
        head = struct.pack("<Q", len(self.name)) + self.name + struct.pack("<I", len(self.dims))
        dims = b"".join(struct.pack("<Q", dim % 2**64) for dim in self.dims)
        return head + dims + struct.pack("<IQ", self.type % 2**32, self.offset % 2**64)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, n: int) -> bytes:
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, code: str) -> int:
        (value,) = struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))
        return int(value)

    def string(self) -> bytes:
        return self.take(self.number("Q"))

    def skip(self, kind: int) -> None:
        if kind == STRING:
            self.string()
        elif kind == ARRAY:
            kind, n = self.number("I"), self.number("Q")
            if kind == STRING:
                for _ in range(n):
                    self.string()
            else:
                self.take(n * struct.calcsize("<" + NUMBERS[kind]))
        else:
            self.take(struct.calcsize("<" + NUMBERS[kind]))


@dataclass
class Layout:
    """The parts of a file: values as the bytes behind their type, tensor data as one block."""

    version: int
    values: list[tuple[bytes, int, bytes]]
    tensors: list[TensorInfo]
    body: bytes
    magic: bytes = b"GGUF"
    n_values: int | None = None
    n_tensors: int | None = None
    alignment: int = field(default=32)

    @classmethod
    def decode(cls, data: bytes) -> Layout:
        """Take a valid file apart."""
        reader = _Reader(data)
        reader.take(4)
        version, n_tensors, n_values = reader.number("I"), reader.number("Q"), reader.number("Q")
        values = []
        for _ in range(n_values):
            key, kind, start = reader.string(), reader.number("I"), reader.at
            reader.skip(kind)
            values.append((key, kind, data[start : reader.at]))
        tensors = []
        for _ in range(n_tensors):
            name = reader.string()
            dims = [reader.number("Q") for _ in range(reader.number("I"))]
            tensors.append(TensorInfo(name, dims, reader.number("I"), reader.number("Q")))
        return cls(version, values, tensors, data[-(-reader.at // 32) * 32 :])

    def encode(self) -> bytes:
        """Put it together."""
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        n_values = len(self.values) if self.n_values is None else self.n_values
        head = [self.magic, struct.pack("<IQQ", self.version % 2**32, n_tensors % 2**64, n_values % 2**64)]
        head += [struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + raw for key, kind, raw in self.values]
        head += [tensor.encode() for tensor in self.tensors]
        start = b"".join(head)
        return start + bytes(-len(start) % self.alignment) + self.body

    def find(self, key: bytes) -> int:
        """Return the index of a value."""
        return [name for name, _, _ in self.values].index(key)

    def tensor(self, name: bytes) -> TensorInfo:
        """Return a tensor's entry."""
        return next(tensor for tensor in self.tensors if tensor.name == name)

    def strings(self, raw: bytes) -> list[bytes]:
        """Return the items of an array of strings."""
        reader = _Reader(raw)
        reader.number("I")
        return [reader.string() for _ in range(reader.number("Q"))]
