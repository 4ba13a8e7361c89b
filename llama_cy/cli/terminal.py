"""Results to stdout, everything else to stderr, and exit codes that mean something."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import sys
import traceback
from collections.abc import Callable
from enum import IntEnum
from io import TextIOWrapper
from typing import ParamSpec, TextIO

import typer
from rich.console import Console
from rich.table import Table

from ..errors import LlamaError

P = ParamSpec("P")
# Wide enough that no cell wraps where nobody looks at a screen.
PIPE_WIDTH = 100_000


class ExitCode(IntEnum):
    """What the process returns, besides 0; 130 and 141 are what a shell reports for SIGINT and SIGPIPE."""

    FAILURE = 1
    USAGE = 2
    INTERRUPTED = 130
    BROKEN_PIPE = 141


def prepare_streams() -> None:
    """Let no character that the terminal can't show raise an error; it is written as ``\\xe9``, ``\\u4e16``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        # What is still buffered would fail again, and with a traceback, when the interpreter exits.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        raise


def emit(text: str) -> None:
    """Write to stdout, at once."""
    try:
        _write(sys.stdout, text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, f"cannot write to stdout: {error.strerror}") from None


def emit_json(value: object) -> None:
    """Write one line of JSON to stdout, in ASCII, so that it survives any encoding."""
    emit(json.dumps(value) + "\n")


def emit_table(table: Table) -> None:
    """Write a table to stdout, as wide as the terminal; in a pipe or file no cell is wrapped."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(file=sys.stdout, width=width, markup=False, highlight=False, emoji=False)
    # Not printed by rich itself, which answers a broken pipe with exit code 1.
    with console.capture() as capture:
        console.print(table)
    emit(capture.get())


def note(text: str) -> None:
    """Write one line to stderr; where nobody can read it, go on without."""
    with contextlib.suppress(OSError):
        _write(sys.stderr, f"llama-cy: {text}\n")


def printable(text: str, limit: int | None = None) -> str:
    """Return text as one line without control characters, which a model file could steer a terminal with.

    Parameters
    ----------
    text : str
    limit : int, optional
        Characters to keep; a longer text ends in ``...``.
    """
    line = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    return line if limit is None or len(line) <= limit else line[: limit - 3] + "..."


def described(error: Exception) -> str:
    """Return the message of an exception in one line."""
    if isinstance(error, LlamaError):
        # str() of those that are an OSError too is the system's wording, without ours.
        text = str(error.args[0])
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, (OSError, ValueError, TypeError, ImportError)):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    return printable("; ".join(line.strip() for line in text.splitlines() if line.strip()))


def exiting(command: Callable[P, None]) -> Callable[P, None]:
    """Make a command end with the exit code and the one line that its exception stands for.

    With ``debug=True`` among its arguments a failure shows the traceback instead.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (typer.Exit, typer.BadParameter):
            raise
        except KeyboardInterrupt:
            note("interrupted")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except BrokenPipeError:
            raise typer.Exit(ExitCode.BROKEN_PIPE) from None
        except Exception as error:
            if kwargs.get("debug"):
                traceback.print_exc()
            else:
                note(described(error))
            missing = isinstance(error, ModuleNotFoundError)
            raise typer.Exit(ExitCode.USAGE if missing else ExitCode.FAILURE) from None

    return run
