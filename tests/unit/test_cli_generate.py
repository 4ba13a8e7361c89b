"""``llama-cy generate``: text, statistics, chat templates."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import ONE_THREAD, error_line, llama
from support.encoder_models import write_bert, write_t5
from support.llama_models import write_llama
from support.vocabulary import spm

import llama_cy
from llama_cy.cli.chat import apply_chat_template

TEMPLATE = """\
{{ bos_token }}
{%- for message in messages %}
    {%- if message.content == "bad" %}
        {{- raise_exception("no such talk") }}
    {%- endif %}
    {% if tools is none %}
<|{{ message.role }}|>{{ message.content | tojson }}<|end|>
    {% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}"""


@pytest.fixture(scope="module")
def chat_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a tiny random model with a chat template."""
    special = ["<|user|>", "<|assistant|>", "<|end|>"]
    return write_llama(
        tmp_path_factory.mktemp("cli") / "chat.gguf",
        vocab=spm(special=special),
        metadata={"tokenizer.chat_template": TEMPLATE},
    )


@pytest.fixture(scope="module")
def chat_model(chat_path: Path) -> Iterator[llama_cy.Model]:
    with llama_cy.Model(chat_path) as model:
        yield model


class TestGenerate:
    def test_echo_puts_the_prompt_in_front(self, tiny_path: Path) -> None:
        arguments = ("generate", "Once upon", "-m", str(tiny_path), "-n", "5", "--seed", "1", "-q", *ONE_THREAD)
        assert llama(*arguments, "--echo").stdout == b"Once upon" + llama(*arguments).stdout

    def test_text_and_statistics(self, tiny_path: Path) -> None:
        done = llama("generate", "Once upon", "-m", str(tiny_path), "-n", "20", *ONE_THREAD)
        assert done.returncode == 0
        assert done.stdout.endswith(b"\n")
        assert re.fullmatch(
            r"llama-cy: \d+ prompt tokens at [\d.]+ tokens/s, \d+ generated at [\d.]+ tokens/s, "
            r"seed: \d+, finish reason: (length|eog)\n",
            done.stderr.decode(),
        )

    def test_same_as_the_library(self, tiny: llama_cy.Model, tiny_path: Path) -> None:
        settings = {"temperature": 0.7, "top_k": 30, "top_p": 0.9, "min_p": 0.01, "repeat_penalty": 1.2, "seed": 7}
        with tiny.context(n_ctx=256, n_threads=1) as context:
            expected = context.complete("Once upon", llama_cy.sampling(**settings), max_tokens=30)  # type: ignore[arg-type]
        options = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        shared = ("Once upon", "-m", str(tiny_path), "--n-ctx", "256", "--max-tokens", "30", *options, *ONE_THREAD)
        found = json.loads(llama("generate", *shared, "--json").stdout)
        assert found["tokens"] == expected.tokens
        assert found["text"] == expected.text
        assert found["finish_reason"] == expected.finish_reason
        assert found["seed"] == 7
        assert found["model"] == str(tiny_path)
        assert found["timings"]["prompt_tokens"] == expected.timings.prompt_tokens
        assert found["timings"]["tokens"] == len(expected.tokens)
        assert llama("generate", *shared, "--quiet").stdout.decode() == expected.text.removesuffix("\n") + "\n"

    def test_seed_repeats(self, tiny_path: Path) -> None:
        shared = ("generate", "Once", "-m", str(tiny_path), "-n", "30", "--json", *ONE_THREAD)
        first = json.loads(llama(*shared).stdout)
        again = json.loads(llama(*shared, "--seed", str(first["seed"])).stdout)
        other = json.loads(llama(*shared, "--seed", str(first["seed"] // 2 + 1)).stdout)
        assert again["tokens"] == first["tokens"]
        assert other["tokens"] != first["tokens"]

    def test_quiet_and_json_leave_stderr_empty(self, tiny_path: Path) -> None:
        shared = ("generate", "Once", "-m", str(tiny_path), "-n", "5", *ONE_THREAD)
        assert llama(*shared, "--quiet").stderr == b""
        assert llama(*shared, "--json").stderr == b""

    def test_stop(self, tiny_path: Path) -> None:
        shared = ("generate", "Once", "-m", str(tiny_path), "--temperature", "0", "-n", "60", *ONE_THREAD)
        text = json.loads(llama(*shared, "--json").stdout)["text"]
        stop = re.findall(r"[!-~]{3}", text)[1]
        found = json.loads(llama(*shared, "--json", "--stop", "never", "--stop", stop).stdout)
        assert found["text"] == text[: text.index(stop)]
        assert found["finish_reason"] == "stop"

    @pytest.mark.parametrize("end", ["", "\n", "\r\n"])
    def test_prompt_from_stdin(self, tiny_path: Path, end: str) -> None:
        shared = ("-m", str(tiny_path), "--temperature", "0", "-n", "10", "--json", *ONE_THREAD)
        typed = json.loads(llama("generate", "Once\nupon", *shared).stdout)
        read = json.loads(llama("generate", "-", *shared, stdin=f"Once\nupon{end}".encode()).stdout)
        assert read["tokens"] == typed["tokens"]

    def test_built_in_model(self) -> None:
        done = llama("generate", "Once upon a time", "-n", "5", *ONE_THREAD)
        assert done.returncode == 0
        assert done.stderr.startswith(b"llama-cy: no --model given, so this is the built-in one\n")
        assert llama("generate", "Once upon a time", "-n", "5", "-q", *ONE_THREAD).stderr == b""

    def test_no_tokens(self, tiny_path: Path) -> None:
        done = llama("generate", "Once", "-m", str(tiny_path), "-n", "0", *ONE_THREAD)
        assert (done.returncode, done.stdout) == (0, b"")
        assert b"0 generated" in done.stderr

    def test_encoder_decoder(self, tmp_path: Path) -> None:
        path = write_t5(tmp_path / "t5.gguf")
        shared = ("-m", str(path), "--temperature", "0", "-n", "8", "--json", *ONE_THREAD)
        found = json.loads(llama("generate", "hello world", *shared).stdout)
        with llama_cy.Model(path) as model, model.context(n_threads=1) as context:
            context.encode(model.vocab.tokenize("hello world"))
            expected = context.complete(
                [model.decoder_start_token or 0], llama_cy.sampling(temperature=0), max_tokens=8
            )
        assert found["tokens"] == expected.tokens

    def test_encoder_cannot(self, tmp_path: Path) -> None:
        path = write_bert(tmp_path / "bert.gguf")
        assert "it can't generate" in error_line(llama("generate", "hello", "-m", str(path), *ONE_THREAD), 1)


class TestChat:
    def test_template(self, chat_model: llama_cy.Model) -> None:
        expected = '<s><|user|>"1 < 2 & né"<|end|>\n<|assistant|>'
        assert apply_chat_template(chat_model, "1 < 2 & né") == expected

    def test_same_as_the_library(self, chat_model: llama_cy.Model, chat_path: Path) -> None:
        with chat_model.context(n_threads=1) as context:
            prompt = apply_chat_template(chat_model, "hello")
            expected = context.complete(prompt, llama_cy.sampling(temperature=0), max_tokens=10)
        shared = ("-m", str(chat_path), "--temperature", "0", "-n", "10", "--json", *ONE_THREAD)
        found = json.loads(llama("generate", "hello", "--chat", *shared).stdout)
        assert found["tokens"] == expected.tokens
        assert found["timings"]["prompt_tokens"] == expected.timings.prompt_tokens
        # The template writes the BOS that the vocabulary would add too.
        tokens = chat_model.vocab.tokenize(prompt, add_special=False, parse_special=True)
        assert tokens.count(1) == 1
        assert found["timings"]["prompt_tokens"] == len(tokens)

    def test_built_in_model_answers(self, demo: llama_cy.Model) -> None:
        with demo.context() as context:
            prompt = apply_chat_template(demo, "What is 12 + 30?")
            expected = context.complete(prompt, llama_cy.sampling(temperature=0), max_tokens=30)
        done = llama("generate", "What is 12 + 30?", "--chat", "--temperature", "0", "-n", "30", "-q")
        assert done.stdout.decode().rstrip("\n") == expected.text.rstrip("\n")
        assert expected.finish_reason == "eog"

    def test_template_refuses(self, chat_path: Path) -> None:
        line = error_line(llama("generate", "bad", "--chat", "-m", str(chat_path)), 1)
        assert line.endswith("the model's chat template fails: ValueError: no such talk")

    @pytest.mark.parametrize("source", ["{% for %}", "{{ ''.__class__.__mro__ }}", "{{ 1 / 0 }}", "{{ messages.x.y }}"])
    def test_template_that_fails(self, tmp_path: Path, source: str) -> None:
        path = write_llama(tmp_path / "bad.gguf", metadata={"tokenizer.chat_template": source})
        with llama_cy.Model(path) as model, pytest.raises(ValueError, match="chat template fails"):
            apply_chat_template(model, "hello")

    def test_no_template(self, tiny_path: Path) -> None:
        assert "has no chat template" in error_line(llama("generate", "a", "--chat", "-m", str(tiny_path)), 1)
