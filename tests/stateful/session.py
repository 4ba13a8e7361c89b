"""Run source, a line at a time, and keep the lines: what went wrong is a script."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from fuzz.bases import write_bases

import llama_cy

__all__ = ["SHARED", "Outcome", "Session", "prepare"]

# Models that live as long as the process; an example opens others, which it may close.
SHARED = ("llama", "gemma3", "mamba", "jamba", "lfm2", "t5", "bert", "demo")

PREAMBLE = """
import gc, os, threading
import numpy as np
import llama_cy
from llama_cy import Batch, BatchExt, Context, Sampler, SamplerChain, Threadpool

def load(name, **params):
    path = llama_cy.demo_model_path() if name == "demo" else f"{folder}/{name}.gguf"
    return llama_cy.Model(path, n_gpu_layers=0, **params)

def batch(entries, n_seq_max=1):
    made = Batch(max(1, len(entries)), n_seq_max=n_seq_max)
    for token, pos, seq_ids, logits in entries:
        made.add(token, pos, seq_ids, logits=logits)
    return made

def at_once(*calls):
    '''Call each in a thread of its own; return what each came to.'''
    outcomes = [None] * len(calls)
    gate = threading.Barrier(len(calls))
    def run(i):
        gate.wait()
        try:
            outcomes[i] = calls[i]()
        except BaseException as error:
            outcomes[i] = error.with_traceback(None)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes

class Cycle:
    pass

def lose(*things):
    '''Leave things to the collector, in a cycle.'''
    cycle = Cycle()
    cycle.itself, cycle.things = cycle, things
"""

GREEDY_CONTEXT = {"n_ctx": 512, "n_threads": 1}


class Outcome(NamedTuple):
    """What a line came to: a value, or what it raised."""

    value: Any
    error: BaseException | None


class _Prepared:
    """What all examples of a process share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        write_bases(folder)
        self.names: dict[str, Any] = {"folder": str(folder)}
        exec(PREAMBLE, self.names)
        for name in SHARED:
            self.names[name] = self.names["load"](name)
        self.live = llama_cy.live_objects()
        self.references: dict[str, llama_cy.Context] = {}
        # What exists by now is not looked at again, which makes each collection fast.
        gc.collect()
        gc.freeze()

    def reference(self, name: str) -> llama_cy.Context:
        """Return the context that tells what fresh runs of a shared model give."""
        if name not in self.references:
            self.references[name] = self.names[name].context(**GREEDY_CONTEXT)
            self.live = {**self.live, "context": self.live["context"] + 1}
            if "threadpool" in self.live:
                self.live["threadpool"] += 1
        return self.references[name]


_prepared: list[_Prepared] = []


def prepare(folder: Path | None = None) -> _Prepared:
    """Write and load the shared models, once; a folder is for the first call."""
    if not _prepared:
        _prepared.append(_Prepared(folder or Path(tempfile.mkdtemp(prefix="stateful-"))))
    return _prepared[0]


class Session:
    """The names of one example.

    Parameters
    ----------
    journal : callable, optional
        Told each line before it runs.
    """

    def __init__(self, journal: Callable[[str], None] | None = None) -> None:
        self.shared = prepare()
        self.names = dict(self.shared.names)
        self.lines: list[str] = []
        self.journal = journal

    def do(self, source: str, name: str | None = None) -> Outcome:
        """Evaluate an expression, and give the result a name if there is one."""
        line = source if name is None else f"{name} = {source}"
        self.lines.append(line)
        if self.journal is not None:
            self.journal(line)
        try:
            value = eval(source, self.names)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            return Outcome(None, error.with_traceback(None))
        if name is not None:
            self.names[name] = value
        return Outcome(value, None)

    def forget(self, *names: str) -> None:
        """Delete names."""
        line = f"del {', '.join(names)}"
        self.lines.append(line)
        if self.journal is not None:
            self.journal(line)
        for name in names:
            del self.names[name]

    def end(self) -> dict[str, int]:
        """Let go of everything, and return the native objects that did not go."""
        self.names.clear()
        if llama_cy.live_objects() != self.shared.live:
            gc.collect()
        live = llama_cy.live_objects()
        return {kind: n - self.shared.live[kind] for kind, n in live.items() if n != self.shared.live[kind]}

    def script(self) -> str:
        """Return the lines as a program."""
        return script_of(self.lines)


def script_of(lines: list[str]) -> str:
    """Make a program of lines; those that raise go on."""
    head = "import sys\nsys.path.insert(0, 'tests')\n"
    head += "from stateful.session import prepare\nglobals().update(prepare().names)\n"
    body = "".join(f"try:\n    {line}\nexcept Exception as error:\n    print(repr(error)[:200])\n" for line in lines)
    return head + body


def journal_to(path: Path) -> Callable[[str], None]:
    """Return a journal in a file that survives the process."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)

    def note(line: str) -> None:
        os.write(handle, line.encode() + b"\n")

    return note
