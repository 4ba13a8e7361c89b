"""Measure the exported models through the bindings, on content that was held out from training."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt

import llama_cy
from tools.demo_model import stories
from tools.demo_model.chat import Conversation
from tools.demo_model.corpus import held_out_conversations, held_out_stories, training_documents

N_STORIES = 200
MAX_STORY_TOKENS = 250
PROMPT = "Once upon a time"
TEMPERATURE = 0.8
N_ANSWERS = 400
N_ROUND_TRIPS = 2000
UNIGRAM_DOCUMENTS = 20_000
ANSWERED = {
    "addition": "additions below 100",
    "subtraction": "subtractions below 100",
    "extraction": "extractions of fields to JSON",
    "tool call": "tool calls",
    "tool answer": "answers from a tool's result",
    "no tool": "answers where the tool asked for is not there",
    "question": "answers to questions about given sentences",
    "story question": "answers to questions about a given story",
}


@dataclass(frozen=True)
class Share:
    right: int
    of: int

    def __str__(self) -> str:
        return f"{100 * self.right / self.of:.1f} % ({self.right} of {self.of})"


@dataclass
class Results:
    """What was measured, in the words of the model card."""

    measured: dict[str, str | Share] = field(default_factory=dict)

    def count(self, what: str, right: Iterable[bool]) -> None:
        answers = list(right)
        self.measured[what] = Share(sum(answers), len(answers))


def _context(model: llama_cy.Model) -> llama_cy.Context:
    # More threads would only wait for each other: the matrices are small.
    return model.context(n_ctx=1024, n_threads=1, n_threads_batch=1)


def _story_tokens(vocab: llama_cy.Vocab, text: str) -> list[int]:
    return vocab.tokenize(text) + vocab.tokenize("</s>", add_special=False, parse_special=True)


def _rows(context: llama_cy.Context, tokens: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return the logits after every token, ``[n_tokens, n_vocab]``."""
    context.memory.clear()
    batch = llama_cy.Batch(len(tokens))
    for position, token in enumerate(tokens):
        batch.add(token, position, logits=True)
    context.decode(batch)
    return np.stack([context.logits(i) for i in range(len(tokens))]).astype(np.float64)


def _entropy(logits: npt.NDArray[np.float64], tokens: Sequence[int]) -> float:
    """Return the negative log likelihood of all tokens but the first, in nats."""
    rows, targets = logits[:-1], np.array(tokens[1:])
    highest = rows.max(axis=1)
    normalizers = highest + np.log(np.exp(rows - highest[:, None]).sum(axis=1))
    return float((normalizers - rows[np.arange(len(targets)), targets]).sum())


def _unigram(vocab: llama_cy.Vocab, seed: int) -> Counter[int]:
    """Count the tokens of training stories."""
    counts: Counter[int] = Counter()
    for document in training_documents(seed, 0, UNIGRAM_DOCUMENTS):
        if document.story:
            counts.update(_story_tokens(vocab, document.story)[1:])
    return counts


def measure_perplexity(context: llama_cy.Context, draft: llama_cy.Context, vocab: llama_cy.Vocab, seed: int) -> Results:
    """Compare both models with token frequencies alone, and the draft's likeliest tokens with the model's."""
    counts = _unigram(vocab, seed)
    total = sum(counts.values()) + len(vocab)  # each token is counted once more, so none has probability zero
    entropy = draft_entropy = unigram_entropy = 0.0
    agreed: list[bool] = []
    for story in held_out_stories(N_STORIES, seed):
        tokens = _story_tokens(vocab, story.text)
        logits, draft_logits = _rows(context, tokens), _rows(draft, tokens)
        entropy += _entropy(logits, tokens)
        draft_entropy += _entropy(draft_logits, tokens)
        unigram_entropy -= sum(math.log((counts[token] + 1) / total) for token in tokens[1:])
        agreed += [bool(same) for same in logits[:-1].argmax(1) == draft_logits[:-1].argmax(1)]
    results, n = Results(), len(agreed)
    results.measured["perplexity of the tokens of held-out stories"] = f"{math.exp(entropy / n):.3f}"
    results.measured["the same, draft model"] = f"{math.exp(draft_entropy / n):.3f}"
    results.measured["the same, token frequencies alone"] = f"{math.exp(unigram_entropy / n):.1f}"
    results.count("tokens where draft and demo model find the same one likeliest", agreed)
    return results


