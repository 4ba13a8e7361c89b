# ruff: noqa: E501 - the scripts read better unbroken.
"""Objects that go, change or are interrupted at the worst moment: each script lives, ends and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.sequences import check_sequence

# Name to source.
SEQUENCES = {
    "views are taken and dropped while other threads decode": """
context = decoded(n_ctx=1024)
stop = time.monotonic() + 2
def look():
    while time.monotonic() < stop:
        view = attempt(lambda: context.logits_view(-1))
        if not isinstance(view, Exception):
            view.sum(); view[:] if not view.flags.writeable else None
        del view
def decode():
    while time.monotonic() < stop:
        attempt(lambda: (context.memory.clear(), context.decode([1] * 9)))
together(*[look, look, decode, decode])
""",
    "a buffer shrinks while it is read": """
data = bytearray(decoded().state.get())
contexts = [fresh() for _ in range(3)]
stop = time.monotonic() + 2
def shrink():
    while time.monotonic() < stop:
        try:
            del data[-1:]
            data.extend(b"x")
        except BufferError:
            pass
def read(context):
    while time.monotonic() < stop:
        attempt(lambda: context.state.set(data))
        attempt(lambda: llama_cy.Snapshot.from_bytes(data))
together(*[shrink] + [lambda context=context: read(context) for context in contexts])
""",
    "an array of tokens changes while it is decoded": """
tokens = np.ones(200, np.int32)
context = fresh(n_ctx=1024)
stop = time.monotonic() + 2
def change():
    while time.monotonic() < stop:
        tokens[:] = -1; tokens[:] = 2**31 - 1; tokens[:] = 1
def use():
    while time.monotonic() < stop:
        attempt(lambda: (context.memory.clear(), context.decode(tokens)))
        attempt(lambda: model.vocab.detokenize(tokens))
        attempt(lambda: Batch.from_arrays(tokens, np.arange(200)))
together(*[change, use])
""",
    "a pool is closed while its users wait, work and forget": """
stop = time.monotonic() + 2
def work(seed):
    draw = random.Random(seed)
    pool = pools[0]
    while time.monotonic() < stop:
        pool = pools[0]
        act = draw.randrange(7)
        if act == 0:
            attempt(lambda: pool.close(cancel=draw.random() < 0.5))
            pools[0] = llama_cy.ContextPool(model, 2, n_ctx=64, n_threads=1)
        elif act == 1:
            attempt(lambda: pool.acquire(timeout=0.01))
            gc.collect()
        elif act == 2:
            context = attempt(lambda: pool.acquire(timeout=0.01))
            attempt(context.close) if not isinstance(context, Exception) else None
            attempt(lambda: pool.release(context))
            attempt(lambda: pool.release(context))
        else:
            context = attempt(lambda: pool.acquire(timeout=0.05))
            if not isinstance(context, Exception):
                attempt(lambda: context.complete([1, 2], max_tokens=3))
                attempt(lambda: pool.release(context))
pools = [llama_cy.ContextPool(model, 2, n_ctx=64, n_threads=1)]
together(*[lambda seed=seed: work(seed) for seed in range(6)])
pools[0].close(cancel=True)
pools.clear()
""",
    "loops that decode ahead are dropped at every moment": """
for seed in range(60):
    draw = random.Random(seed)
    context = fresh()
    loop = context.generate([1, 2, 3], Sampler.greedy(), run_ahead=draw.randint(1, 9), ignore_eog=True)
    for _ in range(draw.randint(0, 4)):
        next(loop)
    for act in draw.sample([loop.close, context.close, context.cancel, lambda: context.decode([1]), gc.collect, context.detach,
                            lambda: context.attach(Threadpool(1)), lambda: context.set_abort_callback(lambda: True, interval=0),
                            lambda: context.memory.clear(), lambda: context.state.set(context.state.get()), lambda: next(loop),
                            lambda: context.logits_view(-1), loop.sampler.close, lambda: loop.sampler.reset(), lambda: loop.context.close(),
                            lambda: context.set_adapters({model.load_adapter(lora): 1.0})], 5):
        attempt(act)
    if draw.random() < 0.5:
        del context, act
    del loop
    gc.collect()
""",
    "signals arrive in every call, and their handler uses what is in use": """
context = fresh(n_ctx=2048)
chain = llama_cy.sampling(seed=1)
handling = []
def handler(*_):
    if handling:
        return
    handling.append(1)
    try:
        handle()
    finally:
        handling.clear()
