"""``llama-cy``: arguments, the commands that only look, and what is missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from support.command import ONE_THREAD, environment, error_line, llama
from support.llama_models import write_llama

import llama_cy
import llama_cy.cli
from llama_cy.cli.terminal import described, printable


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (["generate"], "prompt"),
            (["generate", "a", "--bogus"], "--bogus"),
            (["generate", "a", "--temperature", "-1"], "--temperature"),
            (["generate", "a", "--temperature", "nan"], "temperature|t is"),
            (["generate", "a", "--top-p", "1.5"], "--top-p"),
            (["generate", "a", "--repeat-penalty", "0"], "repeat"),
            (["generate", "a", "--seed", str(2**32 - 1)], "--seed"),
            (["generate", "a", "--n-ctx", "0"], "--n-ctx"),
            (["generate", "a", "--n-ctx", str(2**31)], "--n-ctx"),
            (["generate", "a", "--n-threads", "0"], "--n-threads"),
            (["generate", "a", "--n-gpu-layers", "[/red]"], "--n-gpu-layers"),
            (["generate", "a", "--n-gpu-layers", "-2"], "--n-gpu-layers"),
            (["generate", "a", "--stop", ""], "--stop"),
            (["generate", "a", "--stop", b"\xff"], "--stop"),
            (["generate", b"\xff", "--max-tokens", b"\xff"], "--max-tokens"),
            (["tokenize"], "text"),
            (["nothing"], "nothing"),
        ],
    )
    def test_usage_error(self, arguments: list[str | bytes], named: str) -> None:
        done = llama(*arguments)
        assert (done.returncode, done.stdout) == (2, b"")
        assert re.search(named, done.stderr.decode(), re.IGNORECASE)

    def test_bytes_that_are_no_utf8(self, tiny: llama_cy.Model, tiny_path: Path) -> None:
        done = llama("tokenize", b"a\xffb\xe4\xb8", "-m", str(tiny_path), "--json")
        assert json.loads(done.stdout)["tokens"] == tiny.vocab.tokenize(b"a\xffb\xe4\xb8")
        assert llama("generate", b"\xff\xfe", "-m", str(tiny_path), "-n", "3", *ONE_THREAD).returncode == 0

    def test_path_that_is_no_utf8(self, tiny_path: Path, tmp_path: Path) -> None:
        path = os.fsencode(tmp_path) + b"/\xff.gguf"
        try:
            Path(os.fsdecode(path)).write_bytes(tiny_path.read_bytes())
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
        assert llama("info", "-m", path).returncode == 0
        done = llama("generate", "a", "-m", path, "-n", "3", "--json", *ONE_THREAD)
        assert json.loads(done.stdout)["model"] == os.fsdecode(path)

    def test_model_that_is_not_there(self, tmp_path: Path) -> None:
        path = tmp_path / "none.gguf"
        for command in (["generate", "a"], ["tokenize", "a"], ["info"]):
            line = error_line(llama(*command, "-m", str(path), "-q"), 1)
            assert line == f"llama-cy: cannot open the model '{path}': No such file or directory"

    @pytest.mark.parametrize("content", [b"", b"hello world", "cut", "directory"])
    def test_model_that_is_none(self, tiny_path: Path, tmp_path: Path, content: bytes | str) -> None:
        path = tmp_path / "bad.gguf"
        if content == "directory":
            path.mkdir()
        else:
            path.write_bytes(content if isinstance(content, bytes) else tiny_path.read_bytes()[:60_000])
        assert str(path) in error_line(llama("generate", "a", "-m", str(path)), 1)

    def test_debug_shows_the_traceback(self, tmp_path: Path) -> None:
        done = llama("info", "--debug", "-m", str(tmp_path / "none.gguf"))
        assert done.returncode == 1
        assert b"Traceback" in done.stderr
        assert b"ModelLoadError" in done.stderr

    def test_layers_without_a_gpu(self, tiny_path: Path) -> None:
        done = llama("generate", "a", "-m", str(tiny_path), "-n", "1", "-q", "--n-gpu-layers", "3", *ONE_THREAD)
        if all(device.type == llama_cy.DeviceType.CPU for device in llama_cy.devices()):
            assert "n_gpu_layers is 3" in error_line(done, 1)
        else:
            assert done.returncode == 0

    def test_prompt_longer_than_the_context(self, tiny_path: Path) -> None:
        done = llama("generate", "a" * 2000, "-m", str(tiny_path), "--n-ctx", "256", *ONE_THREAD)
        assert re.search(r"\b2001 tokens .* 256\b", error_line(done, 1))


class TestShow:
    def test_tokenize(self, tiny: llama_cy.Model, tiny_path: Path) -> None:
        text = "the cat né</s>"
        shared = ("tokenize", text, "-m", str(tiny_path))
        for options, arguments in (
            ([], {}),
            (["--no-special"], {"add_special": False}),
            (["--parse-special"], {"parse_special": True}),
            (["--no-special", "--parse-special"], {"add_special": False, "parse_special": True}),
        ):
            tokens = tiny.vocab.tokenize(text, **arguments)
            found = json.loads(llama(*shared, "--json", *options).stdout)
            assert found["tokens"] == tokens
            assert len(found["pieces"]) == len(tokens)
        done = llama(*shared, "--parse-special")
        lines = done.stdout.decode().splitlines()
        pieces = [f"{token} {tiny.vocab.token_to_piece(token, special=True)!r}" for token in tokens]
        assert [line.strip() for line in lines] == ["1 b'<s>'", *pieces]
        assert done.stderr == b""

    def test_tokenize_stdin(self, tiny: llama_cy.Model, tiny_path: Path) -> None:
        data = b"the\0cat " * 1000
        done = llama("tokenize", "-", "-m", str(tiny_path), "--json", stdin=data + b"\n")
        assert json.loads(done.stdout)["tokens"] == tiny.vocab.tokenize(data)

    def test_info_json(self, tmp_path: Path) -> None:
        path = write_llama(tmp_path / "chat.gguf", metadata={"tokenizer.chat_template": "{{ messages }}\n"})
        done = llama("info", "-m", str(path), "--json")
        found = json.loads(done.stdout)
        assert done.stderr == b""
        assert found["chat_template"] == "{{ messages }}\n"
        assert found["ftype"] == "all_f32"
        assert found["vocab"]["type"] == "spm"
        assert found["vocab"]["bos"] == 1
        with llama_cy.Model(path) as model:
            assert found["metadata"] == model.metadata
            for name in ("path", "desc", "n_params", "size", "n_ctx_train", "n_embd", "n_layer", "n_head", "n_head_kv"):
                assert found[name] == getattr(model, name), name

    def test_info_table(self, tmp_path: Path) -> None:
        path = write_llama(tmp_path / "chat.gguf", metadata={"tokenizer.chat_template": "{{ messages }}\n"})
        done = llama("info", "-m", str(path))
        table = done.stdout.decode()
        assert done.returncode == 0
        assert re.search(r"n_ctx_train\W+512\b", table)
        assert re.search(r"general\.architecture\W+llama\b", table)
        assert r"{{ messages }}\n" in table
        assert b"\x1b" not in done.stdout

    def test_info_cannot_steer_the_terminal(self, tmp_path: Path) -> None:
        path = write_llama(tmp_path / "tricky.gguf", metadata={"general.author": "\x1b[31m[/red]\x07\u202e"})
        done = llama("info", "-m", str(path))
        assert done.returncode == 0
        assert rb"\x1b[31m[/red]\x07\u202e" in done.stdout
        assert b"\x1b" not in done.stdout

    def test_info_built_in(self) -> None:
        done = llama("info", "--json")
        assert json.loads(done.stdout)["path"] == str(llama_cy.demo_model_path())
        assert b"built-in" in done.stderr
        assert llama("info", "-q").stderr == b""

    def test_devices(self) -> None:
        found = json.loads(llama("devices", "--json").stdout)["devices"]
        assert [device["name"] for device in found] == [device.name for device in llama_cy.devices()]
        assert all(set(device) == set(llama_cy.Device._fields) for device in found)
        table = llama("devices").stdout.decode()
        assert all(device["name"] in table and device["type"] in table for device in found)

    def test_version(self) -> None:
        running = llama_cy.version()
        assert json.loads(llama("version", "--json").stdout) == running._asdict()
        assert all(value.strip() in llama("version").stdout.decode() for value in running)
        assert llama("--version").stdout.decode() == f"llama_cy {running.llama_cy} (llama.cpp {running.llama_cpp})\n"

    @pytest.mark.parametrize("command", [[], ["generate"], ["tokenize"], ["info"], ["devices"], ["version"]])
    def test_help(self, command: list[str]) -> None:
        done = llama(*command, "--help")
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"Usage: llama-cy" in done.stdout


class TestMissingExtra:
    BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise {error}

sys.meta_path.insert(0, Blocker())
sys.argv = ["llama-cy", *{arguments!r}]
from llama_cy.cli import main
main()
"""

    def run(
        self, blocked: list[str], arguments: list[str], error: str = 'ModuleNotFoundError(f"No module named {name!r}")'
    ) -> subprocess.CompletedProcess[bytes]:
        code = self.BLOCKED.format(blocked=blocked, arguments=arguments, error=error)
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, env=environment(), timeout=60, check=False
        )  # fmt: skip

    @pytest.mark.parametrize("blocked", ["typer", "rich"])
    def test_typer_or_rich(self, blocked: str) -> None:
        line = error_line(self.run([blocked], ["version"]), 2)
        assert blocked in line
        assert 'pip install "llama_cy[cli]"' in line

    @pytest.mark.parametrize("blocked", ["typer", "rich", "jinja2"])
    def test_interrupted_while_importing(self, blocked: str) -> None:
        arguments = ["generate", "hello", "--chat", "-q"]
        done = self.run([blocked], arguments, error="KeyboardInterrupt")
        assert (done.returncode, done.stdout) == (130, b"")
        assert b"Traceback" not in done.stderr

    def test_jinja2(self, tiny_path: Path) -> None:
        arguments = ["generate", "hello", "-m", str(tiny_path), "-n", "3", "-q", *ONE_THREAD]
        line = error_line(self.run(["jinja2"], [*arguments, "--chat"]), 2)
        assert "--chat needs jinja2" in line
        assert self.run(["jinja2"], arguments).returncode == 0


