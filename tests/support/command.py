"""Run ``llama-cy`` as a user runs it: in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import IO

from support import unasked

__all__ = ["COMMAND", "ONE_THREAD", "environment", "error_line", "llama", "pipe", "start"]

COMMAND = [sys.executable, "-m", "llama_cy.cli"]
# What would color, widen or recode the output of a child.
FOREIGN = ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "PYTHONIOENCODING", "COLUMNS", "PYTHONWARNINGS")
ENVIRON = {name: value for name, value in os.environ.items() if name not in FOREIGN} | {"PYTHONUTF8": "1"}
# Tests share the machine; waiting for a second core would only make them slow.
ONE_THREAD = ("--n-threads", "1")


def environment() -> dict[str, str]:
    """Return the environment of a child."""
    return unasked.environ(ENVIRON)


def llama(
    *arguments: str | bytes, stdin: bytes = b"", environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run llama-cy to its end; a death by signal or a traceback that was not asked for is a failure."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        env=environment() | dict(environ or {}),
        timeout=120,
        check=False,
    )
    assert done.returncode >= 0, done.stderr.decode()
    assert b"Traceback" not in done.stderr or "--debug" in arguments, done.stderr.decode()
    return done


def error_line(done: subprocess.CompletedProcess[bytes], code: int) -> str:
    """Check for a failure that leaves nothing on stdout, and return its one line on stderr."""
    assert done.returncode == code, done.stderr.decode()
    assert done.stdout == b""
    (line,) = done.stderr.decode().splitlines()
    return line


def start(*arguments: str, stdin: int = subprocess.DEVNULL, stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    """Start llama-cy so that it hears SIGINT, which it would ignore if this process, a job in the background, does."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [*COMMAND, *arguments], stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, env=environment()
        )
    finally:
        signal.signal(signal.SIGINT, before)


def pipe(stream: IO[bytes] | None) -> IO[bytes]:
    """Return a stream of a process, which is there because it was asked for."""
    assert stream is not None
    return stream
