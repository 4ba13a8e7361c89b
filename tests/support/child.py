"""Run code in a child interpreter, where a death by signal is a result and not the end of the tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import unasked

__all__ = ["Child", "Outcome", "check_output", "environment", "outcomes", "run", "start"]

TESTS = Path(__file__).parents[1]
# How many times as long a child may take, as on builds for sanitizers.
PATIENCE = float(os.environ.get("LLAMA_CY_TEST_PATIENCE", "1"))
FOREIGN = ("PYTHONWARNINGS", "PYTHONFAULTHANDLER", "LLAMA_CY_LOG")
ENVIRON = {name: value for name, value in os.environ.items() if name not in FOREIGN} | {
    "PYTHONPATH": os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")])),
    "PYTHONUTF8": "1",
    # ggml would start a debugger to print a backtrace.
    "GGML_NO_BACKTRACE": "1",
}


def environment() -> dict[str, str]:
    """Return the environment of a child."""
    return unasked.environ(ENVIRON)


@dataclass(frozen=True)
class Child:
    """How a child ended.

    Attributes
    ----------
    code : int
        Exit status, or minus the signal it died of.
    stdout, stderr : str
        What it wrote.
    """

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Outcome:
    """What one case came to.

    Attributes
    ----------
    raised : tuple of str
        Names of the exception's class and its bases; empty where nothing was raised.
    text : str
        The exception's text, or the result's repr.
    """

    raised: tuple[str, ...]
    text: str


def _command(source: str, arguments: tuple[str | os.PathLike[str], ...]) -> list[str]:
    options = ["-W", "error", "-X", "faulthandler"]
    return [sys.executable, *options, "-c", textwrap.dedent(source), *(os.fspath(argument) for argument in arguments)]


def run(
    source: str,
    *arguments: str | os.PathLike[str],
    dies_of: signal.Signals | None = None,
    environ: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> Child:
    """Run Python source to its end.

    Parameters
    ----------
    source : str
        A program; it finds the arguments in ``sys.argv[1:]``.
    dies_of : signal, optional
        The one that ends it; any other death by signal is a failure.
    environ : mapping, optional
        Added to the environment.
    timeout : float
        Seconds; longer is a failure.
    """
    done = subprocess.run(
        _command(source, arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment() | dict(environ or {}),
        timeout=timeout * PATIENCE,
        check=False,
    )
    if done.returncode < 0 and done.returncode != -(dies_of or 0):
        pytest.fail(f"died of {signal.Signals(-done.returncode).name}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return Child(done.returncode, done.stdout, done.stderr)


def check_output(source: str, *arguments: str | os.PathLike[str]) -> str:
    """Run Python source that must end well and write nothing to stderr; return its output."""
    child = run(source, *arguments)
    assert (child.code, child.stderr) == (0, ""), child
    return child.stdout


def start(source: str, *arguments: str | os.PathLike[str]) -> subprocess.Popen[str]:
    """Start a program that says on stdout how far it is and hears SIGINT even where this process ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            _command(source, arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
    finally:
        signal.signal(signal.SIGINT, before)


CASES = """
import json, sys
namespace = {}
exec(sys.argv[1], namespace)
for name, source in json.loads(sys.argv[2]).items():
    print(json.dumps({"case": name}), flush=True)
    raised, result = [], None
    try:
        # An expression gives the result; statements give what they leave in `result`.
        fresh = dict(namespace)
        try:
            code = compile(source, name, "eval")
        except SyntaxError:
            exec(compile(source, name, "exec"), fresh)
            result = fresh.get("result")
        else:
            result = eval(code, fresh)
        text = repr(result)
        del result
    except BaseException as error:
        raised = [cls.__name__ for cls in type(error).__mro__[:-1]]
        text = str(error)
    print(json.dumps({"case": name, "raised": raised, "text": text[:9000]}), flush=True)
"""


def outcomes(setup: str, cases: Mapping[str, str], *arguments: str | os.PathLike[str]) -> dict[str, Outcome]:
    """Run cases one after another in a child; where one kills it, the rest goes on in another.

    Parameters
    ----------
    setup : str
        Source that runs first, with the arguments in ``sys.argv[3:]``; each case gets a shallow copy of its names.
    cases : mapping of str to str
        Name to source.

    Returns
    -------
    dict of str to Outcome
        A case that killed its child has ``("Killed",)`` as what it raised.
    """
    left = dict(cases)
    found: dict[str, Outcome] = {}
    while left:
        done = subprocess.run(
            _command(CASES, (textwrap.dedent(setup), json.dumps(left), *arguments)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment(),
            timeout=300 * PATIENCE,
            check=False,
        )
        begun = None
        for line in done.stdout.splitlines():
            record = json.loads(line)
            begun = record["case"]
            if "text" in record:
                found[begun] = Outcome(tuple(record["raised"]), record["text"])
                left.pop(begun)
                begun = None
        if begun is None:
            # No case was under way: the setup or the exit failed, or all is done.
            assert (done.returncode, done.stderr, left) == (0, "", {}), (done.returncode, done.stderr, list(left))
        else:
            found[begun] = Outcome(("Killed",), f"status {done.returncode}\n{done.stderr[-3000:]}")
            left.pop(begun)
    return found
