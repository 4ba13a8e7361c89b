"""Ctrl-C, other signals and cancel(): work ends early, and the context goes on being good for more."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.child import check_output, run
from support.llama_models import write_llama

SETUP = """
import os, signal, sys, threading, time
import llama_cy

model = llama_cy.Model(sys.argv[1], n_gpu_layers=0)
# Long enough that nothing below comes to its end by itself.
context = model.context(n_ctx=2**18, n_ubatch=64, n_threads=1)
short = model.context(n_ctx=64, n_threads=1)
begun = threading.Event()

def soon(act):
    def wait():
        begun.wait()
        time.sleep(0.1)
        act()
    threading.Thread(target=wait).start()

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

def check():
    # As good as a context that was never disturbed.
    context.memory.clear()
    context.decode([3, 1, 4])
    short.memory.clear()
    short.decode([3, 1, 4])
    assert (context.logits() == short.logits()).all()
    assert context.memory.seq_pos_max() == 2
    assert context.complete([1, 2], max_tokens=3, ignore_eog=True).finish_reason == "length"

signal.signal(signal.SIGINT, signal.default_int_handler)
prompt = [1] * (2**18 - 10)
sampler = llama_cy.Sampler.greedy()
"""

WORK = {
    "prefill": "context.decode(prompt)",
    "prompt of a loop": "next(context.generate(prompt))",
    "prompt of a completion": "context.complete(prompt)",
    "loop": "for _ in context.generate([1], ignore_eog=True): pass",
    "loop in C": "list(context.generate([1], ignore_eog=True))",
    "stream in C": "''.join(context.stream([1], ignore_eog=True))",
    "stream": "for _ in context.stream([1], ignore_eog=True): pass",
    "stream that holds all text back": "for _ in context.stream([1], ignore_eog=True, stop=['x' * 10**6]): pass",
    "completion": "context.complete([1], ignore_eog=True)",
}
INTERRUPTED = """
soon(interrupt)
begun.set()
try:
    {work}
except KeyboardInterrupt:
    print("interrupted")
check()
"""


@pytest.mark.parametrize("work", WORK)
def test_ctrl_c(tiny_path: Path, work: str) -> None:
    assert check_output(SETUP + INTERRUPTED.format(work=WORK[work]), tiny_path) == "interrupted\n"


UNHANDLED = """
soon(interrupt)
begun.set()
context.decode(prompt)
"""


def test_ctrl_c_that_nobody_handles(tiny_path: Path) -> None:
    child = run(SETUP + UNHANDLED, tiny_path, dies_of=signal.SIGINT)
    assert child.code == -signal.SIGINT
    assert child.stdout == ""
    assert child.stderr.splitlines()[-1] == "KeyboardInterrupt"


OTHER_SIGNALS = """
class Late(Exception):
    pass

def alarm(*_):
    raise Late

signal.signal(signal.SIGALRM, alarm)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    context.decode(prompt)
except Late:
    print("late")
check()

# A handler that returns lets the work go on.
heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append(1))
soon(interrupt)
begun.set()
while not heard:
    assert len(context.complete([1], max_tokens=200, ignore_eog=True).tokens) == 200
print("went on")
check()
"""


def test_other_signals(tiny_path: Path) -> None:
    assert check_output(SETUP + OTHER_SIGNALS, tiny_path) == "late\nwent on\n"


LOAD = """
soon(interrupt)
calls = []
def progress(share):
    calls.append(share)
    begun.set()
    # Longer than the time between two calls, so that none is left out.
    time.sleep(0.05)
before = llama_cy.live_objects()
try:
    llama_cy.Model(sys.argv[2], progress=progress, n_gpu_layers=0)
except KeyboardInterrupt:
    print("interrupted", 0 < len(calls), calls == sorted(calls), calls[-1] < 1)
