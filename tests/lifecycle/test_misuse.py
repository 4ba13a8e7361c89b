# ruff: noqa: E501 - the scripts read better unbroken.
"""Objects, callbacks and values misused in ways that nobody would write on purpose: each script lives."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.sequences import check_sequence

# Name to source.
SEQUENCES = {
    "a context is closed by the eval callback of its own decode": """
box = []
def look(tensor):
    attempt(box[0].close); attempt(lambda: box[0].decode([1])); attempt(box[0].memory.clear); gc.collect()
    return True
box.append(fresh(eval_callback=look))
attempt(lambda: box[0].decode([1, 2]))
box[0].close()
""",
    "an eval callback keeps its tensors beyond their computation": """
kept = []
def look(tensor):
    kept.append(tensor)
    return True
def look_again():
    for tensor in kept[:20]:
        repr(tensor)
        for name in dir(tensor):
            value = attempt(lambda: getattr(tensor, name))
            if callable(value) and not name.startswith("__"):
                attempt(value)
context = fresh(eval_callback=look)
context.decode([1, 2])
look_again()
context.close()
look_again()
""",
    "the collector runs in each abort callback, over cycles of contexts": """
class Cycle: pass
def make():
    cycle = Cycle()
    cycle.self, cycle.context = cycle, fresh(n_ctx=64)
asked = []
def abort():
    asked.append(1)
    if len(asked) < 60:
        make(); gc.collect()
    return False
context = fresh()
context.set_abort_callback(abort, interval=0)
context.decode([1] * 20)
context.complete([1, 2], max_tokens=5, ignore_eog=True)
""",
    "an abort callback closes, detaches, replaces itself and raises": """
context = fresh()
def abort():
    attempt(lambda: context.set_abort_callback(None))
    attempt(context.detach); attempt(context.close); attempt(lambda: context.attach(Threadpool(2)))
    raise KeyError("abort")
context.set_abort_callback(abort, interval=0)
for _ in range(3):
    attempt(lambda: context.decode([1] * 9))
context.set_abort_callback(None)
context.decode([1])
""",
    "a Python sampler works on the chain that it is in": """
class Meddler:
    name = "meddler"
    def apply(self, candidates):
        attempt(chain.close); attempt(lambda: chain.remove(0)); attempt(lambda: chain.add(Sampler.greedy()))
        attempt(lambda: chain.sample(context)); attempt(context.close); attempt(chain.clone); gc.collect()
        candidates.selected = 0
    def accept(self, token):
        attempt(chain.reset); attempt(chain.close)
    def reset(self):
        attempt(chain.close)
context = decoded()
chain = attempt(lambda: SamplerChain(Sampler.custom(Meddler())))
if not isinstance(chain, Exception):
    for _ in range(3):
        attempt(lambda: chain.sample(context))
    attempt(lambda: context.complete(None, chain, max_tokens=3))
    chain.reset()
    chain.close()
""",
    "a Python sampler gives candidates of every wrong kind": """
context = decoded()
for act in ("c.selected = 10**9", "c.selected = -5", "c.selected = 'a'", "c.data = c.data[:0]", "c.data = None",
            "c.data['id'] = -1", "c.data['logit'] = nan", "c.data['id'] = 2**31 - 1", "c.data = c.data[::2]; c.selected = 300",
            "del c.data", "c.data.resize(3, refcheck=False)", "c.data.flags.writeable = False; c.data['p'] = 1",
            "raise SystemExit", "raise KeyboardInterrupt", "c.__init__(np.zeros(0))", "c.sorted = object()"):
    class Wrong:
        def apply(self, c):
            exec(act, globals() | {"c": c})
    sampler = attempt(lambda: Sampler.custom(Wrong()))
    if not isinstance(sampler, Exception):
        chain = SamplerChain(sampler, Sampler.greedy())
        for _ in range(2):
            attempt(lambda: chain.sample(context), SystemExit, KeyboardInterrupt)
        attempt(lambda: context.complete(None, chain, max_tokens=2), SystemExit, KeyboardInterrupt)
