"""The demo corpus keeps its promises, and the built-in model those of its corpus."""

from __future__ import annotations

import json
import re
from random import Random

import gguf
import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import llama_cy
from tools.demo_model import stories, words
from tools.demo_model.arithmetic import addition_key, subtraction_key
from tools.demo_model.chat import CHAT_TEMPLATE, TOOL_CALL, TOOL_CALL_END, Conversation, render
from tools.demo_model.corpus import (
    MAKERS,
    draw_from,
    held_out_conversations,
    held_out_stories,
    is_held_out,
    training_documents,
)
from tools.demo_model.grammar import expand
from tools.demo_model.tool_calls import SIGNATURE

SEEDS = st.integers(0, 2**32)
SUM = re.compile(r"^(\d+) ([+-]) (\d+) = (\d+)$")
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2581"))
CONVERSATION_KINDS = pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind != "talk"])


def greedy_answer(context: llama_cy.Context, model: llama_cy.Model, conversation: Conversation) -> str:
    prompt = model.vocab.tokenize(conversation.prompt, parse_special=True)
    return context.complete(prompt, llama_cy.sampling(temperature=0), max_tokens=250).text


@given(SEEDS)
def test_story_uses_known_words_and_keeps_its_people(seed: int) -> None:
    text = stories.make_story(Random(seed)).text
    assert stories.uses_known_words(text)
    assert stories.keeps_hero(text)
    assert stories.keeps_animals(text)


@given(SEEDS)
def test_story_is_well_formed(seed: int) -> None:
    story = stories.make_story(Random(seed))
    assert not re.search(r"[{}()|]|  |\s$", story.text)
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", story.text, re.IGNORECASE)
    assert all(sentence[0].isupper() for sentence in re.findall(r'(?<=[.!?] )"?(\w)', story.text))
    assert story.text[-1] == "."
    assert story.text.count('"') % 2 == 0


@given(SEEDS)
def test_hero_and_friend_have_different_pronouns(seed: int) -> None:
    story = stories.make_story(Random(seed))
    gender = {name.text: name.gender for name in words.NAMES}
    assert gender[story.hero] != gender[story.friend]
    before_the_friend = story.text.split(story.friend)[0]
    other = {"he": r"\b(she|her|hers)\b", "she": r"\b(he|him|his)\b"}[gender[story.hero]]
    assert not re.search(other, before_the_friend, re.IGNORECASE)


@given(SEEDS)
def test_story_fits_the_length_that_is_measured(demo: llama_cy.Model, seed: int) -> None:
    assert len(demo.vocab.tokenize(stories.make_story(Random(seed)).text)) < 250


@pytest.mark.parametrize(
    "text",
    ["Tim was a fox. Tim met Zoe. Zoe left. Ben was happy.", "Tim was a fox. Tim met Zoe. Zoe and Ella were happy."],
)
def test_keeps_hero_finds_a_changed_name(text: str) -> None:
    assert not stories.keeps_hero(text)


def test_keeps_animals_finds_a_changed_animal() -> None:
    assert stories.keeps_animals("There was a fox named Tim. Tim the fox met Zoe the cat.")
    assert not stories.keeps_animals("There was a fox named Tim. Tim the bear met Zoe the cat.")


def test_uses_known_words_finds_a_strange_one() -> None:
    assert stories.uses_known_words("Tim was happy.")
    assert not stories.uses_known_words("Tim was quizzical.")


def test_vocabulary_is_a_few_hundred_words() -> None:
    assert 300 < len(stories.known_words()) < 900


def test_same_seed_gives_the_same_documents() -> None:
    first = list(training_documents(1, 0, 100))
    assert first == list(training_documents(1, 0, 100))
    assert first != list(training_documents(1, 1, 100))
    assert first != list(training_documents(2, 0, 100))


