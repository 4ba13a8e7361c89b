"""The corpus: documents of the stories and the conversations, drawn from a seed, with a part held out by content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TypeVar

from tools.demo_model import arithmetic, extraction, questions, stories, talk, tool_calls
from tools.demo_model.chat import Conversation, Message
from tools.demo_model.stories import Story

HELD_OUT_SHARE = 10  # one content in ten
MAX_CHARACTERS = 3400  # of a document; its tokens then fit the context

MAKERS: dict[str, Callable[[Random], Conversation]] = {
    "told story": talk.make_told_story,
    "addition": arithmetic.make_addition,
    "subtraction": arithmetic.make_subtraction,
    "question": questions.make_question,
    "story question": questions.make_story_question,
    "extraction": extraction.make_extraction,
    "tool call": tool_calls.make_tool_call,
    "tool answer": tool_calls.make_tool_answer,
    "no tool": tool_calls.make_without_tool,
    "talk": talk.make_talk,
}
# Shares of the documents. The sums get many, since their answers are short and hard.
DOCUMENT_WEIGHTS = {
    "story": 22,
    "told story": 11,
    "addition": 15,
    "subtraction": 15,
    "question": 24,
    "story question": 7,
    "extraction": 10,
    "tool call": 8,
    "tool answer": 4,
    "no tool": 4,
    "talk": 4,
}
SUMS = ("addition", "subtraction")
NEEDS_NO_TOOL = ("told story", "question", "extraction", "talk")


@dataclass(frozen=True)
class Document:
    """A story, or the messages of one conversation after another."""

    kind: str
    story: str = ""
    messages: tuple[Message, ...] = ()


Keyed = TypeVar("Keyed", Story, Conversation)


def is_held_out(key: tuple[object, ...]) -> bool:
    """Tell whether a content is kept from training. It depends on the content alone, never on a seed."""
    if not key:
        return False
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_SHARE == 0


def draw_from(make: Callable[[Random], Keyed], rng: Random, held_out: bool) -> Keyed:
    """Draw until the content is on the wanted side of the split."""
    while True:
        drawn = make(rng)
        if is_held_out(drawn.key) == held_out:
            return drawn


def held_out_conversations(kind: str, count: int, seed: int) -> list[Conversation]:
    """Draw conversations of one kind whose content was never trained on, each content once."""
    rng = Random(f"held out/{kind}/{seed}")
    drawn: dict[tuple[object, ...], Conversation] = {}
    while len(drawn) < count:
        conversation = draw_from(MAKERS[kind], rng, held_out=True)
        drawn.setdefault(conversation.key, conversation)
    return list(drawn.values())


def held_out_stories(count: int, seed: int) -> list[Story]:
    """Draw stories whose plot, animal and hero never met in training."""
    rng = Random(f"held out/story/{seed}")
    return [draw_from(stories.make_story, rng, held_out=True) for _ in range(count)]


def _follow_ups(rng: Random, first: Conversation) -> Iterator[Conversation]:
    """Yield what may follow in the same conversation: with tools at hand no sums, since those are for the tool."""
    system = first.messages[0] if first.messages[0].role == "system" else None
    makers = [MAKERS[kind] for kind in NEEDS_NO_TOOL]
    count = rng.choice((0, 0, 0, 0, 0, 1, 2, 6))
    if first.kind in SUMS:
        makers, count = [MAKERS[kind] for kind in SUMS], rng.randrange(8)
    elif first.kind == "tool call":
        count = 0
    elif first.kind == "tool answer":
        makers += [partial(tool_calls.make_tool_answer, system=system)] * len(makers)
    elif system is None:
        makers += [MAKERS[kind] for kind in SUMS]
    for _ in range(count):
        yield draw_from(rng.choice(makers), rng, held_out=False)


def make_document(rng: Random) -> Document:
    """Draw one training document."""
    kind = rng.choices(list(DOCUMENT_WEIGHTS), weights=list(DOCUMENT_WEIGHTS.values()))[0]
    if kind == "story":
        return Document(kind, story=draw_from(stories.make_story, rng, held_out=False).text)
    first = draw_from(MAKERS[kind], rng, held_out=False)
    messages = list(first.messages)
    for conversation in _follow_ups(rng, first):
        more = [message for message in conversation.messages if message.role != "system"]
        if sum(len(message.content) for message in (*messages, *more)) > MAX_CHARACTERS:
            break
        messages += more
    return Document(kind, messages=tuple(messages))


def training_documents(seed: int, shard: int, count: int) -> Iterator[Document]:
    """Yield the documents of one shard; shards can be drawn in any order, or side by side."""
    rng = Random(f"train/{seed}/{shard}")
    for _ in range(count):
        yield make_document(rng)
