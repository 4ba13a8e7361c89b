"""Small talk, and stories on request."""

from __future__ import annotations

from random import Random

from tools.demo_model import draw, words
from tools.demo_model.chat import Conversation, exchange
from tools.demo_model.grammar import expand
from tools.demo_model.stories import make_story
from tools.demo_model.tool_calls import SYSTEM_PROMPTS
from tools.demo_model.words import with_article

SKILLS = (
    "I can tell a story, answer a question about a text, add and subtract small numbers, "
    "turn a text into JSON and call a tool."
)
TALK: tuple[tuple[str, str], ...] = (
    ("(Hello|Hi|Hey|Good morning|Good evening|Hello there|Hi there)(!|.|)", "Hello! What can I do for you?"),
    ("How are you(| today)?", "I am fine, thank you. What can I do for you?"),
    ("(Thank you|Thanks|Thank you very much|Thanks a lot)(!|.)", "You are welcome!"),
    ("(Goodbye|Bye|Good night|See you)(!|.)", "Goodbye! It was nice to talk to you."),
    ("(Who|What) are you?", f"I am a very small language model. {SKILLS}"),
    ("What can you do(| for me)?", SKILLS),
    ("(Help|Can you help me|I need help)(.|?|)", f"Of course. {SKILLS}"),
    ("What is your name?", "I have no name. I am a very small language model."),
    ("(Do you like|Do you know) (stories|animals|numbers)?", "Yes! Ask me for a story about an animal."),
    (
        "(Who|What) (is|was) {Word}?",
        "I do not know that. I am a very small model.",
    ),
    (
        "(Explain|Write a poem about|Tell me about|Translate) {word}(.|)",
        f"I can not do that. {SKILLS}",
    ),
    ("(Why|When|How) (does|did|do) {word} {word2}?", "I do not know that. I am a very small model."),
    ("What is the (capital|price|meaning|size) of {Word}?", "I do not know that. I am a very small model."),
)

STORY_REQUESTS = (
    "(Tell me|Write|Write me|Please tell me|I want|Can you tell me|Give me) a (|short |little )story "
    "about {topic}{mark}",
    "(A story|Story) about {topic}{mark}",
)
OPEN_STORY_REQUESTS = (
    "(Tell me|Write|Please tell me|Can you tell me) a (|short |little |bedtime |children's )story{mark}",
    "(I want to hear|I would like) a story{mark}",
)


def make_talk(rng: Random) -> Conversation:
    """Greet, thank, ask who is there, or ask for something that the model can not do."""
    request, answer = rng.choice(TALK)
    made_up = draw.made_up_word(rng), draw.made_up_word(rng)
    known = rng.choice((*words.ANIMALS, *words.THINGS, *words.FOODS))
    slots = {
        "Word": rng.choice((made_up[0], "the " + known, f"{made_up[0]} {made_up[1]}")),
        "word": rng.choice((made_up[0].lower(), f"the {known}", with_article(known))),
        "word2": made_up[1].lower(),
    }
    user = draw.casual(rng, expand(request, rng, slots))
    system = rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.2 else ""
    return exchange("talk", (), user, answer, system)


def make_told_story(rng: Random) -> Conversation:
    """Ask for a story, with more or less said about its hero, and tell it."""
    hero = draw.name(rng)
    drawn = rng.random()
    animal = rng.choice(words.ANIMALS)
    if drawn < 0.3:
        animal = rng.choice(words.OTHER_ANIMALS) if drawn < 0.22 else draw.made_up_word(rng).lower()
    story = make_story(rng, hero, animal)
    a_hero = with_article(f"{story.trait} {animal}".strip())
    topics = [a_hero, f"{a_hero} {story.about}", f"{a_hero} who lived {story.place}"]
    named = [
        f"{a_hero} (named|called) {hero.text}",
        f"{a_hero} (named|called) {hero.text}",
        f"{a_hero} (named|called) {hero.text} {story.about}",
        f"{a_hero} named {hero.text} who lived {story.place}",
        f"{hero.text} the {animal}",
        f"{hero.text} the {animal} and {story.friend} the {story.kin}",
    ]
    if animal in words.ANIMALS:
        named += [hero.text, f"{hero.text} and {story.friend}"]
    # What is not one of the stories' own names or animals has to be asked for.
    if hero not in words.NAMES or rng.random() < 0.7:
        topics = named
    is_open = hero in words.NAMES and animal in words.ANIMALS and rng.random() < 0.15
    topic = expand(rng.choice(topics), rng, {})
    templates = OPEN_STORY_REQUESTS if is_open else STORY_REQUESTS
    request = expand(rng.choice(templates), rng, {"topic": topic, "mark": "{mark}"})
    request = request.replace("{mark}", "?" if request.startswith("Can") else ".")
    system = rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.1 else ""
    return exchange("told story", story.key, draw.casual(rng, request), story.text, system)
