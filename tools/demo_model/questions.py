"""Questions about a few sentences, or about a short story, that are given."""

from __future__ import annotations

from random import Random

from tools.demo_model import draw, words
from tools.demo_model.chat import Conversation, exchange
from tools.demo_model.grammar import capitalize, expand
from tools.demo_model.stories import make_story
from tools.demo_model.words import PRONOUNS, with_article

# A fact, and the questions that it answers. Each fact is about one person.
FACTS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "has": (
        "{who} has {a_thing}.",
        (
            ("What does {name} have?", "{name} has {a_thing}."),
            ("Who has the {thing}?", "{name} has the {thing}."),
            ("Who has {a_thing}?", "{name} has {a_thing}."),
            ("What color is the {thing}?", "The {thing} is {color}."),
            ("What color is {name}'s {thing}?", "The {thing} is {color}."),
        ),
    ),
    "is at": (
        "{who} is {at}.",
        (
            ("Where is {name}?", "{name} is {at}."),
            ("Who is {at}?", "{name} is {at}."),
        ),
    ),
    "lives": (
        "{who} lives in {city}.",
        (
            ("Where does {name} live?", "{name} lives in {city}."),
            ("Who lives in {city}?", "{name} lives in {city}."),
        ),
    ),
    "feels": (
        "{who} (is|feels) {mood}(| today).",
        (
            ("How does {name} feel?", "{name} feels {mood}."),
            ("Who is {mood}?", "{name} is {mood}."),
            ("Is {name} {mood}?", "Yes, {name} is {mood}."),
            ("Is {name} {other_mood}?", "No, {name} is {mood}."),
        ),
    ),
    "why": (
        "{who} is {mood} because {reason}.",
        (
            ("Why is {name} {mood}?", "{name} is {mood} because {reason}."),
            ("How does {name} feel?", "{name} feels {mood}."),
        ),
    ),
    "likes": (
        "{who} (likes|loves) {food}.",
        (
            ("What does {name} like?", "{name} likes {food}."),
            ("Who likes {food}?", "{name} likes {food}."),
        ),
    ),
    "put": (
        "{who} put {a_thing} {spot}.",
        (
            ("Where is the {thing}?", "The {thing} is {spot}."),
            ("What did {name} put {spot}?", "{name} put {a_thing} {spot}."),
            ("Who put the {thing} {spot}?", "{name} put the {thing} {spot}."),
        ),
    ),
    "is a": (
        "{name} is {an_animal}.",
        (
            ("What is {name}?", "{name} is {an_animal}."),
            ("Who is {an_animal}?", "{name} is {an_animal}."),
            ("Is {name} {an_animal}?", "Yes, {name} is {an_animal}."),
            ("Is {name} {another_animal}?", "No, {name} is {an_animal}."),
        ),
    ),
    "gave": (
        "{who} gave {friend} {a_thing}.",
        (
            ("What did {name} give {friend}?", "{name} gave {friend} {a_thing}."),
            ("Who gave {friend} the {thing}?", "{name} gave {friend} the {thing}."),
            ("Who got the {thing}?", "{friend} got the {thing}."),
        ),
    ),
    "has two": (
        "{who} has {a_thing} and {a_second}.",
        (
            ("What does {name} have?", "{name} has {a_thing} and {a_second}."),
            ("What color is the {thing}?", "The {thing} is {color}."),
            ("What color is the {second}?", "The {second} is {second_color}."),
            ("Who has the {second}?", "{name} has the {second}."),
        ),
    ),
    "counts": (
        "{who} has {number} {counted}.",
        (
            ("What does {name} have?", "{name} has {number} {counted}."),
            ("How many {counted} does {name} have?", "{name} has {number} {counted}."),
            ("Who has {number} {counted}?", "{name} has {number} {counted}."),
        ),
    ),
    "lies": (
        "The {thing} is {spot}.",
        (
            ("Where is the {thing}?", "The {thing} is {spot}."),
            ("What is {spot}?", "The {thing} is {spot}."),
        ),
    ),
    "looks": (
        "The {thing} is {color}.",
        (
            ("What color is the {thing}?", "The {thing} is {color}."),
            ("What is {color}?", "The {thing} is {color}."),
            ("Is the {thing} {color}?", "Yes, the {thing} is {color}."),
            ("Is the {thing} {second_color}?", "No, the {thing} is {color}."),
        ),
    ),
}
REASONS = (
    "it is raining",
    "the sun is shining",
    "{he} lost {his} {thing}",
    "{he} found a {thing}",
    "{he} could not sleep",
    "it is {his} birthday",
    "the {thing} is broken",
    "{he} won the race",
)
FRAMES = (
    "{text} {question}",
    "{text}\n{question}",
    "{text}\n\n{question}",
    "{text}\nQuestion: {question}",
    "Read this: {text}\n{question}",
    "Text: {text}\nQuestion: {question}",
    "{question}\n{text}",
)


