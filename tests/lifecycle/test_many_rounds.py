"""Hundreds of models and contexts, one after another and side by side: what they took comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.child import check_output

# What a driver keeps for itself would be taken for ours.
pytestmark = pytest.mark.cpu

ROUNDS = """
import ctypes, gc, os, subprocess, sys
import llama_cy

# What glibc keeps of what it got back comes and goes by a percent or two.
trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda left: None)

def resident():
    gc.collect()
    trim(0)
    command = ["ps", "-o", "rss=", "-p", str(os.getpid())]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 1024

def round():
    with llama_cy.Model(sys.argv[1], n_gpu_layers=0, load_mode=sys.argv[2]) as model:
        with model.context(n_ctx=256, n_threads=1) as context:
            text = context.complete([1, 2, 3], llama_cy.sampling(seed=1), max_tokens=8, ignore_eog=True).text
    return text

first = round()
for _ in range(60):
    round()
before = resident()
for _ in range(200):
    assert round() == first
grown = resident() / before - 1
assert not any(llama_cy.live_objects().values()), llama_cy.live_objects()
assert grown < 0.02, f"grown by {100 * grown:.2f} % from {before} bytes"
"""


@pytest.mark.parametrize("load_mode", ["mmap", "none"])
def test_load_generate_close(tiny_path: Path, load_mode: str) -> None:
    """After 200 rounds as much memory is in use as after the first ones, which an allocator learns from."""
    check_output(ROUNDS, tiny_path, load_mode)


THOUSAND = """
import gc, sys
import llama_cy

model = llama_cy.Model(sys.argv[1], n_gpu_layers=0)
base = llama_cy.live_objects()

def make():
    context = model.context(n_ctx=32, n_batch=32, n_threads=1)
    context.decode([1, 2, 3])
    return context

want = make().logits().tobytes()
made = 1
# As many at once as take a few hundred MB, closed in another order than they were made in, or dropped.
for count in (200, 200):
    alive = [make() for _ in range(count)]
    made += count
    assert llama_cy.live_objects()["context"] == base["context"] + count
    assert all(context.logits().tobytes() == want for context in alive)
    for context in alive[::-2]:
        context.close()
    del alive, context
    gc.collect()
    assert llama_cy.live_objects() == base, llama_cy.live_objects()
while made < 1000:
    with make() as context:
        assert context.logits().tobytes() == want
    made += 1
    assert llama_cy.live_objects() == base
"""


def test_a_thousand_contexts(tiny_path: Path) -> None:
    check_output(THOUSAND, tiny_path)