def test_entry_point() -> None:
    (script,) = entry_points(group="console_scripts", name="llama-cy")
    assert script.load() is llama_cy.cli.main


def test_import_needs_no_extra() -> None:
    code = "import sys, llama_cy.cli; print([name for name in ('typer', 'rich', 'jinja2') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment(), timeout=60, check=True)
    assert done.stdout == b"[]\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (llama_cy.ModelLoadError("cannot load", log=["first\nline", "  second"]), "cannot load; first; line; second"),
        (FileNotFoundError(2, "No such file", "x\x1b"), "x\\x1b: No such file"),
        (OSError("plain"), "plain"),
        (ValueError("k is -1"), "k is -1"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_described(error: Exception, line: str) -> None:
    assert described(error) == line


@pytest.mark.parametrize(
    ("text", "limit", "line"),
    [("a\nb\tc", None, r"a\nb\tc"), ("né 世", None, "né 世"), ("abcdef", 6, "abcdef"), ("abcdefg", 6, "abc...")],
)
def test_printable(text: str, limit: int | None, line: str) -> None:
    assert printable(text, limit) == line


def test_json_is_one_line_of_ascii(tiny_path: Path) -> None:
    commands: list[list[str]] = [
        ["info", "-m", str(tiny_path)],
        ["tokenize", "né 世", "-m", str(tiny_path)],
        ["devices"],
    ]
    for command in commands:
        out = llama(*command, "--json", environ={"PYTHONIOENCODING": "ascii"}).stdout
        assert out.isascii()
        assert out.count(b"\n") == 1
