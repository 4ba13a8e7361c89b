"""Fail each of the first allocations that making an object takes: an exception, and nothing of ours is left behind.

``ALLOCATION_FAILURES=all`` fails every one, and not only the first ones and some of the others.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.child import run
from support.failing_malloc import ARM, build_failing_malloc
from support.llama_models import write_llama
from support.lora import random_lora, write_lora

pytestmark = [
    # What a GPU's driver does where malloc fails is not ours.
    pytest.mark.cpu,
    pytest.mark.skipif(sys.platform != "linux", reason="what stands in for malloc is for glibc"),
]

SETUP = """
import gc, os, sys
import numpy as np
import llama_cy

path = sys.argv[1]
model = llama_cy.Model(path)
context = model.context(n_ctx=64, n_threads=1)
context.decode([1, 2, 3])
snapshot = context.snapshot()
chain = llama_cy.sampling(seed=1)
greedy = llama_cy.Sampler.greedy()
tokens = [1, 2, 3]
vector = llama_cy.ControlVector(np.ones((1, 64), np.float32))
deep = llama_cy.Model(sys.argv[5])
trained = llama_cy.Model(path, load_mode="none")
whole = {"n_ctx": 256, "n_batch": 256, "n_ubatch": 256, "n_threads": 1}
"""

LOOP = """
make, prepare = eval(sys.argv[2]), eval(sys.argv[3])

def attempt(n):
    given = prepare()
    before = alive()
    error = made = None
    arm(n)
    try:
        made = make(given)
    except BaseException as caught:
        error = caught
    finally:
        count, failed = disarm()
    assert error is None or isinstance(error, (MemoryError, llama_cy.LlamaError)), repr(error)
    assert failed or error is None, repr(error)
    was_error = error is not None
    # What is made must go before what it was made of.
    del made, given, error
    gc.collect()
    return count, failed, was_error, alive() - before

for _ in range(3):
    assert not attempt(0)[1]
base = llama_cy.live_objects()
n, errors, attempts = 1, 0, 0
while True:
    # A death shows what it died of.
    print(n, flush=True)
    count, failed, was_error, left = attempt(n)
    if not failed:
        break
    attempts += 1
    errors += was_error
    assert llama_cy.live_objects() == base, (n, llama_cy.live_objects(), base)
    assert left <= 0, f"{left} blocks are left behind after allocation {n} failed"
    n += 1 if os.environ.get("ALLOCATION_FAILURES") == "all" or n < 60 else n // 20
