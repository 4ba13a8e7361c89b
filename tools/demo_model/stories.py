"""Short stories with a beginning, a small problem, a solution and an ending."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from random import Random

from tools.demo_model import words
from tools.demo_model.grammar import WORD, capitalize, expand, literal_words
from tools.demo_model.more_plots import MORE_PLOTS
from tools.demo_model.plots import PLOTS, Plot
from tools.demo_model.words import Name, with_article

ALL_PLOTS = PLOTS + MORE_PLOTS

OPENINGS = (
    "Once upon a time, there was {a_look_animal} named {hero}. {He} lived {at}.",
    "Once upon a time, {a_look_animal} named {hero} lived {at}.",
    "Once upon a time, in a (small|little|cozy) house {at}, there lived {a_look_animal} named {hero}.",
    "Once upon a time, there was {a_look_animal} who lived {at}. {His} name was {hero}.",
    "Once there was {a_look_animal} named {hero} who lived {at}.",
    "There once was {a_look_animal} named {hero}. {His} home was {at}.",
    "Long ago, {a_look_animal} named {hero} lived {at}.",
    "{hero} was {a_look_animal}. {He} lived {at}.",
)
TRAIT_LINES = (
    "{hero} was (very |){trait}.",
    "{He} was {a_trait_animal}, and {he} (loved|liked) to {hobby}.",
    "Every (day|morning), {he} (loved|liked) to {hobby}.",
    "{hero} (loved|liked) to {hobby}.",
)
ENDINGS_FOR_FRIENDS = (
    "From that day on, {hero} and {friend} were (best|good) friends.",
    "{hero} and {friend} (stayed|were) friends for the rest of their lives.",
)
ENDINGS_AT_NIGHT = ("That night, {hero} (went to bed|fell asleep) with a (smile|happy heart).",)
ENDINGS = (
    "{hero} was (very |so )happy.",
    "{hero} never forgot that (day|night).",
    "And so {hero} lived happily ever after.",
)


@dataclass
class Story:
    text: str
    hero: str
    animal: str
    place: str  # with its preposition: "in the forest"
    trait: str  # empty where the story does not tell it
    about: str
    plot: str
    friend: str
    kin: str  # the friend's animal
    questions: list[tuple[str, str]] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, ...]:
        """What decides whether the story is held out."""
        return ("story", self.plot, self.animal, self.hero)


def _pronouns(prefix: str, name: Name) -> dict[str, str]:
    return {prefix + slot: word for slot, word in words.PRONOUNS[name.gender].items()}


def _slots(rng: Random, hero: Name, animal: str, friend: Name) -> dict[str, str]:
    kin = rng.choice([other for other in words.ANIMALS if other != animal])
    home, far = rng.sample(words.PLACES, 2)
    spot, spot2, spot3 = rng.sample(words.HIDING_PLACES, 3)
    color, thing, food = rng.choice(words.COLORS), rng.choice(words.THINGS), rng.choice(words.FOODS)
    trait = rng.choice(words.TRAITS)
    slots = {
        "hero": hero.text,
        "animal": animal,
        "friend": friend.text,
        "kin": kin,
        "at": home.at,
        "far_at": far.at,
        "far_to": far.to,
        "spot": spot,
        "spot2": spot2,
        "spot3": spot3,
        "color": color,
        "a_color": with_article(color),
        "flower_color": rng.choice(words.FLOWER_COLORS),
        "thing": thing,
        "a_thing": with_article(f"{color} {thing}"),
        "fragile": rng.choice(words.FRAGILE_THINGS),
        "food": food,
        "a_food": with_article(food),
        "snack": rng.choice(words.SNACKS),
        "drink": rng.choice(words.DRINKS),
        "tool": rng.choice(words.TOOLS),
        "catcher": rng.choice(words.CATCHERS),
        "project": rng.choice(words.PROJECTS),
        "skill": rng.choice([skill for skill, born in words.SKILLS.items() if animal not in born]),
        "trait": trait,
        "hobby": rng.choice(words.HOBBIES),
        "weather": rng.choice(words.WEATHERS),
        "a_look_animal": with_article(f"{rng.choice(words.LOOKS)} {animal}"),
        "a_trait_animal": with_article(f"{trait} {animal}"),
    }
    return slots | _pronouns("", hero) | _pronouns("friend.", friend)


def _ending(rng: Random, plot: Plot) -> str:
    endings = list(ENDINGS)
    if plot.new_friends:
        endings += ENDINGS_FOR_FRIENDS
    if not plot.at_night:
        endings += ENDINGS_AT_NIGHT
    closing = rng.choice(endings)
    if rng.random() < 0.6:
        closing = f"{rng.choice(plot.lessons)} {closing}"
    return closing + (" The end." if rng.random() < 0.15 else "")


def make_story(rng: Random, hero: Name | None = None, animal: str | None = None) -> Story:
    """Draw one story; its hero's name and animal may be given."""
    plot = rng.choice(ALL_PLOTS)
    hero = hero or rng.choice(words.NAMES)
    # "he" is then always one of the two, and "she" the other.
    friend = rng.choice([name for name in words.NAMES if name.gender != hero.gender])
    slots = _slots(rng, hero, animal or rng.choice(words.ANIMALS), friend)
    # Half of all stories share their first words, which makes them a natural prompt.
    opening = rng.choice(OPENINGS[:4] if rng.random() < 0.5 else OPENINGS)
    templates = [opening]
    trait_line = rng.choice(TRAIT_LINES) if plot.opening_trait and rng.random() < 0.6 else ""
    if trait_line:
        templates.append(trait_line)
    templates += [*plot.beats, _ending(rng, plot)]
    sentences = [capitalize(expand(template, rng, slots)).strip() for template in templates]
    return Story(
        text=" ".join(sentences),
        hero=hero.text,
        animal=slots["animal"],
        place=slots["at"],
        trait=slots["trait"] if "trait" in trait_line else "",
        about=expand(plot.about, rng, slots),
        plot=plot.name,
        friend=friend.text,
        kin=slots["kin"],
        questions=_questions(rng, plot, slots),
    )


