"""Chats laid out by llama.cpp, against layouts written by hand after the templates that the models came with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.llama_models import write_llama
from support.vocabulary import spm

import llama_cy

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi!"},
    {"role": "user", "content": "Bye"},
]
EXPECTED = {
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
    "<|im_start|>assistant\nHi!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
    "llama3": "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHi!<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "gemma": "<start_of_turn>user\nBe brief.\n\nHello<end_of_turn>\n<start_of_turn>model\nHi!<end_of_turn>\n"
    "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n",
    "phi3": "<|system|>\nBe brief.<|end|>\n<|user|>\nHello<|end|>\n<|assistant|>\nHi!<|end|>\n<|user|>\nBye<|end|>\n"
    "<|assistant|>\n",
    "zephyr": "<|system|>\nBe brief.<|endoftext|>\n<|user|>\nHello<|endoftext|>\n<|assistant|>\nHi!<|endoftext|>\n"
    "<|user|>\nBye<|endoftext|>\n<|assistant|>\n",
    "vicuna": "Be brief.\n\nUSER: Hello\nASSISTANT: Hi!</s>\nUSER: Bye\nASSISTANT:",
    "llama2-sys": "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHello [/INST]Hi!</s>[INST] Bye [/INST]",
    "deepseek3": "Be brief.\n\n<｜User｜>Hello<｜Assistant｜>Hi!<｜end▁of▁sentence｜><｜User｜>Bye<｜Assistant｜>",
    "command-r": "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Be brief.<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hello<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Hi!<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Bye<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    "granite": "<|start_of_role|>system<|end_of_role|>Be brief.<|end_of_text|>\n"
    "<|start_of_role|>user<|end_of_role|>Hello<|end_of_text|>\n"
    "<|start_of_role|>assistant<|end_of_role|>Hi!<|end_of_text|>\n"
    "<|start_of_role|>user<|end_of_role|>Bye<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
}
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "user", "assistant", "tool", ""]),
            "content": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40),
        }
    ),
    max_size=5,
)


@pytest.mark.parametrize("name", EXPECTED)
def test_layout(name: str) -> None:
    assert llama_cy.chat_apply_template(CHAT, name) == EXPECTED[name]


def test_layout_is_recognized_by_the_source_of_a_template() -> None:
    source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    assert llama_cy.chat_apply_template(CHAT, source) == EXPECTED["chatml"]
    assert llama_cy.chat_apply_template(CHAT) == EXPECTED["chatml"]


def test_without_the_beginning_of_an_answer() -> None:
    text = llama_cy.chat_apply_template(CHAT, add_assistant=False)
    assert text + "<|im_start|>assistant\n" == EXPECTED["chatml"]


def test_names() -> None:
    names = llama_cy.chat_builtin_templates()
    assert EXPECTED.keys() - {"granite"} <= set(names)
    assert len(names) == len(set(names)) > 40
    assert all(llama_cy.chat_apply_template(CHAT, name).count("Bye") == 1 for name in names)


@given(messages=MESSAGES, name=st.sampled_from(llama_cy.chat_builtin_templates()), add=st.booleans())
def test_any_messages_in_any_layout(messages: list[dict[str, str]], name: str, add: bool) -> None:
    text = llama_cy.chat_apply_template(messages, name, add_assistant=add)
    for message in messages:
        # Some layouts trim what is said.
        if message["role"] == "user":
            assert message["content"].strip(" \t\n\r\f\v") in text


@given(messages=MESSAGES)
def test_chatml_is_what_it_says(messages: list[dict[str, str]]) -> None:
    expected = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    assert llama_cy.chat_apply_template(messages, add_assistant=False) == expected


def test_long_messages_and_many() -> None:
    assert llama_cy.chat_apply_template([{"role": "user", "content": "é" * 10**6}]).count("é") == 10**6
    # Markup that is far longer than what is said.
    text = llama_cy.chat_apply_template([{"role": "user", "content": "x"}] * 20_000, "command-r")
    assert text.count("<|USER_TOKEN|>x<|END_OF_TURN_TOKEN|>") == 20_000


@pytest.mark.parametrize("name", EXPECTED)
def test_a_prompt_has_one_bos(tmp_path: Path, name: str) -> None:
    special = ["<|im_start|>", "<|im_end|>", "<|eot_id|>", "<start_of_turn>"]
    with llama_cy.Model(write_llama(tmp_path / "m.gguf", vocab=spm(special=special)), vocab_only=True) as model:
        tokens = model.vocab.tokenize(llama_cy.chat_apply_template(CHAT, name), parse_special=True)
        assert [token == model.vocab.bos for token in tokens] == [True] + [False] * (len(tokens) - 1)


def test_the_built_in_model(demo: llama_cy.Model) -> None:
    source = demo.chat_template()
    assert source is not None
    # Its own layout is none of llama.cpp's: an error, and not the layout of another model.
    with pytest.raises(ValueError, match="does not know the template"):
        llama_cy.chat_apply_template(CHAT, "no such template")


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda f: f(None), TypeError, "messages must be an iterable of messages, not NoneType"),
        (lambda f: f("hello"), TypeError, "messages must be an iterable of messages, not str"),
        (lambda f: f(["hello"]), TypeError, r"messages\[0\] must be a mapping with role and content, not str"),
        (lambda f: f([{"role": "user"}]), ValueError, r"messages\[0\] has the keys \['role'\]"),
        (lambda f: f([{"role": "user", "content": "a", "name": "b"}]), ValueError, "keys .*'name'"),
        (lambda f: f([{"role": "user", "content": None}]), TypeError, r"messages\[0\]\['content'\] must be str"),
        (lambda f: f([{"role": 1, "content": ""}]), TypeError, r"messages\[0\]\['role'\] must be str, not int"),
        (lambda f: f([{"role": "user", "content": "a\0b"}]), ValueError, "has a NUL character at byte 1"),
        (lambda f: f([{"role": "user", "content": "\ud800"}]), UnicodeEncodeError, "surrogates"),
        (lambda f: f(CHAT, None), TypeError, "template must be str, not NoneType"),
        (lambda f: f(CHAT, ""), ValueError, "does not know the template ''; by name it knows .*chatml"),
        (lambda f: f(CHAT, "x" * 100), ValueError, r"template 'x{60}\.\.\.'"),
        (lambda f: f(CHAT, "chatml\0"), ValueError, "template has a NUL"),
        (lambda f: f(CHAT, add_assistant="no"), TypeError, "add_assistant must be a bool, not str"),
        (
            lambda f: f([{"role": "user", "content": "x" * (2**20)}] * 1024),
            ValueError,
            r"out of range \[0, 1073741824\]",
        ),
    ],
)
def test_bad_values(call: Callable[[Callable[..., Any]], Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call(llama_cy.chat_apply_template)
