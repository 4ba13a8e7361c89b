"""Write llama_cy/enums.py: the enums as Python sees them."""

from __future__ import annotations

from collections.abc import Iterator

from .declarations import Enum, Header
from .selection import PYTHON_ENUMS, PYTHON_FLAGS

# Members that count or bound the others are no value to pass.
SENTINELS = ("COUNT", "MAX_VALUE")


def write(headers: list[Header], banner: str) -> str:
    classes = {
        class_name(enum.name): enum
        for header in headers
        for enum in header.enums
        if header.name == "llama" or enum.name in PYTHON_ENUMS
    }
    kinds = "IntEnum, IntFlag" if any(e.name in PYTHON_FLAGS for e in classes.values()) else "IntEnum"
    lines = [f'"""The enums of llama.cpp\'s C headers, with the C values.\n\n{banner}\n"""', ""]
    lines += [f"from enum import {kinds}", "", "__all__ = ["]
    lines += [*(f'    "{name}",' for name in sorted(classes)), "]"]
    for name, enum in classes.items():
        base = "IntFlag" if enum.name in PYTHON_FLAGS else "IntEnum"
        lines += ["", "", f"class {name}({base}):", f'    """Values of ``enum {enum.name}``."""', ""]
        lines += [f"    {member} = {value}" for member, value in members(enum)]
    return "\n".join(lines) + "\n"


def class_name(tag: str) -> str:
    if tag in PYTHON_ENUMS:
        return PYTHON_ENUMS[tag]
    return "".join(word.capitalize() for word in tag.split("_")[1:])


def members(enum: Enum) -> Iterator[tuple[str, int]]:
    prefix = common_prefix(enum)
    for name, value in enum.members:
        if name.removeprefix(prefix) not in SENTINELS:
            yield name.removeprefix(prefix), value


def common_prefix(enum: Enum) -> str:
    """Return the tag in capitals where all members carry it, else all the words that they share."""
    names = [name for name, _ in enum.members]
    tag = f"{enum.name.upper()}_"
    if all(name.startswith(tag) for name in names):
        return tag
    shared = []
    for words in zip(*(name.split("_")[:-1] for name in names), strict=False):
        if len(set(words)) > 1:
            break
        shared.append(words[0])
    return "_".join([*shared, ""])
