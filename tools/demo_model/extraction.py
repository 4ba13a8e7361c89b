"""Fields of a short text as JSON."""

from __future__ import annotations

import json
from random import Random

from tools.demo_model import draw, words
from tools.demo_model.chat import Conversation, exchange
from tools.demo_model.grammar import expand
from tools.demo_model.words import PRONOUNS, with_article

DETAILS = {
    "job": ("{He} (works as|is) {a_job}.",),
    "pet": ("{He} has a {pet}.",),
    "food": ("{He} (likes|loves) {food}.", "{His} favorite food is {food}."),
    "color": ("{His} favorite color is {color}.",),
}
INTRODUCTIONS = (
    "{name} is {age} years old and lives in {city}.",
    "{name} is {age} years old. {He} lives in {city}.",
    "{name}, {age}, lives in {city}.",
    "{name} lives in {city}. {He} is {age} years old.",
    "{name} from {city} is {age} years old.",
    "My name is {name}. I am {age} years old and I live in {city}.",
    "(This is|Meet) {name}. {He} is {age} and comes from {city}.",
)
REQUESTS = (
    "(Extract|Give me|Find) the {fields} as JSON: {text}",
    "(Extract|Give me|Find) the {fields} as JSON.\n{text}",
    "(Extract|Give me) {fields} as JSON: {text}",
    "{text}\n(Extract|Give me) the {fields} as JSON.",
    "{text}\nReturn JSON with the fields {fields}.",
    "(Turn this into|Make) JSON with the fields {fields}: {text}",
    "JSON with {fields}: {text}",
)


def _listed(rng: Random, fields: list[str]) -> str:
    if len(fields) == 1:
        return fields[0]
    if rng.random() < 0.2:
        return ", ".join(fields)
    return f"{', '.join(fields[:-1])} and {fields[-1]}"


def make_extraction(rng: Random) -> Conversation:
    """Describe a person and ask for two to four of the facts as a JSON object."""
    person = draw.full_name(rng)
    age, city = rng.randrange(2, 100), draw.city(rng)
    job, pet = rng.choice(words.JOBS), rng.choice(words.PETS)
    food, color = rng.choice(words.SNACKS), rng.choice(words.COLORS)
    values: dict[str, str | int] = {"name": person.text, "age": age, "city": city}
    slots = {"name": person.text, "age": str(age), "city": city, "pet": pet, "food": food, "color": color}
    slots |= {"a_job": with_article(job), **PRONOUNS[person.gender]}
    introduction = rng.choice(INTRODUCTIONS)
    sentences = [expand(introduction, rng, slots)]
    if not introduction.startswith("My name"):
        told = rng.sample(list(DETAILS), rng.choice((0, 0, 1, 1, 2)))
        sentences += [expand(rng.choice(DETAILS[detail]), rng, slots) for detail in told]
        values |= {detail: {"job": job, "pet": pet, "food": food, "color": color}[detail] for detail in told}
    asked = rng.sample(list(values), rng.randint(2, min(4, len(values))))
    if rng.random() < 0.5:
        asked.sort(key=list(values).index)
    text = " ".join(sentences)
    request = expand(rng.choice(REQUESTS), rng, {"fields": _listed(rng, asked), "text": text})
    answer = json.dumps({field: values[field] for field in asked}, ensure_ascii=False)
    return exchange("extraction", ("extraction", person.text, age, city), request, answer)
