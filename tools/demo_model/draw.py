"""Small random choices that several kinds of conversation share."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

from tools.demo_model import words
from tools.demo_model.words import Name

T = TypeVar("T")


def made_up_word(rng: Random) -> str:
    """Make up a pronounceable word of one to three syllables."""
    parts = []
    for _ in range(rng.choice((1, 2, 2, 2, 3))):
        parts += [rng.choice(words.ONSETS), rng.choice(words.VOWEL_SOUNDS)]
    return ("".join(parts) + rng.choice(words.CODAS)).capitalize()


def made_up_name(rng: Random) -> Name:
    """Make up a name: copying it is all the model can do with it."""
    return Name(made_up_word(rng), rng.choice(("he", "she")))


def name(rng: Random) -> Name:
    """Draw a name: one of the stories', another usual one, or a made-up one."""
    drawn = rng.random()
    if drawn < 0.25:
        return made_up_name(rng)
    return rng.choice(words.OTHER_NAMES if drawn < 0.5 else words.NAMES)


def full_name(rng: Random) -> Name:
    """Draw a name that may have a surname."""
    first = name(rng)
    if rng.random() < 0.75:
        return first
    surname = made_up_word(rng) if rng.random() < 0.4 else rng.choice(words.SURNAMES)
    return Name(f"{first.text} {surname}", first.gender)


def city(rng: Random) -> str:
    """Draw the name of a city, which may be made up and may have two words."""
    if rng.random() < 0.6:
        return rng.choice(words.CITIES)
    return made_up_word(rng) + (f" {made_up_word(rng)}" if rng.random() < 0.2 else "")


def noun(rng: Random) -> str:
    """Draw the name of a thing, which may be made up."""
    drawn = rng.random()
    if drawn < 0.2:
        return made_up_word(rng).lower()
    return rng.choice(words.NOUNS if drawn < 0.6 else words.THINGS)


def spot(rng: Random) -> str:
    """Draw where a thing may be."""
    if rng.random() < 0.5:
        return rng.choice(words.HIDING_PLACES)
    return f"{rng.choice(words.PREPOSITIONS)} the {noun(rng)}"


def distinct(make: Callable[[], T], count: int) -> list[T]:
    """Draw until there are so many that differ from each other."""
    drawn: dict[T, None] = {}
    while len(drawn) < count:
        drawn[make()] = None
    return list(drawn)


def casual(rng: Random, text: str) -> str:
    """Write a request as people do: now and then without a capital letter or the last mark."""
    if rng.random() < 0.12:
        text = text[0].lower() + text[1:]
    if rng.random() < 0.12:
        text = text.rstrip(".?!")
    return text