within = False
def handle():
    attempt(context.close); attempt(lambda: context.decode([1])); attempt(chain.reset); attempt(context.cancel)
    attempt(lambda: context.logits_view(-1)); attempt(chain.close); gc.collect()
    if within and random.random() < 0.3:
        raise ZeroDivisionError
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
stop = time.monotonic() + 3
while time.monotonic() < stop:
    try:
        within = True
        if not context:
            context = fresh(n_ctx=2048)
        if not chain:
            chain = llama_cy.sampling(seed=1)
        random.choice([lambda: context.complete([1] * 200, chain, max_tokens=50), lambda: list(context.stream([1, 2], chain, max_tokens=30)),
                       lambda: llama_cy.Model(path, n_gpu_layers=0).close(), lambda: context.state.set(context.state.get()),
                       lambda: model.vocab.tokenize("a b c " * 2000), lambda: context.memory.clear(),
                       lambda: list(context.generate([1, 2], chain, run_ahead=4, max_tokens=30)),
                       lambda: llama_cy.json_schema_to_grammar({"type": "object"})])()
        within = False
    except errors + (ZeroDivisionError,):
        within = False
while True:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        break
    except ZeroDivisionError:
        pass
""",
    "weak references call back into what goes": """
seen = []
def gone(reference):
    attempt(lambda: fresh(n_ctx=64).decode([1])); attempt(gc.collect); seen.append(reference() is None)
for make in (fresh, lambda: Batch(2), Sampler.greedy, llama_cy.sampling, lambda: Threadpool(1), lambda: llama_cy.Model(path, n_gpu_layers=0),
             lambda: model.load_adapter(lora), lambda: fresh().generate([1], run_ahead=2), lambda: fresh().snapshot()):
    thing = attempt(make)
    reference = attempt(lambda: weakref.ref(thing, gone))
    final = attempt(lambda: weakref.finalize(thing, lambda: attempt(lambda: fresh(n_ctx=64).complete([1], max_tokens=1))))
    del thing
    gc.collect()
assert all(seen)
""",
    "a trainer's context and model are used, closed and dropped meanwhile": """
own = llama_cy.Model(path, load_mode="none", n_gpu_layers=0)
context = own.context(n_ctx=256, n_batch=256, n_ubatch=256, n_threads=1)
trainer = llama_cy.Trainer(context)
def progress(done, total):
    for act in (context.close, own.close, lambda: context.decode([1]), lambda: own.save("/nowhere/x"), trainer.__init__,
                lambda: trainer.epoch([1] * 600), lambda: llama_cy.Trainer(context), lambda: own.context(n_ctx=64).decode([1]),
                lambda: setattr(trainer, "learning_rate", nan), gc.collect):
        attempt(act)
    return True
attempt(lambda: trainer.epoch([1, 2, 3] * 300, progress=progress))
attempt(lambda: llama_cy.Trainer(context, lambda tensor: context.close()))
attempt(lambda: trainer.epoch([1, 2, 3] * 300, progress=lambda *_: 1 / 0), ZeroDivisionError)
attempt(lambda: context.decode([1, 2])); attempt(context.close); attempt(lambda: trainer.epoch([1] * 600)); attempt(own.close)
del trainer, context, own
""",
    "adapters and control vectors change hands in the middle of loops": """
other = llama_cy.Model(path, n_gpu_layers=0)
adapters = [model.load_adapter(lora), other.load_adapter(lora)]
context = fresh()
stop = time.monotonic() + 2
vectors = [llama_cy.ControlVector(np.full((2, 64), value, np.float32)) for value in (0.0, -1e38, 1e38)]
def change(seed):
    draw = random.Random(seed)
    while time.monotonic() < stop:
        attempt(lambda: context.set_adapters({draw.choice(adapters): draw.choice([0.0, 1.0, nan, 1e38, -1.0])}))
        attempt(lambda: context.set_control_vectors([(draw.choice(vectors), draw.choice([0.0, 1.0, inf]))]))
        attempt(lambda: draw.choice(adapters).close()) if draw.random() < 0.1 else None
        adapters[0] = attempt(lambda: model.load_adapter(lora)) if not adapters[0] else adapters[0]
def use():
    while time.monotonic() < stop:
        attempt(lambda: context.complete([1, 2, 3], max_tokens=5))
together(*[lambda: change(1), lambda: change(2), use])
""",
    "models are closed while threads load, tokenize and make contexts": """
stop = time.monotonic() + 2
models = [llama_cy.Model(path, n_gpu_layers=0) for _ in range(3)]
def work(seed):
    draw = random.Random(seed)
    while time.monotonic() < stop:
        i = draw.randrange(3)
        one = models[i]
        for act in draw.sample([one.close, lambda: one.context(n_ctx=64, n_threads=1).decode([1]), lambda: one.vocab.tokenize("hello " * 99),
                                lambda: one.desc, lambda: one.metadata, lambda: one.load_adapter(lora), lambda: one.save("/nowhere/a"),
                                lambda: one.embed("hello"), lambda: one.chat_template(), gc.collect, lambda: one.placement], 3):
            attempt(act, OSError)
        if not one:
            models[i] = llama_cy.Model(path, n_gpu_layers=0)