def test_sums_are_right_and_none_is_held_out() -> None:
    seen = 0
    for document in training_documents(5, 0, 3000):
        for message in document.messages:
            found = SUM.match(message.content) if message.role == "assistant" else None
            if found and "tool" not in {other.role for other in document.messages}:
                a, b, result = int(found[1]), int(found[3]), int(found[4])
                assert result == (a + b if found[2] == "+" else a - b)
                assert not is_held_out(addition_key(a, b) if found[2] == "+" else subtraction_key(a, b))
                seen += 1
    assert seen > 1000


def test_held_out_stories_are_not_in_the_training_text() -> None:
    told = {document.story for document in training_documents(1, 0, 4000)}
    held_out = held_out_stories(200, seed=1)
    assert all(is_held_out(story.key) for story in held_out)
    assert told.isdisjoint(story.text for story in held_out)


@CONVERSATION_KINDS
def test_held_out_conversations_differ_from_each_other(kind: str) -> None:
    conversations = held_out_conversations(kind, 100, seed=1)
    assert len({conversation.key for conversation in conversations}) == 100
    assert all(is_held_out(conversation.key) for conversation in conversations)
    assert conversations == held_out_conversations(kind, 100, seed=1)


@given(SEEDS)
def test_extraction_is_json_of_what_the_text_says(seed: int) -> None:
    conversation = draw_from(MAKERS["extraction"], Random(seed), held_out=False)
    fields = json.loads(conversation.answer)
    assert 2 <= len(fields) <= 4
    request = conversation.messages[0].content
    assert all(field in request and str(value) in request for field, value in fields.items())


@given(SEEDS)
def test_tool_call_names_a_tool_that_is_offered(seed: int) -> None:
    system, request, answer = draw_from(MAKERS["tool call"], Random(seed), held_out=False).messages
    assert answer.content.startswith(f"{TOOL_CALL}\n")
    assert answer.content.endswith(f"\n{TOOL_CALL_END}")
    call = json.loads(answer.content.removeprefix(TOOL_CALL).removesuffix(TOOL_CALL_END))
    ((argument, value),) = call["arguments"].items()
    assert (call["name"], argument) in SIGNATURE.findall(system.content)
    spoken = request.content.replace("plus", "+").replace("minus", "-").replace("times", "*")
    assert value in spoken.replace("divided by", "/")


@given(SEEDS)
def test_question_is_answered_by_the_text(seed: int) -> None:
    conversation = draw_from(MAKERS["question"], Random(seed), held_out=False)
    request = set(re.findall(r"\w+", conversation.messages[0].content.lower()))
    said = set(re.findall(r"\w+", conversation.answer.lower()))
    assert said <= request | {"yes", "no", "the", "is", "has", "a", "an", "feels", "likes", "got", "lives"}


def test_template_choices_and_slots() -> None:
    drawn = {expand("(a|b(c|))-{x}", Random(seed), {"x": "y"}) for seed in range(50)}
    assert drawn == {"a-y", "b-y", "bc-y"}


@pytest.mark.parametrize("template", ["(a|b", "a|b", "a)"])
def test_broken_template_is_an_error(template: str) -> None:
    with pytest.raises(ValueError, match=re.escape(template)):
        expand(template, Random(0), {})


@CONVERSATION_KINDS
def test_chat_template_of_the_model_renders_as_the_corpus_does(demo: llama_cy.Model, kind: str) -> None:
    assert demo.metadata["tokenizer.chat_template"] == CHAT_TEMPLATE
    template = jinja2.Environment(autoescape=False).from_string(CHAT_TEMPLATE)
    for seed in range(20):
        conversation = draw_from(MAKERS[kind], Random(seed), held_out=False)
        messages = [{"role": message.role, "content": message.content} for message in conversation.messages]
        assert template.render(messages=messages) == render(conversation.messages)
        assert template.render(messages=messages[:-1], add_generation_prompt=True) == conversation.prompt


