"""A function that ends a computation: with an answer, with an exception, or not at all."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from support.child import outcomes, start

import llama_cy

# ggml asks it between the steps of the CPU alone.
pytestmark = pytest.mark.cpu

PROMPT = list(range(20, 60))


@pytest.fixture
def context(tiny: llama_cy.Model) -> Iterator[llama_cy.Context]:
    with tiny.context(n_ctx=256, n_threads=1) as opened:
        yield opened


def test_it_is_asked_and_says_no(context: llama_cy.Context) -> None:
    context.decode(PROMPT)
    expected = context.logits()
    context.memory.clear()
    asked: list[int] = []
    context.set_abort_callback(lambda: asked.append(1), interval=0)
    context.decode(PROMPT)
    assert len(asked) > 20
    assert np.array_equal(context.logits(), expected)
    often = len(asked)
    context.set_abort_callback(lambda: asked.append(1), interval=1000)
    context.decode([1])
    context.decode([1])
    assert len(asked) == often + 1
    context.set_abort_callback(None)
    context.decode([1])
    assert len(asked) == often + 1


def test_it_says_yes(context: llama_cy.Context) -> None:
    context.set_abort_callback(lambda: np.bool_(True))
    with pytest.raises(llama_cy.DecodeAborted, match="cancelled"):
        context.decode(PROMPT)
    # Asked again the next time, and nothing is left over.
    with pytest.raises(llama_cy.DecodeAborted):
        context.decode(PROMPT)
    context.set_abort_callback(None)
    context.memory.clear()
    context.decode(PROMPT)
    context.logits()


def test_deadline(context: llama_cy.Context) -> None:
    left = iter([False] * 30)
    context.set_abort_callback(lambda: next(left, True), interval=0)
    with pytest.raises(llama_cy.DecodeAborted):
        context.decode(PROMPT)
    assert next(left, None) is None


def fail() -> NoReturn:
    raise KeyError("from the callback")


def test_what_it_raises_comes_out(context: llama_cy.Context) -> None:
    context.set_abort_callback(fail)
    for _ in range(2):
        with pytest.raises(KeyError, match="from the callback") as caught:
            context.decode(PROMPT)
        assert caught.traceback[-1].name == "fail"
    context.set_abort_callback(None)
    context.decode(PROMPT)


def test_cancel_works_beside_it(context: llama_cy.Context) -> None:
    context.set_abort_callback(context.cancel, interval=0)
    with pytest.raises(llama_cy.DecodeAborted, match="cancelled"):
        context.decode(PROMPT)


@pytest.mark.parametrize("raises", [False, True])
def test_a_loop_ends(context: llama_cy.Context, raises: bool) -> None:
    produced: list[int] = []

    def enough() -> bool:
        if len(produced) >= 3:
            return fail() if raises else True
        return False

    context.set_abort_callback(enough, interval=0)
    loop = context.generate(PROMPT, llama_cy.Sampler.greedy(), max_tokens=50, ignore_eog=True)
    if raises:
        with pytest.raises(KeyError, match="from the callback"):
            produced.extend(iter(loop.__next__, None))
        assert len(produced) == 3
        return
    for token in loop:
        produced.append(token)
    assert (len(produced), loop.finish_reason) == (3, "cancelled")


def test_it_is_let_go(tiny: llama_cy.Model) -> None:
    import weakref

    class Callback:
        def __call__(self) -> bool:
            return False

    callback = Callback()
    gone = weakref.ref(callback)
    context = tiny.context(n_ctx=64, n_threads=1)
    context.set_abort_callback(callback)
    del callback
    context.decode(PROMPT)
    assert gone() is not None
    context.close()
    assert gone() is None


REFUSED = {
    "a number": ("context.set_abort_callback(5)", "TypeError", "must be callable or None, not int"),
    "interval -1": ("context.set_abort_callback(print, interval=-1)", "ValueError", "interval is -1"),
    "interval nan": ("context.set_abort_callback(print, interval=float('nan'))", "ValueError", "interval is nan"),
    "interval inf": ("context.set_abort_callback(print, interval=float('inf'))", "ValueError", "interval is inf"),
    "interval text": ("context.set_abort_callback(print, interval='1')", "TypeError", "interval must be a number"),
    "one that takes arguments": (
        "context.set_abort_callback(lambda a: a); context.decode([1])",
        "TypeError",
        "missing 1 required",
    ),
    "one that closes the context": (
        "context.set_abort_callback(context.close); context.decode([1])",
        "ContextBusyError",
        "in use",
    ),
    "one that decodes": (
        "context.set_abort_callback(lambda: context.decode([1])); context.decode([1])",
        "ContextBusyError",
        "in use",
    ),
    "one that replaces itself": (
        "context.set_abort_callback(lambda: context.set_abort_callback(None)); context.decode([1])",
        "ContextBusyError",
        "in use",
    ),
    "one without truth": (
        "context.set_abort_callback(lambda: np.ones(2)); context.decode([1])",
        "ValueError",
        "ambiguous",
    ),
}
SETUP = """
import sys
import numpy as np
import llama_cy

context = llama_cy.Model(sys.argv[3], n_gpu_layers=0).context(n_ctx=64, n_threads=1)
"""


def test_refused(tiny_path: Path) -> None:
    came_to = outcomes(SETUP, {name: source for name, (source, _, _) in REFUSED.items()}, tiny_path)
    for name, (_, error, text) in REFUSED.items():
        assert error in came_to[name].raised, (name, came_to[name])
        assert re.search(text, came_to[name].text), (name, came_to[name])


INTERRUPTED = """
import sys
import llama_cy

with llama_cy.demo_model() as model, model.context(n_ctx=2048, n_batch=2048, n_ubatch=2048, n_threads=1) as context:
    begun = []
    def ask():
        if not begun:
            begun.append(1)
            print("computing", flush=True)
    context.set_abort_callback(ask)
    try:
        while True:
            context.memory.clear()
            context.decode([5] * 2000)
    except KeyboardInterrupt:
        print("interrupted, ends at", context.memory.seq_pos_max(0))
"""


def test_ctrl_c_comes_through_within_a_micro_batch() -> None:
    with start(INTERRUPTED) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "computing\n"
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    # Had the decode gone to its end, its positions were there.
    assert (out, err, child.returncode) == ("interrupted, ends at -1\n", "", 0)
