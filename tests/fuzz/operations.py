"""What can be done to a file: a recipe is a list of these, and the same recipe gives the same file."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from .gguf_layout import ARRAY, NUMBERS, STRING, Layout

__all__ = ["Operation", "Recipe", "apply"]

# The package has it that a block of Q8_1 is longer than ggml's.
SIZES = {9: (32, 36)}

Operation: TypeAlias = Sequence[Any]
Recipe: TypeAlias = Sequence[Operation]


def _number(kind: int, value: float) -> bytes:
    code = NUMBERS[kind]
    if code in "fd":
        try:
            return struct.pack("<" + code, value)
        except OverflowError:
            return struct.pack("<" + code, math.inf)
    if code == "?":
        return bytes([int(value) % 256])
    size = struct.calcsize("<" + code)
    whole: int = int(value) % 2 ** (8 * size)
    return whole.to_bytes(size, "little")


def _payload(kind: int, value: Any) -> bytes:
    if kind == STRING:
        data: bytes = bytes.fromhex(value[4:]) if value.startswith("hex:") else value.encode()
        return struct.pack("<Q", len(data)) + data
    if kind == ARRAY:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(_payload(inner, item) for item in items)
    return _number(kind, value)


def _items(layout: Layout, raw: bytes) -> tuple[int, list[bytes]]:
    inner, n = struct.unpack_from("<IQ", raw)
    if inner == STRING:
        return inner, [struct.pack("<Q", len(text)) + text for text in layout.strings(raw)]
    size = struct.calcsize("<" + NUMBERS[inner])
    return inner, [raw[12 + i * size : 12 + (i + 1) * size] for i in range(n)]


def _array(inner: int, items: Sequence[bytes]) -> bytes:
    return struct.pack("<IQ", inner, len(items)) + b"".join(items)


def _set(layout: Layout, key: str, kind: int, value: Any) -> None:
    entry = (key.encode(), kind, _payload(kind, value))
    names = [name for name, _, _ in layout.values]
    if entry[0] in names:
        layout.values[names.index(entry[0])] = entry
    else:
        layout.values.append(entry)


def _retype(layout: Layout, key: str, kind: int) -> None:
    at = layout.find(key.encode())
    layout.values[at] = (layout.values[at][0], kind, layout.values[at][2])


def _declare(layout: Layout, key: str, inner: int, n: int) -> None:
    at = layout.find(key.encode())
    name, kind, raw = layout.values[at]
    layout.values[at] = (name, kind, struct.pack("<IQ", inner, n % 2**64) + raw[12:])


def _resize(layout: Layout, key: str, n: int) -> None:
    at = layout.find(key.encode())
    name, kind, raw = layout.values[at]
    inner, items = _items(layout, raw)
    layout.values[at] = (name, kind, _array(inner, [items[i % len(items)] for i in range(n)]))


def _item(layout: Layout, key: str, i: int, value: Any) -> None:
    at = layout.find(key.encode())
    name, kind, raw = layout.values[at]
    inner, items = _items(layout, raw)
    items[i] = _payload(inner, value)
    layout.values[at] = (name, kind, _array(inner, items))


def _drop(layout: Layout, key: str) -> None:
    del layout.values[layout.find(key.encode())]


def _double(layout: Layout, key: str) -> None:
    layout.values.append(layout.values[layout.find(key.encode())])


def _rename(layout: Layout, key: str, name: str) -> None:
    at = layout.find(key.encode())
    layout.values[at] = (name.encode(), *layout.values[at][1:])


def _architecture(layout: Layout, name: str) -> None:
    """Call it a model of another architecture, with the same numbers."""
    (old,) = [raw[8:] for key, _, raw in layout.values if key == b"general.architecture"]
    _set(layout, "general.architecture", STRING, name)
    layout.values = [
        (name.encode() + key[len(old) :] if key.startswith(old + b".") else key, kind, raw)
        for key, kind, raw in layout.values
    ]


def _counts(layout: Layout, n_tensors: int | None, n_values: int | None) -> None:
    layout.n_tensors, layout.n_values = n_tensors, n_values


def _head(layout: Layout, magic: str, version: int) -> None:
    layout.magic, layout.version = bytes.fromhex(magic), version


def _dims(layout: Layout, name: str, dims: list[int]) -> None:
    layout.tensor(name.encode()).dims = list(dims)


def _type(layout: Layout, name: str, kind: int) -> None:
    layout.tensor(name.encode()).type = kind


def _offset(layout: Layout, name: str, offset: int) -> None:
    layout.tensor(name.encode()).offset = offset


def _call(layout: Layout, name: str, other: str) -> None:
    layout.tensor(name.encode()).name = bytes.fromhex(other[4:]) if other.startswith("hex:") else other.encode()


def _drop_tensor(layout: Layout, name: str) -> None:
    layout.tensors.remove(layout.tensor(name.encode()))


def _double_tensor(layout: Layout, name: str) -> None:
    layout.tensors.append(layout.tensor(name.encode()))


def _data(layout: Layout, name: str, at: int, hexes: str) -> None:
    data = bytes.fromhex(hexes)
    start = layout.tensor(name.encode()).offset + at
    layout.body = layout.body[:start] + data + layout.body[start + len(data) :]


def _settle(layout: Layout) -> None:
    """Give every tensor the place that its shape and type ask for, so that nothing but their meaning is wrong."""
    parts, place = [], 0
    for tensor in layout.tensors:
        try:
            block, size = SIZES.get(tensor.type) or GGML_QUANT_SIZES[GGMLQuantizationType(tensor.type)]
        except ValueError:
            block, size = 1, 4
        n_bytes = min(math.prod(dim % 2**64 for dim in tensor.dims) // block * size, 2**22)
        data = layout.body[tensor.offset : tensor.offset + n_bytes]
        parts.append(data + bytes(-(-n_bytes // 32) * 32 - len(data)))
        tensor.offset, place = place, place + len(parts[-1])
    layout.body = b"".join(parts)


STRUCTURAL: dict[str, Callable[..., None]] = {
    "set": _set, "retype": _retype, "declare": _declare, "resize": _resize, "item": _item, "drop": _drop,
    "double": _double, "rename": _rename, "architecture": _architecture, "counts": _counts, "head": _head,
    "dims": _dims, "type": _type, "offset": _offset, "call": _call, "drop-tensor": _drop_tensor,
    "double-tensor": _double_tensor, "data": _data, "settle": _settle,
}  # fmt: skip


def _flip(data: bytes, at: int, bit: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def _put(data: bytes, at: int, hexes: str) -> bytes:
    new = bytes.fromhex(hexes)
    at %= len(data)
    return data[:at] + new + data[at + len(new) :]


BYTES: dict[str, Callable[..., bytes]] = {
    "flip": _flip,
    "put": _put,
    "cut": lambda data, n: data[:n],
    "insert": lambda data, at, hexes: data[:at] + bytes.fromhex(hexes) + data[at:],
    "delete": lambda data, at, n: data[:at] + data[at + n :],
    "splice": lambda data, start, n, at: data[:at] + data[start : start + n] + data[at + n :],
}


def apply(data: bytes, recipe: Recipe) -> bytes:
    """Do to a file what a recipe says: first to its structure, then to its bytes."""
    structural = [operation for operation in recipe if operation[0] in STRUCTURAL]
    if structural:
        layout = Layout.decode(data)
        for name, *arguments in structural:
            try:
                STRUCTURAL[name](layout, *arguments)
            except (IndexError, KeyError, StopIteration, ValueError, struct.error):
                # An earlier operation took away what this one is about.
                continue
        data = layout.encode()
    for name, *arguments in recipe:
        if name in BYTES and data:
            data = BYTES[name](data, *arguments)
    return data