""",
    "everything is copied, pickled and hashed": """
context = decoded()
things = [model, model.vocab, context, context.memory, context.state, context.snapshot(), Batch(3), BatchExt(context),
          Sampler.greedy(), llama_cy.sampling(), context.generate([1]), context.stream([1], stop="a"), Threadpool(1),
          model.load_adapter(lora), llama_cy.ContextPool(model, 1, n_ctx=64, n_threads=1), llama_cy.devices()[0],
          llama_cy.Embedder(model, n_ctx=64, pooling_type="mean"), context.perf(), llama_cy.to_capsule(model),
          llama_cy.ControlVector(np.ones((2, 64), np.float32)), model.metadata, llama_cy.version()]
for thing in things:
    for work in (copy.copy, copy.deepcopy, pickle.dumps, hash, repr, str, bool, len, iter, list, bytes, dir, vars, sys.getsizeof,
                 lambda t: t == t, lambda t: t < t, lambda t: t.__reduce_ex__(4), lambda t: t.__setstate__({}),
                 lambda t: t.__class__.__new__(t.__class__), lambda t: object.__new__(t.__class__), weakref.ref,
                 lambda t: setattr(t, "__class__", Batch), lambda t: setattr(t, "x", 1), memoryview):
        if not (work is list and thing is things[10]):
            attempt(lambda: work(thing), pickle.PicklingError)
""",
    "instances that were never initialised": """
import warnings
warnings.simplefilter("ignore")
context = decoded()
for name in dir(llama_cy):
    kind = getattr(llama_cy, name)
    if not isinstance(kind, type) or issubclass(kind, (BaseException, int)) or name in ("Version",):
        continue
    for made in (lambda: kind.__new__(kind), lambda: object.__new__(kind), lambda: type("Sub", (kind,), {"__init__": lambda self: None})(),
                 lambda: type("Sub", (kind,), {"__new__": lambda cls: object.__new__(cls)})(),
                 lambda: type("Sub", (kind,), {})(model), lambda: kind.__new__(kind, context)):
        thing = attempt(made)
        if isinstance(thing, Exception):
            continue
        for attribute in dir(thing):
            if attribute in ("__class__", "__init_subclass__", "__subclasshook__", "__new__", "acquire", "__abstractmethods__"):
                continue
            value = attempt(lambda: getattr(thing, attribute))
            if callable(value) and not attribute.startswith(("__a", "a")):
                for arguments in ((), (context,), (1,), (1, 2, 3)):
                    attempt(lambda: value(*arguments), OSError)
""",
    "constructors are called again on objects in use": """
context = decoded()
chain = llama_cy.sampling(seed=1)
batch = Batch(4)
batch.add(1, 3)
loop = context.generate(None, chain, max_tokens=3)
for thing in (model, context, chain, batch, loop, context.memory, context.state, model.vocab, context.snapshot(), Sampler.greedy(),
              llama_cy.ContextPool(model, 1, n_ctx=64, n_threads=1), llama_cy.Embedder(model, n_ctx=64, pooling_type="mean")):
    for arguments in ((), (model,), (context,), (path,), (1,), (Sampler.greedy(),), (Sampler.greedy(), Sampler.dist(1))):
        attempt(lambda: thing.__init__(*arguments))
attempt(lambda: list(loop)); attempt(lambda: context.decode(batch)); attempt(lambda: chain.sample(context)); attempt(batch.clear)
""",
    "subclasses that break every hook": """
class Bad(llama_cy.Context):
    def __getattribute__(self, name):
        if random.random() < 0.3:
            raise AttributeError(name)
        return super().__getattribute__(name)
    def __del__(self):
        attempt(lambda: self.close()); attempt(lambda: self.decode([1])); kept.append(self)
    def __eq__(self, other): raise KeyError
    def __hash__(self): raise KeyError
    def __bool__(self): raise KeyError
