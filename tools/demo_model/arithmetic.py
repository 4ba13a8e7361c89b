"""Additions and subtractions of numbers below 100."""

from __future__ import annotations

from random import Random

from tools.demo_model import draw
from tools.demo_model.chat import Conversation, exchange
from tools.demo_model.grammar import expand

ADDITION_REQUESTS = (
    "(What is|What's|How much is|Calculate|Work out) {a} + {b}{mark}",
    "{a} + {b}( =||)",
    "{a}+{b}(=|?||)",
    "{a} plus {b}(?|)",
    "{a} + {b} = ?",
    "(What is|What's|How much is) {a} plus {b}{mark}",
    "(Add|Please add) {a} and {b}.",
    "What is the sum of {a} and {b}?",
)
SUBTRACTION_REQUESTS = (
    "(What is|What's|How much is|Calculate|Work out) {a} - {b}{mark}",
    "{a} - {b}( =||)",
    "{a}-{b}(=|?||)",
    "{a} minus {b}(?|)",
    "{a} - {b} = ?",
    "(What is|What's|How much is) {a} minus {b}{mark}",
    "(Subtract|Please subtract|Take) {b} from {a}.",
    "What is the difference between {a} and {b}?",
)


def _number(rng: Random) -> int:
    # Numbers of one digit are rare among all and common among people.
    return rng.randrange(10) if rng.random() < 0.12 else rng.randrange(100)


def _request(rng: Random, templates: tuple[str, ...], a: int, b: int) -> str:
    text = expand(rng.choice(templates), rng, {"a": str(a), "b": str(b), "mark": "{mark}"})
    mark = "?" if text.startswith(("What", "How")) else "."
    return draw.casual(rng, text.replace("{mark}", mark))


def addition_key(a: int, b: int) -> tuple[object, ...]:
    """Return what decides whether a sum is held out: both orders of the operands count as one."""
    return ("+", min(a, b), max(a, b))


def subtraction_key(a: int, b: int) -> tuple[object, ...]:
    """Return what decides whether a difference is held out."""
    return ("-", a, b)


def make_addition(rng: Random) -> Conversation:
    """Ask for a sum."""
    a, b = _number(rng), _number(rng)
    request = _request(rng, ADDITION_REQUESTS, a, b)
    return exchange("addition", addition_key(a, b), request, f"{a} + {b} = {a + b}")


def make_subtraction(rng: Random) -> Conversation:
    """Ask for a difference that is not negative."""
    b, a = sorted((_number(rng), _number(rng)))
    request = _request(rng, SUBTRACTION_REQUESTS, a, b)
    return exchange("subtraction", subtraction_key(a, b), request, f"{a} - {b} = {a - b}")