assert llama_cy.live_objects() == before
check()
with llama_cy.Model(sys.argv[2], n_gpu_layers=0) as again:
    print(again.n_layer)
"""


@pytest.fixture(scope="module")
def deep_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a model with a thousand tensors; the C side reports progress after each."""
    return write_llama(tmp_path_factory.mktemp("deep") / "deep.gguf", n_layer=100, n_embd=32, n_ff=32, n_head=2)


def test_ctrl_c_in_a_load(tiny_path: Path, deep_path: Path) -> None:
    assert check_output(SETUP + LOAD, tiny_path, deep_path) == "interrupted True True True\n100\n"


PROGRESS = """
for error in (KeyError("stop"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()):
    def progress(share):
        if share > 0.3:
            raise error
    try:
        llama_cy.Model(sys.argv[2], progress=progress, n_gpu_layers=0)
    except BaseException as caught:
        assert caught is error
        print(type(caught).__name__)
assert llama_cy.live_objects()["model"] == 1
shares = []
llama_cy.Model(sys.argv[2], progress=shares.append, n_gpu_layers=0).close()
print(shares == sorted(shares), 0 <= shares[0], shares[-1])
def at_the_end(share):
    if share == 1:
        raise KeyError("late")
try:
    llama_cy.Model(sys.argv[2], progress=at_the_end, n_gpu_layers=0)
except KeyError:
    print("late")
assert llama_cy.live_objects()["model"] == 1
"""


def test_exceptions_from_progress(tiny_path: Path, deep_path: Path) -> None:
    lines = ["KeyError", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "True True 1.0", "late"]
    assert check_output(SETUP + PROGRESS, tiny_path, deep_path).splitlines() == lines


CANCELLED = """
soon(context.cancel)
begun.set()
try:
    context.decode(prompt)
except llama_cy.DecodeAborted as error:
    assert error.code == 2, error.code
    print("aborted")
# What was decoded whole stays, in pieces of a micro-batch.
held = context.memory.seq_pos_max() + 1
assert held % 64 == 0 and held < len(prompt), held
context.decode([5])
assert context.memory.seq_pos_max() == held
check()

loop = context.generate([1, 2, 3], sampler, ignore_eog=True)
soon(loop.cancel)
tokens = list(loop)
assert loop.finish_reason == "cancelled" and tokens == loop.tokens and len(tokens) > 0
assert context.memory.seq_pos_max() + 1 == 3 + len(tokens)
check()

stream = context.stream([1, 2, 3], sampler, ignore_eog=True)
soon(stream.cancel)
text = "".join(stream)
assert stream.finish_reason == "cancelled" and len(stream.tokens) > 0
assert text == model.vocab.detokenize(stream.tokens)
assert context.memory.seq_pos_max() + 1 == 3 + len(stream.tokens)
check()

soon(context.cancel)
done = context.complete([1, 2, 3], sampler, ignore_eog=True)
assert done.finish_reason == "cancelled" and done.text == model.vocab.detokenize(done.tokens)
assert context.memory.seq_pos_max() + 1 == 3 + len(done.tokens)
check()

# In the prompt of a loop.
soon(context.cancel)
done = context.complete(prompt, sampler)
assert done.finish_reason == "cancelled" and done.tokens == [] and done.text == ""
check()

# Before the first token, and between two.
loop = context.generate([1, 2, 3], sampler)
loop.cancel()
assert list(loop) == [] and loop.finish_reason == "cancelled"
loop = context.generate([1, 2, 3], sampler, ignore_eog=True)
first = next(loop)
loop.cancel()
assert list(loop) == [] and loop.tokens == [first] and loop.finish_reason == "cancelled"
assert context.memory.seq_pos_max() + 1 == 4
check()

# On an idle context it is forgotten.
context.cancel()
check()
print("done")
"""


def test_cancel(tiny_path: Path) -> None:
    assert check_output(SETUP + CANCELLED, tiny_path) == "aborted\ndone\n"