def measure_stories(context: llama_cy.Context, vocab: llama_cy.Vocab) -> Results:
    """Let the model tell stories: pure sampling, without any truncation."""
    told, ended = [], []
    prompt = vocab.tokenize(PROMPT)
    for seed in range(N_STORIES):
        chain = llama_cy.SamplerChain(llama_cy.Sampler.temp(TEMPERATURE), llama_cy.Sampler.dist(seed=seed))
        completion = context.complete(prompt, chain, max_tokens=MAX_STORY_TOKENS - len(prompt))
        told.append(PROMPT + completion.text)
        ended.append(completion.finish_reason == "eog")
    known = [stories.uses_known_words(text) for text in told]
    kept = [stories.keeps_hero(text) for text in told]
    results = Results()
    results.count(f"stories that end by themselves within {MAX_STORY_TOKENS} tokens", ended)
    results.count("stories that use known words only", known)
    results.count("stories that keep their hero's name", kept)
    results.count("stories that do all three", map(all, zip(ended, known, kept, strict=True)))
    results.count("stories in which nobody changes into another animal", map(stories.keeps_animals, told))
    return results


def _answer(
    context: llama_cy.Context, vocab: llama_cy.Vocab, conversation: Conversation, chain: llama_cy.Sampler
) -> str:
    prompt = vocab.tokenize(conversation.prompt, parse_special=True)
    completion = context.complete(prompt, chain, max_tokens=MAX_STORY_TOKENS)
    return completion.text if completion.finish_reason == "eog" else ""


def measure_answers(context: llama_cy.Context, vocab: llama_cy.Vocab, seed: int) -> Results:
    """Compare greedy answers, letter by letter, with the right ones."""
    results, greedy = Results(), llama_cy.sampling(temperature=0)
    for kind, what in ANSWERED.items():
        conversations = held_out_conversations(kind, N_ANSWERS, seed)
        answers = (_answer(context, vocab, conversation, greedy) for conversation in conversations)
        pairs = zip(answers, conversations, strict=True)
        results.count(f"exact {what}", [answer == conversation.answer for answer, conversation in pairs])
    return results


def measure_told_stories(context: llama_cy.Context, vocab: llama_cy.Vocab, seed: int) -> Results:
    """Ask for stories about heroes of the held-out part: what the request names is to be in the story."""
    right = []
    for number, conversation in enumerate(held_out_conversations("told story", N_STORIES, seed)):
        chain = llama_cy.SamplerChain(llama_cy.Sampler.temp(TEMPERATURE), llama_cy.Sampler.dist(seed=number))
        text = _answer(context, vocab, conversation, chain)
        request = conversation.messages[-2].content
        asked = [word for word in map(str, conversation.key[2:]) if word in request]
        right.append(bool(text) and all(word in text for word in asked))
    results = Results()
    results.count("stories on request that end and have the animal and the name asked for", right)
    return results


def measure_round_trips(vocab: llama_cy.Vocab, seed: int) -> Results:
    """Tokenize random Unicode text and put it together again."""
    rng, right = Random(seed), []
    ranges = ((0x20, 0x7F), (0x09, 0x0B), (0xA0, 0x2FF), (0x3000, 0x9FFF), (0x1F300, 0x1FAFF), (0x10000, 0x10FFFF))
    for _ in range(N_ROUND_TRIPS):
        text = "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randrange(1, 60)))
        right.append(vocab.detokenize(vocab.tokenize(text, add_special=False)) == text)
    results = Results()
    results.count("random Unicode texts that survive tokenize and detokenize", right)
    return results


def evaluate(demo: Path, draft: Path, seed: int) -> Results:
    """Measure everything that the model card tells."""
    results, started = Results(), time.monotonic()
    model, draft_model = llama_cy.Model(demo), llama_cy.Model(draft)
    vocab = model.vocab
    with _context(model) as context, _context(draft_model) as draft_context:
        for part in (
            measure_perplexity(context, draft_context, vocab, seed),
            measure_stories(context, vocab),
            measure_told_stories(context, vocab, seed),
            measure_answers(context, vocab, seed),
            measure_round_trips(vocab, seed),
        ):
            results.measured |= part.measured
    print(f"measured in {time.monotonic() - started:.0f} seconds")
    return results


def table(results: Results) -> str:
    """Return the results as a Markdown table."""
    lines = ["| measured | result |", "|---|---|"]
    return "\n".join(lines + [f"| {what} | {result} |" for what, result in results.measured.items()])


def write_card(card: Path, results: Results) -> None:
    """Replace the figures in the model card, which stand between two marks."""
    begin, end = "<!-- measured -->\n", "<!-- end -->\n"
    head, rest = card.read_text().split(begin)
    _, tail = rest.split(end)
    card.write_text(f"{head}{begin}{table(results)}\n{end}{tail}")
