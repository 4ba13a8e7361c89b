"""Sentence templates: ``(a|b)`` is a choice, ``{slot}`` a value; choices nest and may be empty."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from random import Random
from typing import Any

_MARK = re.compile(r"[(|)]|\{([^{}]+)\}")
WORD = re.compile(r"[A-Za-z]+")


class _Slot(str):
    """The name of a value filled in when the template is expanded."""


# A sequence of literal text (str), values (_Slot) and choices (a list of sequences).
_Sequence = list[Any]


@cache
def _parse(template: str) -> _Sequence:
    root: _Sequence = []
    stack: list[list[_Sequence]] = [[root]]
    position = 0
    for mark in _MARK.finditer(template):
        sequence = stack[-1][-1]
        if mark.start() > position:
            sequence.append(template[position : mark.start()])
        position = mark.end()
        if mark[1]:
            sequence.append(_Slot(mark[1]))
        elif mark[0] == "(":
            alternatives: list[_Sequence] = [[]]
            sequence.append(alternatives)
            stack.append(alternatives)
        elif len(stack) == 1:
            raise ValueError(f"{mark[0]!r} outside a choice in template {template!r}")
        elif mark[0] == "|":
            stack[-1].append([])
        else:
            stack.pop()
    if len(stack) > 1:
        raise ValueError(f"an open choice in template {template!r}")
    root.append(template[position:])
    return root


def expand(template: str, rng: Random, slots: Mapping[str, str]) -> str:
    """Fill in the slots of a template and draw one alternative of every choice."""
    parts: list[str] = []

    def walk(sequence: _Sequence) -> None:
        for node in sequence:
            if isinstance(node, list):
                walk(node[int(rng.random() * len(node))])
            elif isinstance(node, _Slot):
                parts.append(slots[node])
            else:
                parts.append(node)

    walk(_parse(template))
    return "".join(parts)


def capitalize(text: str) -> str:
    """Upper-case the first letter and leave the rest as it is."""
    return text[:1].upper() + text[1:]


def literal_words(template: str) -> Iterator[str]:
    """Yield the words written out in a template, over all its choices, in lower case."""
    for text in re.sub(r"\{[^{}]+\}", " ", template).split():
        for word in WORD.findall(text):
            yield word.lower()
