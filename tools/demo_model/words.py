"""Word lists of the demo corpus, and the small nouns that carry their grammar with them."""

from __future__ import annotations

from dataclasses import dataclass

VOWELS = "aeiou"


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def with_article(phrase: str) -> str:
    """Put ``a`` or ``an`` before a noun phrase."""
    takes_an = phrase[0].lower() in VOWELS and not phrase.startswith("unicorn")
    return f"{'an' if takes_an else 'a'} {phrase}"


@dataclass(frozen=True)
class Name:
    text: str
    gender: str  # "he" or "she"


@dataclass(frozen=True)
class Place:
    at: str  # "in the forest"
    to: str  # "into the forest"


PRONOUNS = {
    "he": {"he": "he", "him": "him", "his": "his", "himself": "himself", "He": "He", "His": "His"},
    "she": {"he": "she", "him": "her", "his": "her", "himself": "herself", "He": "She", "His": "Her"},
}


def _named(he: str, she: str) -> tuple[Name, ...]:
    return tuple(Name(text, "he") for text in he.split()) + tuple(Name(text, "she") for text in she.split())


NAMES = _named(
    he="Tim Max Ben Sam Leo Tom Finn Otto Hugo Jack Oscar Felix Milo Noah Theo Bruno",
    she="Lily Mia Anna Zoe Ella Ruby Rosa Nina Lucy Emma Clara Daisy Sara Molly Nora Tess",
)

ANIMALS = _listed(
    "fox rabbit bear mouse cat dog duck frog squirrel hedgehog deer pig goat lamb turtle otter badger pony mole beaver"
)
BORN_SWIMMERS = frozenset({"duck", "frog", "turtle", "otter", "beaver"})
BORN_CLIMBERS = frozenset({"cat", "squirrel", "bear"})
BORN_JUMPERS = frozenset({"rabbit", "frog", "deer", "goat"})

LOOKS = ("little", "small", "young", "tiny", "brown", "gray")
TRAITS = ("kind", "brave", "curious", "clever", "gentle", "cheerful", "friendly", "playful", "funny", "helpful")
HOBBIES = (
    "run in the grass",
    "sing songs",
    "dance in the rain",
    "paint pictures",
    "look at the clouds",
    "play games",
    "pick flowers",
    "count the stars",
    "tell jokes",
    "jump over puddles",
)

PLACES = (
    Place("in the forest", "into the forest"),
    Place("in the meadow", "to the meadow"),
    Place("by the lake", "to the lake"),
    Place("by the river", "to the river"),
    Place("on the hill", "up the hill"),
    Place("in the garden", "to the garden"),
    Place("in the village", "to the village"),
    Place("on the farm", "to the farm"),
    Place("in the valley", "into the valley"),
    Place("by the pond", "to the pond"),
    Place("on the beach", "to the beach"),
    Place("in the park", "to the park"),
)

COLORS = ("red", "blue", "green", "yellow", "white", "brown", "purple", "orange", "pink", "black")

FLOWER_COLORS = ("red", "blue", "yellow", "white", "purple", "orange", "pink")

THINGS = _listed("ball kite hat scarf drum book bell cup basket blanket flute button ring bag boat")
FRAGILE_THINGS = _listed("kite drum cup basket flute boat bell")
TOOLS = ("rope", "branch", "stick")
CATCHERS = ("net", "bucket", "basket")
PROJECTS = ("tree house", "boat", "bridge", "tower", "little house")
DRINKS = ("soup", "milk", "tea")
SKILLS = {
    "swim": BORN_SWIMMERS,
    "climb the tall tree": BORN_CLIMBERS,
    "jump over the stream": BORN_JUMPERS,
    "fly a kite": frozenset(),
    "whistle a song": frozenset(),
    "bake bread": frozenset(),
    "dance on one foot": frozenset(),
}

FOODS = ("apple", "pear", "cookie", "carrot", "cake", "pie", "peach", "sandwich")
SNACKS = ("honey", "bread", "cheese", "soup", "jam", "milk", "rice", "fruit")

HIDING_PLACES = (
    "under the bed",
    "behind the door",
    "under the table",
    "in the tall grass",
    "behind a big rock",
    "under the old tree",
    "behind the chair",
    "next to the gate",
    "in the bushes",
    "under a pile of leaves",
)

WEATHERS = ("sunny", "warm", "bright", "windy", "cool", "quiet", "lovely")

# Chat tasks only: the stories told without a request do not use the lists below.
OTHER_NAMES = _named(
    he="Adam Alex Bob Carl Chris Dan David Eric Frank George Henry Ivan James Jim Joe John Karl Lars Luke Mark Mike "
    "Nick Paul Peter Ray Rob Steve Ted Victor Will",
    she="Alice Amy Beth Carol Diana Eva Fiona Grace Hana Iris Jane Julia Kate Laura Lisa Maria Mary Nadia Olga Pam "
    "Rachel Sally Sophie Tina Ursula Vera Wendy Yara",
)
SURNAMES = _listed("Smith Brown Miller Young King Hill Green Baker Stone Wood Berg Silva Rossi Novak Lopez Cook Fox")
OTHER_ANIMALS = _listed(
    "lion elephant monkey dragon horse cow wolf tiger penguin panda bird chicken sheep crocodile giraffe zebra "
    "kangaroo koala unicorn dinosaur robot hamster parrot donkey goose swan snail bee ant owl whale princess pirate"
)
MOODS = ("happy", "sad", "angry", "tired", "scared", "proud", "hungry", "excited", "lonely", "calm", "bored", "sleepy")
CITIES = (
    *_listed(
        "Oslo Paris Rome Cairo Lima Tokyo London Berlin Madrid Vienna Dublin Prague Athens Lisbon Warsaw Helsinki "
        "Boston Chicago Denver Toronto Sydney Delhi Mumbai Seoul Hanoi Nairobi Lagos Accra Havana Quito Bergen Zurich "
        "Munich Naples Porto Krakow Geneva Dallas Kyoto Osaka"
    ),
    *("New York", "Los Angeles", "San Francisco", "Cape Town", "Hong Kong", "Mexico City", "New Delhi", "Buenos Aires"),
)
NOUNS = _listed(
    "key pen apple coin doll toy shoe coat lamp clock phone letter box bottle plate spoon fork brush mirror candle "
    "pillow chair table umbrella ladder hammer bucket rope map ticket mat car house tree bird cat dog egg stone flower"
)
COUNTED = _listed(
    "apples cookies books balls pens keys cups stars flowers stones coins eggs nuts shells hats dogs cats"
)
NUMBERS = _listed("two three four five six seven eight nine ten twelve")
PREPOSITIONS = ("on", "in", "under", "behind", "next to")
JOBS = _listed(
    "baker doctor teacher farmer painter pilot nurse writer driver singer gardener cook sailor dancer builder"
)
PETS = _listed("cat dog rabbit parrot pony turtle hamster goldfish goose duck")
SKIES = ("sunny", "cloudy", "rainy", "windy", "snowy", "foggy", "stormy", "clear")

ONSETS = _listed("b br c ch d dr f fl g gr h j k kr l m n p pr qu r s sh st t tr v w y z")
VOWEL_SOUNDS = _listed("a e i o u ai ea ee ia io oa ou")
CODAS = _listed("b ck d l ll m n nd r rd s t th v x") + ("",) * 8
