"""Grammars in GBNF drawn at random, each with texts that it allows."""

from __future__ import annotations

from hypothesis import strategies as st

# No letter is in two classes, so that what is not spelt right is not allowed by accident.
LETTERS = "abcdefgh"


@st.composite
def literals(draw: st.DrawFn) -> tuple[str, str]:
    """Draw a quoted text, and itself."""
    text = draw(st.text("xyz é", min_size=1, max_size=4))
    return f'"{text}"', text


@st.composite
def classes(draw: st.DrawFn) -> tuple[str, str]:
    """Draw a class of characters, and one of them."""
    low, high = sorted(draw(st.tuples(st.sampled_from(LETTERS), st.sampled_from(LETTERS))))
    return f"[{low}-{high}]", draw(st.sampled_from([chr(code) for code in range(ord(low), ord(high) + 1)]))


@st.composite
def expressions(draw: st.DrawFn, depth: int = 2) -> tuple[str, str]:
    """Draw a part of a rule with a text for it."""
    if depth == 0:
        return draw(st.one_of(literals(), classes()))
    kind = draw(st.sampled_from(["plain", "sequence", "choice", "optional", "repeated", "bounded"]))
    if kind == "plain":
        return draw(st.one_of(literals(), classes()))
    parts = draw(st.lists(expressions(depth - 1), min_size=2, max_size=3))
    if kind == "sequence":
        return "(" + " ".join(part for part, _ in parts) + ")", "".join(text for _, text in parts)
    if kind == "choice":
        return "(" + " | ".join(part for part, _ in parts) + ")", draw(st.sampled_from([text for _, text in parts]))
    part, text = parts[0]
    if kind == "optional":
        return f"({part})?", draw(st.sampled_from(["", text]))
    if kind == "repeated":
        # What is empty at once can't be repeated: llama.cpp takes that for a rule that begins with itself.
        return f'("z" {part})+', f"z{text}" * draw(st.integers(1, 3))
    low, more = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    return f"({part}){{{low},{low + more}}}", text * draw(st.integers(low, low + more))


@st.composite
def grammars(draw: st.DrawFn) -> tuple[str, str]:
    """Draw a grammar and a text that it allows, neither of them empty."""
    (one, first), (two, second) = draw(expressions()), draw(expressions())
    return f'root ::= one "!" two "."  # all\none ::= {one}\n\ntwo ::= {two}\n', f"{first}!{second}."
