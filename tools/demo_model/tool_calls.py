"""Calls of a weather or a calculator function, and answers from what they return."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from random import Random

from tools.demo_model import draw, words
from tools.demo_model.arithmetic import addition_key, make_addition, make_subtraction, subtraction_key
from tools.demo_model.chat import TOOLS_HEADER, Conversation, Message, exchange, tool_call, tool_signature
from tools.demo_model.grammar import expand

# The first of each is the usual one. The others make the model read which names it was given.
WEATHER_NAMES = (
    "get_weather", "weather", "forecast", "weather_now", "get_current_weather", "lookup_weather", "check_weather",
    "get_forecast", "weather_in",
)  # fmt: skip
WEATHER_ARGUMENTS = ("city", "location", "place", "town", "city_name", "location, unit", "city, country")
CALCULATOR_NAMES = ("calculator", "calculate", "compute", "math", "calc", "evaluate", "solve", "do_math")
CALCULATOR_ARGUMENTS = ("expression", "formula", "input", "expr", "equation", "text", "expression, digits")
# Offered now and then, and never the right one.
OTHER_TOOLS = (
    "search(query)",
    "get_time(timezone)",
    "send_email(to, subject, body)",
    "play_music(song)",
    "set_alarm(time)",
    "translate(text, language)",
    "get_news(topic)",
)

WEATHER_REQUESTS = (
    "(What is|What's) the weather (in {city}|in {city} today|like in {city})?",
    "(How is|How's) the weather in {city}(| today)?",
    "Tell me the weather in {city}.",
    "Is it (raining|snowing|sunny|cold|warm) in {city}(| today)?",
    "Do I need an umbrella in {city}?",
    "(Check|Look up|Get) the weather (in|for) {city}.",
    "How (warm|cold) is it in {city}?",
)
CALCULATOR_REQUESTS = (
    "(What is|How much is|What's) {a} {spoken} {b}?",
    "(What is|How much is|What's) {a} {sign} {b}?",
    "(Calculate|Compute|Work out) {a} {sign} {b}.",
    "Use the calculator: {a} {sign} {b}",
    "{a} {sign} {b}(|?| =)",
    "{a} {spoken} {b}(|?)",
)
TOO_HARD = "I can only add and subtract numbers below 100."
BELOW_ZERO = "I do not know numbers below zero."
SIGNATURE = re.compile(r"^(\w+)\((\w+)(?:, \w+)*\)$", re.MULTILINE)
LONG_REQUESTS = (
    "(What is|How much is|What's) {expression}?",
    "(Calculate|Compute|Work out) {expression}.",
    "{expression}",
)
SPOKEN = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a friendly assistant.",
    "Be brief.",
    "You are a small model.",
)


def _usual(rng: Random, choices: tuple[str, ...]) -> str:
    return choices[0] if rng.random() < 0.5 else rng.choice(choices)


def _system(rng: Random, *signatures: str) -> Message:
    offered = [*signatures, *rng.sample(OTHER_TOOLS, rng.choice((0, 0, 0, 1, 2)))]
    rng.shuffle(offered)
    prompt = rng.choice(SYSTEM_PROMPTS) + "\n" if rng.random() < 0.3 else ""
    return Message("system", prompt + "\n".join([TOOLS_HEADER, *offered]))


def _weather_tool(rng: Random) -> str:
    return tool_signature(_usual(rng, WEATHER_NAMES), _usual(rng, WEATHER_ARGUMENTS))


def _calculator_tool(rng: Random) -> str:
    return tool_signature(_usual(rng, CALCULATOR_NAMES), _usual(rng, CALCULATOR_ARGUMENTS))


def _offer(rng: Random) -> Message:
    tools = [_weather_tool(rng), _calculator_tool(rng)]
    rng.shuffle(tools)
    return _system(rng, *(tools[:1] if rng.random() < 0.3 else tools))


@dataclass(frozen=True)
class _Use:
    """A request, the call that answers it, and what comes of it."""

    key: tuple[object, ...]
    request: str
    argument: str
    result: str
    answer: str


def _weather_request(rng: Random, city: str) -> str:
    return draw.casual(rng, expand(rng.choice(WEATHER_REQUESTS), rng, {"city": city}))


def _weather(rng: Random) -> _Use:
    city, sky, degrees = draw.city(rng), rng.choice(words.SKIES), rng.randrange(-9, 40)
    result = rng.choice(
        (
            json.dumps({"city": city, "sky": sky, "temperature": degrees}),
            json.dumps({"weather": sky, "temperature": degrees}),
            f"{sky}, {degrees} degrees",
        )
    )
    answer = f"The weather in {city} is {sky}, with {degrees} degrees."
    return _Use(("weather", city), _weather_request(rng, city), city, result, answer)


def _calculation_request(rng: Random, a: int, sign: str, b: int) -> str:
    slots = {"a": str(a), "b": str(b), "sign": sign, "spoken": SPOKEN[sign]}
    return draw.casual(rng, expand(rng.choice(CALCULATOR_REQUESTS), rng, slots))


def _long_calculation(rng: Random) -> _Use:
    """Copy an expression of three numbers, or of a number that is not whole."""
    a, b, c = (rng.randrange(1, 10 ** rng.randint(1, 3)) for _ in range(3))
    expression, value = rng.choice(
        (
            (f"{a} + {b} + {c}", a + b + c),
            (f"{a} * {b} - {c}", a * b - c),
            (f"{a} - {b} * {c}", a - b * c),
            (f"({a} + {b}) * {c}", (a + b) * c),
            (f"({a} - {b}) * {c}", (a - b) * c),
            (f"{a}.{b % 10} * {c}", (10 * a + b % 10) * c / 10),
        )
    )
    request = draw.casual(rng, expand(rng.choice(LONG_REQUESTS), rng, {"expression": expression}))
    result = f"{value:g}" if isinstance(value, float) else str(value)
    return _Use(("calculator", expression), request, expression, result, f"{expression} = {result}")


def _calculation(rng: Random) -> _Use:
    if rng.random() < 0.2:
        return _long_calculation(rng)
    sign = rng.choice("+-*/")
    a, b = (rng.randrange(1, 10 ** rng.randint(1, 4)) for _ in range(2))
    if sign == "/":
        a *= b
    elif sign == "-":
        a, b = max(a, b), min(a, b)
    value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
    expression = f"{a} {sign} {b}"
    key: tuple[object, ...] = ("calculator", expression)
    if sign in "+-" and a < 100 and b < 100:
        # The result of a held-out sum must not be seen here either.
        key = addition_key(a, b) if sign == "+" else subtraction_key(a, b)
    result = rng.choice((str(value), json.dumps({"result": value})))
    return _Use(key, _calculation_request(rng, a, sign, b), expression, result, f"{expression} = {value}")


def make_tool_call(rng: Random, system: Message | None = None, with_result: bool = False) -> Conversation:
    """Ask for the weather or a result with tools at hand; the answer is the call."""
    system = system or _offer(rng)
    known = [tool for tool in SIGNATURE.findall(system.content) if tool[0] in (*WEATHER_NAMES, *CALCULATOR_NAMES)]
    name, argument = rng.choice(known)
    use = (_weather if name in WEATHER_NAMES else _calculation)(rng)
    call = Message("assistant", tool_call(name, {argument: use.argument}))
    messages = (system, Message("user", use.request), call)
    if not with_result:
        return Conversation("tool call", messages, use.key)
    answered = (Message("tool", use.result), Message("assistant", use.answer))
    return Conversation("tool answer", messages + answered, use.key)


def make_tool_answer(rng: Random, system: Message | None = None) -> Conversation:
    """Ask, call the tool, get its result, and answer from the result."""
    return make_tool_call(rng, system, with_result=True)


def make_without_tool(rng: Random) -> Conversation:
    """Ask for the weather or for numbers when the tool for that is not there."""
    drawn = rng.random()
    if drawn < 0.4:
        city = draw.city(rng)
        system = _system(rng, _calculator_tool(rng)) if rng.random() < 0.3 else None
        asked, answer, key = _weather_request(rng, city), f"I do not know the weather in {city}.", ("weather", city)
    elif drawn < 0.7:
        sign = rng.choice("+-*/")
        a, b = (rng.randrange(1 if sign in "*/" else 100, 1000) for _ in range(2))
        answer = TOO_HARD
        if rng.random() < 0.3:
            (a, b), sign, answer = sorted(rng.sample(range(100), 2)), "-", BELOW_ZERO
        system = _system(rng, _weather_tool(rng)) if rng.random() < 0.3 else None
        asked, key = _calculation_request(rng, a, sign, b), ("calculator", f"{a} {sign} {b}")
    else:
        known = make_addition(rng) if rng.random() < 0.5 else make_subtraction(rng)
        system, asked, answer = _system(rng, _weather_tool(rng)), known.messages[0].content, known.answer
        return exchange("no tool", known.key, asked, answer, system.content)
    return exchange("no tool", key, asked, answer, system.content if system else "")
