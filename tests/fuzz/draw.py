"""Draw recipes: what a random generator thinks of doing to a GGUF file."""

from __future__ import annotations

import random
import struct
from functools import cache
from pathlib import Path

from .gguf_layout import ARRAY, NUMBERS, STRING, Layout
from .operations import Operation

__all__ = ["architectures", "draw_bytes", "draw_recipe", "known_keys"]

SOURCE = Path(__file__).resolve().parents[2] / "vendor" / "llama.cpp" / "src" / "llama-arch.cpp"

INTEGERS = (
    *(0, 1, 2, 3, 4, 5, 7, 8, 10, 16, 31, 32, 33, 64, 100, 127, 128, 255, 256, 257, 511, 512, 513, 1000, 1023, 1024),
    *(2**15, 2**16 - 1, 2**16, 2**20, 2**24, 2**30, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1, 2**32, 2**40),
    *(2**62, 2**63 - 1, 2**63, 2**64 - 1, -1, -2, -(2**31), -(2**63)),
)
FLOATS = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e-38, 1e-6, 1e4, 1e30, 3.4e38, -3.4e38, 1e300),
    *(float("nan"), float("inf"), float("-inf")),
)
TEXTS = (
    *("", "a", "llama", "gpt2", "bert", "t5", "rwkv", "plamo2", "gemma4", "no_vocab", "none", "test", "hybriddna"),
    *("whitespace", "default", "llama3", "qwen2", "kimi-k2", "phi-3", "modern-bert", "linear", "yarn", "longrope"),
    *("x" * 40, "x" * 5000, "\n", "{{", "%s%n", "<0x0A>", "<0x", "\\x4", "<unk>", "</s>", "<|eot_id|>"),
    *("hex:ff", "hex:00", "hex:6100", "hex:c3", "hex:f09f", "hex:e29681"),
)
TYPES = (*range(14), 2**31 - 1, 2**32 - 1)
TENSOR_TYPES = (*range(45), 100, 2**31 - 1, 2**32 - 1)


def _names(table: str) -> list[str]:
    text = SOURCE.read_text()
    start = text.index(table)
    body = text[start : text.index("\n};", start)]
    return [line.split('"')[1] for line in body.splitlines() if line.count('"') == 2]


@cache
def known_keys() -> tuple[str, ...]:
    """Return the keys that llama.cpp reads; those of an architecture begin with ``%s``."""
    return tuple(_names("LLM_KV_NAMES = {"))


@cache
def architectures() -> tuple[str, ...]:
    """Return the names of the architectures that llama.cpp knows."""
    return tuple(name for name in _names("LLM_ARCH_NAMES = {") if not name.startswith("("))