@pytest.mark.parametrize("arguments", ['{"city": "Oslo"}', {"city": "Oslo"}])
@pytest.mark.parametrize("prompt", [None, "Be brief."])
def test_chat_template_renders_tools_as_the_corpus_does(arguments: object, prompt: str | None) -> None:
    tool = {"name": "get_weather", "parameters": {"properties": {"city": {}, "unit": {}}}}
    system = [{"role": "system", "content": prompt}] if prompt else []
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}
    text = (
        jinja2.Environment(autoescape=False)
        .from_string(CHAT_TEMPLATE)
        .render(messages=[*system, call], tools=[{"type": "function", "function": tool}])
    )
    offered = "You can call these tools:\nget_weather(city, unit)<|end|>\n"
    assert text == (
        f"<|system|>\n{prompt + chr(10) if prompt else ''}{offered}"
        '<|assistant|>\n<tool_call>\n{"name": "f", "arguments": {"city": "Oslo"}}\n</tool_call><|end|>\n'
    )


@given(TEXT)
def test_vocabulary_gives_any_text_back(demo: llama_cy.Model, text: str) -> None:
    assert demo.vocab.detokenize(demo.vocab.tokenize(text, add_special=False)) == text


@pytest.mark.parametrize(
    "text", ["😀 日本 e\u0301", "  two  spaces ", "\n\n\ttab\r\n", "</s><|user|><0x41>", "\0", "\ufeff"]
)
def test_vocabulary_gives_odd_text_back(demo: llama_cy.Model, text: str) -> None:
    assert demo.vocab.detokenize(demo.vocab.tokenize(text, add_special=False)) == text


def test_vocabulary_reads_its_own_space_mark_as_a_space(demo: llama_cy.Model) -> None:
    # SentencePiece writes spaces as U+2581, so this one character can't be told from a space.
    assert demo.vocab.detokenize(demo.vocab.tokenize("a\u2581b", add_special=False)) == "a b"


def test_vocabulary_splits_digits_and_knows_its_control_tokens(demo: llama_cy.Model) -> None:
    vocab = demo.vocab
    digits = vocab.tokenize("1234567890", add_special=False)
    assert [vocab.token_to_piece(token) for token in digits] == [bytes([digit]) for digit in b"1234567890"]
    for text in ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"):
        (token,) = vocab.tokenize(text, add_special=False, parse_special=True)
        assert vocab.is_control(token)
        assert vocab.is_eog(token) == (text == "<|end|>")
    assert vocab.eot == vocab.tokenize("<|end|>", add_special=False, parse_special=True)[0]
    assert vocab.add_bos
    assert vocab.tokenize("a")[0] == vocab.bos


def test_model_and_draft_are_small_and_share_their_vocabulary() -> None:
    readers = [gguf.GGUFReader(llama_cy.demo_model_path(draft)) for draft in (False, True)]
    for key in ("tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
        demo_values, draft_values = (reader.fields[key].contents() for reader in readers)
        assert demo_values == draft_values
    assert llama_cy.demo_model_path().stat().st_size < 6_000_000
    assert llama_cy.demo_model_path(draft=True).stat().st_size < 700_000


@pytest.mark.parametrize("kind", ["addition", "subtraction", "extraction", "tool call"])
def test_model_answers_what_it_never_saw(demo: llama_cy.Model, kind: str) -> None:
    conversations = held_out_conversations(kind, 20, seed=3)
    with demo.context(n_ctx=1024, n_threads=1, n_threads_batch=1) as context:
        right = sum(greedy_answer(context, demo, each) == each.answer for each in conversations)
    assert right >= 18


def test_model_tells_stories_that_end(demo: llama_cy.Model) -> None:
    good = 0
    with demo.context(n_ctx=512, n_threads=1, n_threads_batch=1) as context:
        for seed in range(10):
            chain = llama_cy.SamplerChain(llama_cy.Sampler.temp(0.8), llama_cy.Sampler.dist(seed=seed))
            completion = context.complete("Once upon a time", chain, max_tokens=245)
            text = "Once upon a time" + completion.text
            ended = completion.finish_reason == "eog"
            good += ended and stories.uses_known_words(text) and stories.keeps_hero(text)
    assert good >= 9
