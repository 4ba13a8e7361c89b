"""Adapters that are loaded and let go while other threads use their model, and by callbacks within a computation.

llama.cpp goes through a model's adapters without a lock; ThreadSanitizer tells where nothing keeps it from others.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.sequences import check_sequence

COME_AND_GO = """
import functools
sys.setswitchinterval(1e-5)
ROUNDS = 60
kept = model.load_adapter(lora)
with decoded() as context:
    plain = context.logits().tobytes()
    context.set_adapters({kept: 0.5})
    context.memory.clear()
    context.decode([1, 2, 3])
    adapted = context.logits().tobytes()
assert plain != adapted
left = threading.Semaphore(0)

def load():
    try:
        for i in range(ROUNDS):
            loaded = [model.load_adapter(lora) for _ in range(i % 4 + 1)]
            loaded.pop().close()
    finally:
        left.release()

def make():
    while not left.acquire(blocking=False):
        with decoded(n_ctx=64) as context:
            assert context.logits().tobytes() == plain
    left.release()

def change():
    chain = llama_cy.sampling(temperature=0)
    with fresh() as context:
        for i in itertools.count():
            if left.acquire(blocking=False):
                left.release()
                break
            context.set_adapters({kept: 0.5} if i % 2 else None)
            context.memory.clear()
            if i % 3 == 0:
                list(context.generate([1, 2], chain, max_tokens=3, run_ahead=i % 2, ignore_eog=True))
                context.memory.clear()
            context.decode([1, 2, 3])
            assert context.logits().tobytes() == (adapted if i % 2 else plain)

together(load, load, make, change, change)
"""

SAMPLED = """
# What samples on the backend, and a control vector, let the next computation count the adapters too.
directions = np.full((3, model.n_embd), 0.1, dtype=np.float32)[:model.n_layer - 1]
vector = llama_cy.ControlVector(directions)
done = threading.Event()

def load():
    while not done.is_set():
        with model.load_adapter(lora):
            pass

def use():
    try:
        with fresh() as context:
            for i in range(40):
                context.set_sampler(0, SamplerChain(Sampler.greedy()) if i % 2 else None)
                context.memory.clear()
                context.decode([1, 2, 3])
                context.set_control_vectors(vector if i % 3 else None)
                context.memory.clear()
                context.decode([1, 2, 3])
    finally:
        done.set()

together(load, use)
"""

CALLBACKS = """
kept = model.load_adapter(lora)
calls = []

def meddle():
    # Both here and in threads that this one waits for.
    calls.append(1)
    if len(calls) == 1:
        model.load_adapter(lora).close()
        together(lambda: model.load_adapter(lora).close(), lambda: decoded(n_ctx=64).close())

def see(tensor):
    meddle()
    return True

def choose(tensor):
    meddle()
    return False

def asked():
    context = fresh()
    context.set_abort_callback(meddle, interval=0)
    return context

for make in (
    lambda: fresh(eval_callback=see),
    lambda: fresh(eval_callback=see, eval_filter=choose),
    asked,
):
    with make() as context:
        for i in range(3):
            calls.clear()
            context.set_adapters({} if i % 2 else {kept: 1.0})
            context.decode([1, 2])
            assert calls
"""

TRAINING = """
kept = model.load_adapter(lora)
own = llama_cy.Model(path, n_gpu_layers=0, load_mode="none")
calls = []

def choose(tensor):
    if not calls:
        own.load_adapter(lora).close()
        together(lambda: own.load_adapter(lora).close())
    calls.append(tensor.name)
    return True

with own.context(n_ctx=256, n_batch=256, n_ubatch=256, n_threads=1) as context:
    llama_cy.Trainer(context, choose)
assert calls
"""

WAITING = """
# Somebody who waits for the end of a computation keeps nobody else from the GIL, nor the computation from its own.
kept = model.load_adapter(lora)
began = threading.Event()

def see(tensor):
    began.set()
    time.sleep(0.01)
    return True

with fresh(eval_callback=see) as context:
    def use():
        for i in range(4):
            context.set_adapters({} if i % 2 else {kept: 1.0})
            context.decode([1, 2])
    def load():
        began.wait()
        for _ in range(20):
            model.load_adapter(lora).close()
    together(use, load, load)
"""

SEQUENCES = {
    "adapters come and go while contexts are made and change theirs": COME_AND_GO,
    "adapters come and go while samplers and control vectors change": SAMPLED,
    "a callback loads adapters and waits for who does": CALLBACKS,
    "what chooses the weights to train loads adapters": TRAINING,
    "a computation takes long while others load": WAITING,
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequence(name: str, tiny_path: Path, tmp_path: Path) -> None:
    check_sequence(SEQUENCES[name], tiny_path, tmp_path)