kept = []
random.seed(1)
for _ in range(20):
    context = attempt(lambda: Bad(model, n_ctx=64, n_threads=1))
    attempt(lambda: context.decode([1, 2])); attempt(lambda: context.attach(Threadpool(1)))
    attempt(lambda: context.complete([1, 2], max_tokens=2))
    del context
gc.collect()
for one in kept:
    attempt(lambda: one.memory.clear())
kept.clear()
""",
    "a view of logits outlives everything": """
context = decoded()
view = context.logits_view(-1)
array = np.asarray(view)
half = array[::2]
del view, array
for act in (context.close, lambda: context.decode([1]), model.close, lambda: context.restore(context.snapshot())):
    attempt(act)
del context
gc.collect()
assert np.isfinite(half).all()
del half
gc.collect()
""",
    "arrays of strange shapes, types and strides": """
import warnings
# NumPy 2.2 warns of a bool for an index; newer ones raise.
warnings.simplefilter("ignore", DeprecationWarning)
context = fresh()
strange = [np.ones((2, 2), np.int32), np.ones(6, np.int32)[::-2], np.ones(3, ">i4"), np.ones(3, np.uint64) * 2**63, np.ones(3, np.bool_),
           np.zeros(0, np.int32), np.ones((), np.int32), np.ones(3, object), np.array([1, None], object), np.array(["a"]),
           np.ones(3, np.float16), np.ones(3, np.complex64), np.broadcast_to(np.int32(1), 10**9), np.ones(3, "M8[s]"),
           np.ma.masked_array([1, 2], [True, False]), np.frombuffer(b"\\1" * 5, np.uint8)[1:], np.ones(3, [("a", "i4")]),
           memoryview(b"abc"), memoryview(b"abcd").cast("i"), range(10**18), itertools.repeat(1, 10**4), {1: 2}, {1}, "12", b"12",
           iter([1, 2]), (i for i in "ab"), type("L", (), {"__len__": lambda s: 2**62, "__getitem__": lambda s, i: 1})(),
           type("L", (), {"__len__": lambda s: -1, "__iter__": lambda s: iter([1])})(), type("A", (), {"__array__": lambda s, *a, **k: 5})()]
for value in strange:
    if isinstance(value, range) or isinstance(value, np.ndarray) and value.size > 10**6:
        # It would take its time, as it should.
        continue
    for work in (context.decode, model.vocab.detokenize, context.generate, lambda v: Batch.from_arrays(v, v),
                 lambda v: context.logprobs(v), lambda v: context.generate([1], stop_tokens=v), llama_cy.ControlVector,
                 lambda v: Sampler.logit_bias(v), lambda v: context.stream([1], stop=v), context.state.set,
                 lambda v: model.load_adapter(v), llama_cy.Model, llama_cy.Snapshot.from_bytes, lambda v: context.set_adapters(v),
                 lambda v: context.set_control_vectors(v), lambda v: model.embed(v), lambda v: model.context(n_ctx=v),
                 lambda v: context.logits(v), lambda v: Threadpool(1, cpumask=v), llama_cy.Candidates):
        attempt(lambda: work(value), OSError)
""",
    "numbers of strange kinds in every place": """
context = decoded()
class Index:
    def __init__(self, value): self.value = value
    def __index__(self): return self.value() if callable(self.value) else self.value
    __int__ = __float__ = __index__
strange = [10**4000, -10**4000, nan, inf, -inf, -0.0, 1e308, 2**31, 2**63, 2**64, -2**63 - 1, np.int64(-1), np.uint64(2**64 - 1), np.float32(nan),
           True, None, Index(10**300), Index(lambda: Index(1)), Index("a"), Index(lambda: 1 / 0), complex(1), "1", b"1", object()]
