"""Ways to leave an interpreter in which native objects live."""

from __future__ import annotations

import signal
from pathlib import Path

from .child import Child, run

__all__ = ["ALIVE", "ENDINGS", "check_ending", "check_signal"]

# Everything alive in module globals, in a cycle, and under a suspended generator. Arguments: a path and GPU layers.
ALIVE = """
import os, signal, sys, threading, time
import llama_cy

def load():
    return llama_cy.Model(sys.argv[1], n_gpu_layers=sys.argv[2] if sys.argv[2] == "auto" else int(sys.argv[2]))

model = load()
vocab = model.vocab
context = model.context(n_ctx=512, n_threads=1)
context.decode([1, 2, 3])
view = context.logits_view()
other = model.context(n_ctx=4096, n_threads=1)
chain = llama_cy.sampling(seed=1)
stream = other.stream([1, 2, 3], chain, max_tokens=100, ignore_eog=True)
next(stream)
batch = llama_cy.Batch(4)
memory, state = context.memory, context.state
cycle = [model, context, chain, stream]
cycle.append(cycle)

def suspended():
    with load() as model, model.context(n_ctx=64, n_threads=1) as context:
        yield context

generator = suspended()
next(generator)
"""

# Source, status, last line of stderr.
ENDINGS = {
    "return": ("", 0, ""),
    "exit": ("sys.exit(3)", 3, ""),
    "exit with a text": ("sys.exit('the end')", 1, "the end"),
    "exception": ("1 / 0", 1, "ZeroDivisionError: division by zero"),
    "exception in a frame that holds": ("def f(context=context, model=model): raise KeyError\nf()", 1, "KeyError"),
    "SIGTERM handled": ("signal.signal(15, lambda *_: sys.exit(4)); os.kill(os.getpid(), 15); time.sleep(9)", 4, ""),
    "exit in a thread": ("t = threading.Thread(target=sys.exit); t.start(); t.join()", 0, ""),
    "thread still at work": (
        "threading.Thread(target=lambda: [other.memory.clear() for _ in range(99)]).start()",
        0,
        "",
    ),
    "closed at exit": (
        "import atexit; atexit.register(model.close); atexit.register(other.close); atexit.register(stream.close)",
        0,
        "",
    ),
    "used at exit": ("import atexit; atexit.register(lambda: other.decode([1]))", 0, ""),
    "finalizer that uses": (
        "class Late:\n    def __del__(self): repr(context), bool(model), repr(stream), context.closed\n"
        "late = Late(); late.itself = late",
        0,
        "",
    ),
    "module globals deleted by hand": ("globals().clear()", 0, ""),
}


def check_ending(child: Child, ending: str) -> None:
    """Hold a child that ended in one of the ways against what it should have come to."""
    _, code, last_line = ENDINGS[ending]
    assert child.code == code, child.stderr
    assert child.stdout == ""
    lines = child.stderr.splitlines()
    assert lines[-1:] == ([last_line] if last_line else [])
    if last_line in ("", "the end"):
        assert len(lines) == bool(last_line)
    else:
        # A traceback and nothing beside it.
        assert lines[0] == "Traceback (most recent call last):"
        assert all(line.startswith("  ") for line in lines[1:-1])


def check_signal(number: signal.Signals, path: Path, n_gpu_layers: str) -> None:
    """End a child by a signal, and hold it against what it should have come to."""
    hit = "signal.signal(2, signal.default_int_handler); os.kill(os.getpid(), int(sys.argv[3])); time.sleep(9)"
    child = run(ALIVE + hit, path, n_gpu_layers, str(int(number)), dies_of=number)
    assert child.code == -number
    assert child.stdout == ""
    assert child.stderr.splitlines()[-1:] == (["KeyboardInterrupt"] if number == signal.SIGINT else [])
