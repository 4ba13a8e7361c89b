"""Leave the interpreter in every way while native objects live: the status is right and nobody prints a word."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.child import run
from support.endings import ALIVE, ENDINGS, check_ending, check_signal


@pytest.mark.parametrize("ending", ENDINGS)
def test_ending(tiny_path: Path, ending: str) -> None:
    check_ending(run(ALIVE + ENDINGS[ending][0], tiny_path, "auto"), ending)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal(tiny_path: Path, number: signal.Signals) -> None:
    check_signal(number, tiny_path, "auto")


# What a thread may be in the midst of when the main thread leaves.
WORK = {
    "decode": "context.memory.clear(); context.decode([1] * 500)",
    "decode of a batch": "context.memory.clear(); context.decode(full)",
    "generate": "list(context.generate([1], max_tokens=300, ignore_eog=True))",
    "stream": "''.join(context.stream([1], max_tokens=300, ignore_eog=True))",
    "complete": "context.complete([1], max_tokens=300, ignore_eog=True)",
    "sample": "llama_cy.Sampler.dist(1).sample(ready)",
    "load": "llama_cy.Model(sys.argv[1])",
    "load with progress": "llama_cy.Model(sys.argv[1], progress=lambda share: time.sleep(0.001))",
    "context": "model.context(n_ctx=2048, n_threads=1)",
    "tokenize": "vocab.tokenize('hello world' * 5000)",
    "detokenize": "vocab.detokenize([5] * 50000, clean_spaces=True)",
    "state": "ready.state.set(ready.state.get())",
    "save": "model.save(sys.argv[2])",
}
DAEMON = """
import sys, threading, time
import llama_cy

model = llama_cy.Model(sys.argv[1])
vocab = model.vocab
context = model.context(n_ctx=512, n_threads=2)
ready = model.context(n_ctx=2048, n_threads=1)
ready.decode([1] * 2000)
full = llama_cy.Batch(500)
for i in range(500):
    full.add(7, i)
begun = threading.Event()

def work():
    while True:
        {work}
        begun.set()

for _ in range({threads}):
    threading.Thread(target=work, daemon=True).start()
begun.wait()
time.sleep(0.02)
sys.exit(5)
"""


@pytest.mark.parametrize("work", WORK)
def test_daemon_thread_at_work(tiny_path: Path, tmp_path: Path, work: str) -> None:
    # A context serves one thread, and a file is written by one; the rest may be done by many.
    threads = 1 if work == "save" or "context." in WORK[work] or "ready" in WORK[work] else 3
    child = run(DAEMON.format(work=WORK[work], threads=threads), tiny_path, tmp_path / "saved.gguf")
    assert (child.code, child.stdout, child.stderr) == (5, "", "")


QUIET = """
import sys
import llama_cy

llama_cy.devices(), llama_cy.version()
for path in sys.argv[1:]:
    try:
        model = llama_cy.Model(path)
    except llama_cy.ModelLoadError:
        continue
    with model.context(n_ctx=64, n_threads=1) as context:
        context.complete("hello", max_tokens=4)
        try:
            context.decode([1] * 10_000)
        except llama_cy.KVCacheFullError:
            pass
        try:
            context.logits(99)
        except ValueError:
            pass
        context.state.set(context.state.get())
"""


def test_not_a_byte_from_import_to_exit(tiny_path: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_path.read_bytes()[:5000])
    child = run(QUIET, tiny_path, cut)
    assert (child.code, child.stdout, child.stderr) == (0, "", "")