methods = [context.memory.seq_rm, context.memory.seq_pos_max, context.memory.seq_keep, context.logits, context.embeddings_seq,
           context.snapshot, context.set_n_threads, context.logits_view, Batch, Threadpool, Sampler.dist, Sampler.top_k, Sampler.top_p,
           Sampler.temp, Sampler.penalties, Sampler.mirostat_v2, Sampler.xtc, Sampler.top_n_sigma, model.vocab.token_to_piece,
           lambda v: context.complete([1], max_tokens=v), lambda v: context.generate([1], logprobs=v), lambda v: context.generate([1], run_ahead=v),
           lambda v: context.memory.seq_add(0, v, v, v), lambda v: context.memory.seq_div(0, 0, -1, v), lambda v: context.memory.seq_cp(v, v),
           lambda v: Batch(2).add(v, v, (v,)), lambda v: llama_cy.ContextPool(model, v), lambda v: context.set_adapters({model.load_adapter(lora): v}),
           lambda v: model.context(n_ctx=v, n_seq_max=v), lambda v: llama_cy.Embedder(model, n_ctx=v), llama_cy.split_prefix,
           lambda v: llama_cy.split_path("a", v, v), lambda v: Sampler.dry(model.vocab, v, v, v, v), lambda v: Sampler.adaptive_p(v, v)]
for work in methods:
    for value in strange:
        attempt(lambda: work(value), ZeroDivisionError)
""",
    "a loop is its own generator's argument": """
context = fresh()
def prompts():
    yield 1
    attempt(lambda: next(loops[0])); attempt(context.close); attempt(lambda: context.complete([1], max_tokens=1))
    gc.collect()
    yield from context.generate([1, 2], max_tokens=3)
loops = [fresh().generate([1])]
loops.append(attempt(lambda: context.generate(prompts(), max_tokens=3)))
attempt(lambda: context.decode(context.generate([1, 2], max_tokens=3)))
attempt(lambda: context.decode(iter(lambda: context.decode([1]) or 1, None)))
attempt(lambda: list(context.generate(context.generate([1], max_tokens=5), max_tokens=2)))
context = fresh()
stream = context.stream([1, 2], stop="z")
attempt(lambda: context.stream([1, 2], stop=(next(stream) for _ in range(2))))
attempt(lambda: list(zip(stream, stream, stream)))
""",
    "capsules are used after what they point to, and twice": """
context = decoded()
chain = llama_cy.sampling(seed=1)
for thing in (model, model.vocab, context, chain, Sampler.greedy(), Batch(2), None, 5):
    capsule = attempt(lambda: llama_cy.to_capsule(thing))
    for _ in range(3):
        made = attempt(lambda: llama_cy.from_capsule(capsule))
        attempt(lambda: made.desc); attempt(lambda: made.sample(context)); attempt(lambda: made.close())
    attempt(lambda: thing.close()); attempt(lambda: thing.decode([1])); attempt(lambda: llama_cy.to_capsule(thing))
    del capsule
    gc.collect()
new = ctypes.pythonapi.PyCapsule_New
new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
for name in (b"other", b"", b"llama_cy.nothing"):
    attempt(lambda: llama_cy.from_capsule(new(8, name, None)))
""",
    "recursion runs out inside of callbacks": """
sys.setrecursionlimit(300)
def deep(n=0):
    return deep(n + 1)
def look(tensor):
    deep()
context = fresh(eval_callback=look)
attempt(lambda: context.decode([1]), RecursionError)
def again(n=0):
    try:
        return again(n + 1)
    except RecursionError:
        for act in (lambda: context.decode([1]), lambda: fresh().complete([1], max_tokens=1), lambda: Batch(2).add(1, 0),
                    lambda: llama_cy.sampling().clone(), lambda: model.vocab.tokenize("hello"), lambda: fresh(n_ctx=-1),
                    lambda: llama_cy.json_schema_to_grammar({"type": "array", "items": {"type": "array"}})):
            attempt(act, RecursionError)
again()
nested = []
for _ in range(10**5):
    nested = [nested]
for act in (lambda: context.decode(nested), lambda: llama_cy.json_schema_to_grammar({"enum": [nested]}), lambda: model.vocab.detokenize(nested)):
    attempt(act, RecursionError)
while nested:
    nested = nested.pop()
""",
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_lives(tiny_path: Path, tmp_path: Path, name: str) -> None:
    check_sequence(SEQUENCES[name], tiny_path, tmp_path)