def _questions(rng: Random, plot: Plot, slots: Mapping[str, str]) -> list[tuple[str, str]]:
    always = (
        ("What kind of animal was {hero}?", "{hero} was {a_animal}."),
        ("Where did {hero} live?", "{hero} lived {at}."),
        ("What was the name of the {animal}?", "The name of the {animal} was {hero}."),
        ("Who was {friend}?", "{friend} was {a_kin}."),
    )
    slots = {**slots, "a_animal": with_article(slots["animal"]), "a_kin": with_article(slots["kin"])}
    return [(expand(q, rng, slots), expand(a, rng, slots)) for q, a in (*plot.questions, *always)]


@cache
def known_words() -> frozenset[str]:
    """Return every word, in lower case, that a story of this grammar can contain."""
    known: set[str] = set()
    templates = [*OPENINGS, *TRAIT_LINES, *ENDINGS, *ENDINGS_FOR_FRIENDS, *ENDINGS_AT_NIGHT, "The end."]
    for plot in ALL_PLOTS:
        templates += [*plot.beats, *plot.lessons]
    for template in templates:
        known.update(literal_words(template))
    lists: list[str] = [name.text for name in words.NAMES]
    lists += [phrase for place in words.PLACES for phrase in (place.at, place.to)]
    lists += [word for forms in words.PRONOUNS.values() for word in forms.values()]
    for group in (
        words.ANIMALS, words.LOOKS, words.TRAITS, words.HOBBIES, words.COLORS, words.FLOWER_COLORS, words.THINGS,
        words.FRAGILE_THINGS, words.FOODS, words.SNACKS, words.DRINKS, words.TOOLS, words.CATCHERS, words.PROJECTS,
        tuple(words.SKILLS), words.HIDING_PLACES, words.WEATHERS,
    ):  # fmt: skip
        lists += group
    for phrase in (*lists, "a an"):
        known.update(word.lower() for word in WORD.findall(phrase))
    return frozenset(known)


_NAMES = {name.text for name in words.NAMES}


def uses_known_words(text: str) -> bool:
    """Tell whether a story is made of the grammar's words only."""
    return all(word.lower() in known_words() for word in WORD.findall(text))


def keeps_hero(text: str) -> bool:
    """Tell whether the hero, who is named first, is named again near the end and nobody but one friend joins."""
    names = [word for word in WORD.findall(text) if word in _NAMES]
    if len(names) < 3 or len(set(names)) != 2:
        return False
    hero = names[0]
    return hero in WORD.findall(text[len(text) * 2 // 3 :])


def keeps_animals(text: str) -> bool:
    """Tell whether everyone who is called by name and animal keeps the same animal to the end."""
    animal_of: dict[str, str] = {}
    tokens = WORD.findall(text)
    triples = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
    pairs = [(name, animal) for name, the, animal in triples if the == "the"]
    pairs += [(name, animal) for animal, named, name in triples if named == "named"]
    for name, animal in pairs:
        if name in _NAMES and animal in words.ANIMALS and animal_of.setdefault(name, animal) != animal:
            return False
    return True
