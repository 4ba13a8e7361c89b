"""Eight threads with 1,000 random operations each, on objects of all, of their own, and on both."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.child import run
from support.lora import random_lora, write_lora
from support.sequences import TOGETHER

SETUP = (
    TOGETHER
    + """
import functools, hashlib, random, sys, threading
import llama_cy

sys.setswitchinterval(1e-5)
THREADS, OPERATIONS = 8, 1000
model = llama_cy.Model(sys.argv[1], n_gpu_layers=0)
vocab = model.vocab
refusals = (llama_cy.LlamaError, ValueError, BufferError, StopIteration)
refused = []

class Things:
    # Objects to play with, made again when one of their players closes them.
    def __init__(self):
        self.chain = llama_cy.sampling(seed=1)
        self.batch = llama_cy.Batch(64, n_seq_max=2)
        self.adapter = model.load_adapter(sys.argv[2])
        self.embedder = llama_cy.Embedder(model, n_ctx=64, n_threads=1, pooling_type="mean")
        self.pool = llama_cy.ContextPool(model, 2, n_ctx=64, n_threads=1)
        self.reopen()
        self.stream = self.context.stream([1, 2], self.chain, ignore_eog=True)
        self.loop = self.context.generate([1, 2], self.chain.clone(), run_ahead=2, max_tokens=9)
        self.state = self.context.state.get()
        self.snapshot = self.context.snapshot()

    def reopen(self):
        self.context = model.context(n_ctx=512, n_seq_max=2, n_threads=1, kv_unified=True)

    def close(self):
        for name in ("stream", "loop", "pool", "embedder", "context", "chain", "adapter", "batch"):
            getattr(self, name).close()

def operations(things, draw):
    tokens = lambda most: [draw.randrange(vocab.n_tokens) for _ in range(draw.randint(1, most))]
    def reopen():
        things.context.close()
        things.reopen()
    def remake():
        things.batch.close()
        things.batch = llama_cy.Batch(64, n_seq_max=2)
    def renew():
        things.chain.remove(0)
        things.chain.close()
        things.chain = llama_cy.sampling(seed=1)
    def reload():
        things.adapter.close()
        things.adapter = model.load_adapter(sys.argv[2])
    def restart():
        things.stream = things.context.stream([1, 2], things.chain, ignore_eog=True, stop="zz")
    def run_ahead():
        things.loop = things.context.generate(
            tokens(5), llama_cy.sampling(seed=2), run_ahead=draw.randint(0, 8), max_tokens=9
        )
    def save():
        things.state = things.context.state.get()
    def take():
        things.snapshot = things.context.snapshot(draw.choice([None, 0, 1]))
    def borrow():
        with things.pool.context(timeout=draw.choice([0, None])) as context:
            return context.complete(tokens(3), llama_cy.Sampler.greedy(), max_tokens=2).tokens
    def view():
        return things.context.logits_view(-1).tobytes()
    return [
        reopen, remake, reload, renew, restart, run_ahead, save, take, borrow, view,
        *[lambda: things.context.decode(tokens(60))] * 2,
        *[lambda: things.batch.add(draw.randrange(500), draw.randrange(80), draw.choice([(0,), (1,), (0, 1)]))] * 4,
        *[lambda: next(things.stream)] * 2,
        *[lambda: next(things.loop)] * 2,
        lambda: things.batch.clear(),
        lambda: things.context.decode(things.batch),
        lambda: things.context.memory.clear(),
        lambda: things.context.memory.seq_rm(draw.choice([-1, 0, 1]), draw.randint(-1, 60), draw.randint(-1, 60)),
        lambda: things.context.memory.seq_cp(0, 1),
        lambda: things.context.memory.seq_add(0, draw.randint(0, 30), -1, draw.randint(-5, 5)),
        lambda: things.context.state.set(things.state),
        lambda: things.context.restore(things.snapshot),
        lambda: bytes(things.snapshot)[:100],
        lambda: things.context.set_adapters(draw.choice([{}, {things.adapter: 0.5}])),
        lambda: things.context.attach(llama_cy.Threadpool(1)),
        lambda: things.context.logits(-1).tobytes(),
        lambda: things.chain.sample(things.context),
        lambda: things.chain.reset(),
        lambda: things.chain.clone(),
        lambda: things.chain.get(0).name,
        lambda: things.stream.tokens[-1:],
        lambda: (things.stream.finish_reason, things.loop.finish_reason),
        lambda: things.stream.complete().tokens,
        lambda: things.context.cancel(),
        lambda: things.context.complete([1, 2], llama_cy.Sampler.greedy(), max_tokens=draw.randint(0, 9)).tokens,
        lambda: things.embedder.embed(tokens(9)).tobytes(),
        lambda: vocab.tokenize("hello world " * 50),
        lambda: vocab.detokenize(tokens(50)),
    ]

def play(seed, *all_things):
    # Give a digest of all that came out.
    draw = random.Random(seed)
    choices = [operations(things, draw) for things in all_things]
    seen = hashlib.sha256()
    for _ in range(OPERATIONS):
        try:
            result = draw.choice(draw.choice(choices))()
        except refusals as error:
            if isinstance(error, llama_cy.ContextBusyError):
                refused.append(seed)
            result = type(error)
        if isinstance(result, (int, bytes, str, list, tuple, type, type(None))):
            seen.update(repr(result).encode())
    return seen.digest()

def in_each_thread(work):
    return together(*[functools.partial(work, index) for index in range(THREADS)])

def alone(seed):
    own = Things()
    try:
        return play(seed, own)
    finally:
        own.close()

def unhurt(context):
    # The same answers as from a context that nobody else saw.
    context.set_adapters({})
    context.memory.clear()
    context.decode([3, 1, 4, 1, 5])
    with model.context(n_ctx=512, n_seq_max=2, n_threads=1, kv_unified=True) as other:
        other.decode([3, 1, 4, 1, 5])
        assert (context.logits() == other.logits()).all()
    assert context.complete("hello", max_tokens=5, ignore_eog=True).finish_reason == "length"
"""
)

SHARED = """
first = int(sys.argv[3])
shared = Things()
in_each_thread(lambda index: play(first + index, shared))
unhurt(shared.context)
shared.close()
del shared
print(len(refused) > 0)
"""

BOTH = """
first = int(sys.argv[3])
shared = Things()
def work(index):
    own = Things()
    play(first + index, shared, own)
    unhurt(own.context)
    own.close()
in_each_thread(work)
unhurt(shared.context)
shared.close()
del shared
print(len(refused) > 0)
"""

SEPARATE = """
first = int(sys.argv[3])
got = in_each_thread(lambda index: alone(first + index))
assert not refused
assert got == [alone(first + index) for index in range(THREADS)]
assert len(set(got)) == THREADS
print(True)
"""

# What is left when all is closed.
LEFT = """
import gc
del model, vocab
gc.collect()
assert not any(llama_cy.live_objects().values()), llama_cy.live_objects()
"""


@pytest.mark.parametrize("first", [0, 100])
@pytest.mark.parametrize("source", [SHARED, BOTH, SEPARATE], ids=["shared", "both", "separate"])
def test_eight_threads_at_once(tiny_path: Path, tmp_path: Path, source: str, first: int) -> None:
    lora = write_lora(tmp_path / "lora.gguf", random_lora({"blk.0.attn_q.weight": (64, 64)}))
    child = run(SETUP + source + LEFT, tiny_path, lora, str(first), timeout=280)
    assert (child.code, child.stdout, child.stderr) == (0, "True\n", "")