print("done", attempts, errors)
"""

# What is made, of what is prepared each time.
MAKERS = {
    "Model": "lambda _: llama_cy.Model(path)",
    "Model, not mapped": "lambda _: llama_cy.Model(path, load_mode='none')",
    "Model of a buffer": ("lambda data: llama_cy.Model.from_buffer(data)", "lambda: np.fromfile(path, np.uint8)"),
    "Context": "lambda _: model.context(n_ctx=64, n_threads=1)",
    "Batch": "lambda _: llama_cy.Batch(8, n_seq_max=2)",
    "Batch of arrays": "lambda _: llama_cy.Batch.from_arrays([1, 2], [0, 1])",
    "BatchExt": "lambda _: llama_cy.BatchExt(context)",
    "Threadpool": "lambda _: llama_cy.Threadpool(1)",
    "greedy": "lambda _: llama_cy.Sampler.greedy()",
    "dist": "lambda _: llama_cy.Sampler.dist(1)",
    "top_k": "lambda _: llama_cy.Sampler.top_k(3)",
    "penalties": "lambda _: llama_cy.Sampler.penalties()",
    "logit_bias": "lambda _: llama_cy.Sampler.logit_bias({1: 1.0, 2: -1.0})",
    "mirostat": "lambda _: llama_cy.Sampler.mirostat_v2(1)",
    "grammar": 'lambda _: llama_cy.Sampler.grammar(model.vocab, \'root ::= "a" | "b"+\')',
    "SamplerChain": "lambda _: llama_cy.SamplerChain(llama_cy.Sampler.penalties(), llama_cy.Sampler.dist(1))",
    "sampling": "lambda _: llama_cy.sampling(seed=1)",
    "clone": "lambda _: chain.clone()",
    "Snapshot": "lambda _: context.snapshot()",
    "restored": "lambda _: context.restore(snapshot)",
    "TokenLoop": "lambda _: llama_cy.TokenLoop(context, tokens, greedy, max_tokens=3)",
    "TextStream": "lambda _: context.stream(tokens, greedy, max_tokens=3, stop=['zz', 'yy'])",
    "tokens": "lambda _: model.vocab.tokenize('hello world')",
    "metadata": "lambda _: model.metadata",
    "a decode": ("lambda fresh: fresh.decode(tokens)", "lambda: model.context(n_ctx=64, n_threads=1)"),
    "a completion": (
        "lambda fresh: fresh.complete(tokens, greedy, max_tokens=3, ignore_eog=True, logprobs=2)",
        "lambda: model.context(n_ctx=64, n_threads=1)",
    ),
    "a sample": ("lambda twin: twin.sample(context)", "lambda: chain.clone()"),
    "LoraAdapter": "lambda _: model.load_adapter(sys.argv[4])",
    "adapters in use": (
        "lambda given: given[0].set_adapters({given[1]: 0.5})",
        "lambda: (model.context(n_ctx=64, n_threads=1), model.load_adapter(sys.argv[4]))",
    ),
    "a control vector in use": (
        "lambda fresh: fresh.set_control_vectors([(vector, 1.0)])",
        "lambda: deep.context(n_ctx=64, n_threads=1)",
    ),
    "Embedder": "lambda _: llama_cy.Embedder(model, n_ctx=64, n_threads=1, pooling_type='mean')",
    "an embedding": (
        "lambda embedder: embedder.embed([tokens, tokens])",
        "lambda: llama_cy.Embedder(model, n_ctx=64, n_threads=1, pooling_type='mean')",
    ),
    "ContextPool": "lambda _: llama_cy.ContextPool(model, 2, n_ctx=64, n_threads=1)",
    "a context of a pool": (
        "lambda pool: (pool.acquire(), pool.acquire())",
        "lambda: llama_cy.ContextPool(model, 2, n_ctx=64, n_threads=1)",
    ),
    "a loop that decodes ahead": (
        "lambda fresh: list(fresh.generate(tokens, greedy, max_tokens=8, ignore_eog=True, run_ahead=4))",
        "lambda: model.context(n_ctx=64, n_threads=1)",
    ),
    "Trainer": ("lambda fresh: llama_cy.Trainer(fresh)", "lambda: trained.context(**whole)"),
    "an epoch": (
        "lambda trainer: trainer.epoch(tokens * 100)",
        "lambda: llama_cy.Trainer(trained.context(**whole))",
    ),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_failing_malloc(tmp_path_factory.mktemp("failing"))


@pytest.mark.parametrize("made", MAKERS)
def test_allocation_fails(library: Path, tmp_path: Path, made: str) -> None:
    make = MAKERS[made]
    make, prepare = make if isinstance(make, tuple) else (make, "lambda: None")
    path = write_llama(tmp_path / "one.gguf", n_layer=1)
    deep = write_llama(tmp_path / "two.gguf", n_layer=2)
    lora = write_lora(tmp_path / "lora.gguf", random_lora({"blk.0.attn_q.weight": (64, 64)}))
    child = run(SETUP + ARM + LOOP, path, make, prepare, lora, deep, environ={"LD_PRELOAD": str(library)}, timeout=250)
    # llama.cpp writes by itself what it could not parse.
    assert child.code == 0, child
    assert child.stderr == "" or made == "grammar", child
    done, attempts, errors = child.stdout.splitlines()[-1].split()
    assert done == "done"
    assert int(attempts) > 0
    # What goes on all the same did not need it, as a line of the log.
    assert int(errors) > 0