def _integer(draw: random.Random, near: int | None = None) -> int:
    if near is not None and draw.random() < 0.4:
        return draw.choice((near + 1, near - 1, near * 2, near // 2, near + 32, near * 3, -near))
    return draw.choice(INTEGERS)


def _number(draw: random.Random, kind: int, near: int | None = None) -> float:
    return draw.choice(FLOATS) if NUMBERS[kind] in "fd" else _integer(draw, near)


def _scalar(draw: random.Random, kind: int, raw: bytes) -> float | str:
    if kind == STRING:
        return draw.choice(TEXTS)
    near = None if NUMBERS[kind] in "fd?" else struct.unpack("<" + NUMBERS[kind], raw)[0]
    return _number(draw, kind, near)


def _value(draw: random.Random, layout: Layout) -> Operation:
    """Change a value, or its type, or what an array says of itself."""
    name, kind, raw = draw.choice(layout.values)
    key = name.decode()
    what = draw.random()
    if kind == ARRAY:
        inner, n = struct.unpack_from("<IQ", raw)
        if what < 0.5:
            item = draw.choice(TEXTS) if inner == STRING else _number(draw, inner)
            return "item", key, draw.randrange(n), item
        if what < 0.8:
            return "resize", key, draw.choice((0, 1, 2, n - 1, n + 1, 2 * n, n // 2, 513))
        if what < 0.95:
            return "declare", key, draw.choice((inner, *TYPES)), _integer(draw, n)
        return "retype", key, draw.choice(TYPES)
    if what < 0.8:
        return "set", key, kind, _scalar(draw, kind, raw)
    if what < 0.9:
        other = draw.choice([k for k in NUMBERS if k != kind])
        return "set", key, other, _number(draw, other)
    return draw.choice(
        (("drop", key), ("double", key), ("rename", key, key + "x"), ("retype", key, draw.choice(TYPES)))
    )


def _new_value(draw: random.Random, layout: Layout) -> Operation:
    """Add or replace one of the keys that llama.cpp reads."""
    architecture = next(raw[8:] for key, _, raw in layout.values if key == b"general.architecture").decode()
    key = draw.choice(known_keys()).replace("%s", architecture)
    what = draw.random()
    if what < 0.5:
        return "set", key, 4, _integer(draw)
    if what < 0.6:
        return "set", key, 6, draw.choice(FLOATS)
    if what < 0.7:
        return "set", key, 7, draw.choice((0, 1, 2))
    if what < 0.8:
        return "set", key, STRING, draw.choice(TEXTS)
    inner = draw.choice((4, 5, 6, 7, STRING))
    n = draw.choice((0, 1, 2, 3, 4, 5, 16, 512, 513))
    items = [draw.choice(TEXTS) if inner == STRING else _number(draw, inner) for _ in range(n)]
    return "set", key, ARRAY, [inner, items]


def _tensor(draw: random.Random, layout: Layout) -> Operation:
    """Change what the list says of a tensor, or a number in its data."""
    tensor = draw.choice(layout.tensors)
    name = tensor.name.decode()
    what = draw.random()
    if what < 0.25:
        return "type", name, draw.choice(TENSOR_TYPES)
    if what < 0.5:
        dims = list(tensor.dims)
        change = draw.random()
        if change < 0.5:
            at = draw.randrange(len(dims))
            dims[at] = _integer(draw, dims[at])
        elif change < 0.7:
            dims = dims[::-1]
        elif change < 0.85:
            dims = [*dims, draw.choice((0, 1, 2, 2**32))]
        else:
            dims = dims[:-1]
        return "dims", name, dims
    if what < 0.6:
        return "offset", name, _integer(draw, tensor.offset)
    if what < 0.7:
        other = draw.choice(layout.tensors).name.decode()
        return (
            "call",
            name,
            draw.choice((other, "", "a", "x" * 63, "x" * 64, "hex:6100", other + ".lora_a", "output.weight")),
        )
    if what < 0.75:
        return draw.choice((("drop-tensor", name), ("double-tensor", name)))
    hexes = draw.choice(("0000c07f", "0000807f", "000080ff", "ffff7f7f", "ffffffff", "00000000", "01000000"))
    return "data", name, 4 * draw.randrange(64), hexes * draw.choice((1, 1, 2, 16))


def draw_bytes(draw: random.Random, size: int, head: int) -> Operation:
    """Change bytes, mostly those of the head, which is the part that is parsed."""
    at = draw.randrange(head) if draw.random() < 0.85 else draw.randrange(size)
    what = draw.random()
    if what < 0.5:
        return "flip", at, draw.randrange(8)
    if what < 0.75:
        return "put", at, draw.choice(("00", "ff", "7f", "80", "ffffffff", "00000000", "ffffff7f", "ff" * 8, "00" * 8))
    if what < 0.85:
        return "cut", at
    if what < 0.9:
        return "insert", at, draw.randbytes(draw.choice((1, 4, 8))).hex()
    if what < 0.95:
        return "delete", at, draw.choice((1, 4, 8, 32))
    return "splice", draw.randrange(size), draw.choice((4, 8, 64, 512)), at


def draw_recipe(draw: random.Random, layout: Layout, size: int) -> list[Operation]:
    """Draw one to four operations."""
    head = size - len(layout.body)
    recipe: list[Operation] = []
    style = draw.random()
    if style < 0.2:
        return [draw_bytes(draw, size, head) for _ in range(draw.choice((1, 1, 2, 4)))]
    if style < 0.28:
        recipe.append(("architecture", draw.choice(architectures())))
    elif style < 0.31:
        n = len(layout.tensors), len(layout.values)
        recipe.append(("counts", *draw.choice(((_integer(draw, n[0]), None), (None, _integer(draw, n[1]))))))
    elif style < 0.33:
        recipe.append(("head", draw.choice(("47475546", "47475546", "00000000", "46554747")), _integer(draw, 3)))
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        kind = draw.random()
        recipe.append((_value if kind < 0.5 else _new_value if kind < 0.75 else _tensor)(draw, layout))
    if draw.random() < 0.5:
        recipe.append(("settle",))
    return recipe
