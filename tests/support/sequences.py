"""Sequences of calls as scripts: what each begins with, and how it is run."""

from __future__ import annotations

from pathlib import Path

from .child import run
from .lora import random_lora, write_lora

__all__ = ["TOGETHER", "check_sequence"]

# For scripts that imported threading.
TOGETHER = """
def together(*works):
    # Run them in threads, and give what they return; an exception in one is an exception here.
    results, failed = [None] * len(works), []
    def guarded(index):
        try:
            results[index] = works[index]()
        except BaseException as error:
            failed.append(error)
    running = [threading.Thread(target=guarded, args=(index,)) for index in range(len(works))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if failed:
        raise failed[0]
    return results
"""

SETUP = """
import copy, ctypes, gc, io, itertools, os, pickle, random, signal, sys, threading, time, weakref
from math import inf, nan
import numpy as np
import llama_cy
from llama_cy import Batch, BatchExt, Sampler, SamplerChain, Threadpool

path, lora = sys.argv[1:3]
model = llama_cy.Model(path, n_gpu_layers=0)
n_vocab = model.vocab.n_tokens
errors = (llama_cy.LlamaError, ValueError, TypeError, BufferError, StopIteration, AttributeError, OverflowError,
          MemoryError, IndexError, KeyError, NotImplementedError)

def fresh(**params):
    return model.context(**{"n_ctx": 256, "n_threads": 1} | params)

def decoded(**params):
    context = fresh(**params)
    context.decode([1, 2, 3])
    return context

def attempt(work, *more):
    # Whatever is raised must be an exception of ours or Python's own for a wrong value.
    try:
        return work()
    except errors + more as error:
        return error
"""

# What is left when all is dropped.
LEFT = """
for name in [name for name in globals() if not name.startswith("_") and name not in ("gc", "llama_cy")]:
    del globals()[name]
gc.collect()
gc.collect()
assert not any(llama_cy.live_objects().values()), llama_cy.live_objects()
"""


def check_sequence(source: str, model: Path, folder: Path, *, ends: bool = False) -> None:
    """Run a script, which must end well and leave nothing behind, unless it `ends` in the middle of all."""
    adapter = write_lora(folder / "lora.gguf", random_lora({"blk.0.attn_q.weight": (64, 64)}))
    child = run(SETUP + TOGETHER + source + ("" if ends else LEFT), model, adapter, timeout=240)
    assert child.code == 0, child