together(*[lambda seed=seed: work(seed) for seed in range(4)])
models.clear()
""",
    "a progress callback of a load loads, raises and exits": """
depth = []
def progress(share):
    depth.append(share)
    if len(depth) < 4:
        attempt(lambda: llama_cy.Model(path, n_gpu_layers=0, progress=progress))
    attempt(model.close) if len(depth) == 9 else None
    gc.collect()
    raise [KeyError, SystemExit, KeyboardInterrupt, llama_cy.LlamaError][len(depth) % 4]
for _ in range(6):
    attempt(lambda: llama_cy.Model(path, n_gpu_layers=0, progress=progress), SystemExit, KeyboardInterrupt)
""",
    "handlers of the log use the objects that log": """
import logging
context = fresh()
class Handler(logging.Handler):
    def emit(self, record):
        attempt(lambda: context.decode([1])); attempt(context.close); attempt(lambda: llama_cy.log.tail())
        if random.random() < 0.2:
            raise ZeroDivisionError
logger = logging.getLogger("llama_cy")
logger.addHandler(Handler())
logger.setLevel(1)
for _ in range(5):
    attempt(lambda: llama_cy.Model(path, n_gpu_layers=0).close(), ZeroDivisionError)
    attempt(lambda: llama_cy.Model("/nowhere", n_gpu_layers=0), OSError, ZeroDivisionError)
    attempt(lambda: Sampler.grammar(model.vocab, "root ::= ((("), ZeroDivisionError)
logger.handlers.clear()
""",
    "files that are pipes, devices, closed, in text mode and cut while they are read": """
class Odd(io.RawIOBase):
    def __init__(self, kind): self.kind = kind
    def readable(self): return True
    def fileno(self):
        return {"huge": 2**40, "negative": -1, "text": "a", "closed": 10**6}.get(self.kind, 0)
    def read(self, n=-1): return {"text": "a"}.get(self.kind, b"GGUF")
    def seek(self, *_): raise OSError
    def tell(self): return -5
read, write = os.pipe()
os.close(write)
closed = open(path, "rb")
closed.close()
for source in (Odd("huge"), Odd("negative"), Odd("text"), Odd("closed"), read, write, -1, 10**6, closed, open(path), open(os.devnull, "rb"),
               open(path, "rb", buffering=0), io.BytesIO(b"GGUF"), io.StringIO("GGUF"), os.open("/", os.O_RDONLY), True):
    attempt(lambda: llama_cy.Model(source, n_gpu_layers=0).close(), OSError, io.UnsupportedOperation)
    attempt(lambda: model.load_adapter(source), OSError, io.UnsupportedOperation)
    attempt(lambda: llama_cy.Snapshot.load(source), OSError)
for name in ("/dev/full", "/dev/null", "/dev/zero", "/", "", "a\\0b", "/proc/self/mem"):
    for work in (lambda: model.save(name), lambda: decoded().state.save(name), lambda: decoded().state.load(name),
                 lambda: decoded().state.save_session(name), lambda: decoded().state.load_session(name),
                 lambda: llama_cy.quantize(path, name, "q8_0"), lambda: llama_cy.quantize(name, "/nowhere/a", "q8_0")):
        attempt(work, OSError)
""",
    "asyncio tasks are cancelled, and their loop is closed under them": """
import asyncio
async def work(context, seed):
    draw = random.Random(seed)
    async for _ in context.astream([1, 2, 3], max_tokens=200, ignore_eog=True):
        if draw.random() < 0.02:
            context.close()
async def main():
    contexts = [fresh() for _ in range(6)]
    tasks = [asyncio.ensure_future(work(context, seed)) for seed, context in enumerate(contexts)]
    await asyncio.sleep(0.02)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    late = fresh().astream([1], max_tokens=100, ignore_eog=True)
    await late.__anext__()
    return late
for _ in range(5):
    late = asyncio.run(main())
    attempt(lambda: asyncio.run(late.__anext__()), RuntimeError, StopAsyncIteration)
    del late
""",
    "the interpreter ends with everything in motion": """
contexts = [fresh(n_ctx=2048) for _ in range(3)]
def endless(context):
    while True:
        attempt(lambda: context.complete([1, 2], llama_cy.sampling(), max_tokens=500, ignore_eog=True))
for context in contexts:
    threading.Thread(target=endless, args=(context,), daemon=True).start()
ahead = fresh().generate([1, 2], run_ahead=8, ignore_eog=True)
next(ahead)
cycle = [fresh(), model, contexts]
cycle.append(cycle)
class Last:
    def __init__(self, context): self.context = context
    def __del__(self):
        attempt(lambda: self.context.decode([1])); attempt(lambda: fresh())
sys.last = Last(fresh())
time.sleep(0.3)
""",
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_lives(tiny_path: Path, tmp_path: Path, name: str) -> None:
    check_sequence(SEQUENCES[name], tiny_path, tmp_path, ends="interpreter ends" in name)
