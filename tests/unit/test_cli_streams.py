"""``llama-cy`` when it is interrupted, when nobody reads it, and on terminals of all sorts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.command import COMMAND, ONE_THREAD, environment, llama, pipe, start


@pytest.fixture
def endless(tiny_path: Path) -> list[str]:
    """Arguments that make text for far longer than a test takes; greedy, this model runs in circles."""
    return ["-m", str(tiny_path), "--n-ctx", "100000", "--max-tokens", "90000", "--temperature", "0", *ONE_THREAD]


class TestInterrupted:
    def test_while_generating(self, endless: list[str]) -> None:
        child = start("generate", "Once upon", *endless)
        begin = pipe(child.stdout).read(20)
        child.send_signal(signal.SIGINT)
        rest, errors = child.communicate(timeout=60)
        assert child.returncode == 130
        assert begin
        assert (begin + rest).endswith(b"\n")
        assert re.fullmatch(rb"llama-cy: interrupted after [1-9]\d* tokens\n", errors)

    def test_json_keeps_what_there_was(self, endless: list[str]) -> None:
        # The generation takes minutes; when it has begun can't be seen from outside, so an early try is repeated.
        for pause in (1, 4, 16):
            ours, theirs = os.openpty()
            child = start("generate", "Once upon", "--json", *endless, stderr=theirs)
            os.close(theirs)
            with open(ours, "rb", buffering=0) as terminal:
                shown = b""
                while b"100%" not in shown:
                    shown += terminal.read(4096)
                time.sleep(pause)
                child.send_signal(signal.SIGINT)
                out, _ = child.communicate(timeout=60)
                shown += terminal.read(4096)
            assert child.returncode == 130
            if out and json.loads(out)["tokens"]:
                break
        found = json.loads(out)
        assert found["finish_reason"] == "cancelled"
        assert len(found["tokens"]) > 0
        assert re.search(rb"llama-cy: interrupted after [1-9]\d* tokens", shown)

    def test_while_reading_a_long_prompt(self, endless: list[str]) -> None:
        child = start("generate", "-", *endless, stdin=subprocess.PIPE)
        # More than a pipe holds, so that the child has begun to read when this returns.
        pipe(child.stdin).write(b"a" * 99_000)
        pipe(child.stdin).close()
        child.stdin = None
        time.sleep(1)
        child.send_signal(signal.SIGINT)
        begin = time.monotonic()
        out, errors = child.communicate(timeout=60)
        assert time.monotonic() - begin < 20
        assert (child.returncode, out) == (130, b"")
        assert re.fullmatch(rb"llama-cy: interrupted( after 0 tokens)?\n", errors)

    def test_while_waiting_for_stdin(self, endless: list[str]) -> None:
        child = start("generate", "-", *endless, stdin=subprocess.PIPE)
        pipe(child.stdin).write(b"a" * 200_000)
        child.send_signal(signal.SIGINT)
        out, errors = child.communicate(timeout=60)
        assert (child.returncode, out, errors) == (130, b"", b"llama-cy: interrupted\n")


class TestStreams:
    def test_broken_pipe(self, endless: list[str]) -> None:
        child = start("generate", "Once upon", *endless)
        assert len(pipe(child.stdout).read(5)) == 5
        pipe(child.stdout).close()
        child.stdout = None
        _, errors = child.communicate(timeout=60)
        assert (child.returncode, errors) == (141, b"")

    @pytest.mark.parametrize("command", [["info"], ["tokenize", "a"], ["devices"], ["version"], ["version", "--json"]])
    def test_broken_pipe_from_the_start(self, tiny_path: Path, command: list[str]) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        model = ["-m", str(tiny_path)] if command[0] in ("info", "tokenize") else []
        done = subprocess.run(
            [*COMMAND, *command, *model],
            stdout=writing,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=60,
            check=False,
        )
        os.close(writing)
        assert (done.returncode, done.stderr) == (141, b"")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_full_disk(self, tiny_path: Path) -> None:
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [*COMMAND, "generate", "Once", "-q", "-m", str(tiny_path)],
                stdout=full, stderr=subprocess.PIPE, env=environment(), timeout=60, check=False,
            )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr == b"llama-cy: cannot write to stdout: No space left on device\n"

    @pytest.mark.parametrize(
        ("closed", "code", "stderr"),
        [
            ("<&-", 1, "llama-cy: cannot read stdin: it is closed\n"),
            (">&-", 1, "llama-cy: stdout is closed\n"),
            ("2>&-", 0, ""),
        ],
    )
    def test_closed_streams(self, tiny_path: Path, closed: str, code: int, stderr: str) -> None:
        prompt = "-" if closed == "<&-" else "Once"
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *COMMAND,
             "generate", prompt, "-n", "3", "-m", str(tiny_path), *ONE_THREAD],
            capture_output=True, env=environment(), timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == code
        assert done.stderr.decode() == stderr
        assert bool(done.stdout) == (code == 0)

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
    def test_terminal_without_unicode(self, tiny_path: Path, encoding: str) -> None:
        shared = ("generate", "né 世", "-m", str(tiny_path), "--temperature", "0", "-n", "60", *ONE_THREAD)
        text = json.loads(llama(*shared, "--json").stdout)["text"]
        assert not text.isascii()
        done = llama(*shared, environ={"PYTHONIOENCODING": encoding})
        assert done.returncode == 0
        assert done.stdout.rstrip(b"\n") == text.encode(encoding, "backslashreplace").rstrip(b"\n")
        info = llama("info", "-m", str(tiny_path), environ={"PYTHONIOENCODING": encoding})
        assert info.returncode == 0
        assert info.stdout.isascii()

    def test_c_locale(self, tiny_path: Path) -> None:
        environ = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        done = llama("tokenize", "né", "-m", str(tiny_path), "--json", environ=environ)
        assert json.loads(done.stdout)["pieces"][-1] == "\\xa9"

    def test_bar_on_a_terminal(self, tiny_path: Path) -> None:
        ours, theirs = os.openpty()
        done = subprocess.run(
            [*COMMAND, "generate", "Once", "-n", "3", "-m", str(tiny_path), *ONE_THREAD],
            stdout=subprocess.PIPE, stderr=theirs, env=environment() | {"TERM": "xterm", "COLUMNS": "120"}, timeout=60,
            check=False,
        )  # fmt: skip
        os.close(theirs)
        with open(ours, "rb", buffering=0) as terminal:
            shown = terminal.read(65536)
        assert done.returncode == 0
        assert b"\x1b" not in done.stdout
        assert b"tiny.gguf" in shown
        assert b"100%" in shown