def _framed(rng: Random, text: str, question: str) -> str:
    return expand(rng.choice(FRAMES), rng, {"text": text, "question": question})


def _joined(rng: Random, sentences: list[str]) -> str:
    if len(sentences) > 1 and rng.random() < 0.15:
        first, second, *rest = sentences
        if second.startswith("The "):
            second = "the " + second[4:]
        sentences = [f"{first[:-1]}{rng.choice((' and', ', and'))} {second}", *rest]
    return " ".join(sentences)


def make_question(rng: Random) -> Conversation:
    """Give one to four facts about different people and things and ask for one of them."""
    count = rng.choice((1, 2, 2, 3, 3, 4))
    people = draw.distinct(lambda: draw.name(rng), count + 1)
    things = draw.distinct(lambda: draw.noun(rng), 2 * count + 1)
    spots = draw.distinct(lambda: draw.spot(rng), count)
    cities = draw.distinct(lambda: draw.city(rng), count)
    moods = rng.sample(words.MOODS, count + 1)
    animals = draw.distinct(lambda: rng.choice((*words.ANIMALS, *words.OTHER_ANIMALS)), count + 1)
    places, foods = rng.sample(words.PLACES, count), rng.sample(words.SNACKS, count)
    colors = rng.sample(words.COLORS, 2 * count)
    numbers, counted = rng.sample(words.NUMBERS, count), rng.sample(words.COUNTED, count)
    kinds = rng.choices(list(FACTS), k=count)
    sentences, questions = [], []
    for i, kind in enumerate(kinds):
        slots = {
            "name": people[i].text,
            "who": people[i].text + (f" the {animals[i]}" if kind != "is a" and rng.random() < 0.3 else ""),
            "friend": people[-1].text,
            "thing": things[i],
            "color": colors[i],
            "a_thing": with_article(f"{colors[i]} {things[i]}"),
            "second": things[count + i],
            "second_color": colors[count + i],
            "a_second": with_article(f"{colors[count + i]} {things[count + i]}"),
            "at": places[i].at,
            "city": cities[i],
            "mood": moods[i],
            "other_mood": moods[-1],
            "food": foods[i],
            "spot": spots[i],
            "number": numbers[i] if rng.random() < 0.7 else str(rng.randrange(2, 100)),
            "counted": counted[i],
            "an_animal": with_article(animals[i]),
            "another_animal": with_article(animals[-1]),
        }
        reason_slots = {**slots, **PRONOUNS[people[i].gender], "thing": things[-1]}
        slots["reason"] = expand(rng.choice(REASONS), rng, reason_slots)
        fact, about = FACTS[kind]
        sentences.append(expand(fact, rng, slots))
        questions.append(tuple(expand(part, rng, slots) for part in rng.choice(about)))
    asked, answer = questions[rng.randrange(count)]
    text = _joined(rng, sentences)
    return exchange("question", ("question", text, asked), _framed(rng, text, asked), capitalize(answer))


def make_story_question(rng: Random) -> Conversation:
    """Give a whole story and ask for something that happens in it."""
    story = make_story(rng)
    asked, answer = rng.choice(story.questions)
    return exchange("story question", story.key, _framed(rng, story.text, asked), answer)
