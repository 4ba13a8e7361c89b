"""Let go of a model and all that was made from it, in every order and in every way."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.child import check_output
from support.precision import offloaded

SETUP = """
import gc, itertools, os, random, sys
import llama_cy

baseline = llama_cy.live_objects()
# What exists by now is not looked at again, which makes each collection fast.
gc.collect()
gc.freeze()

lora = sys.argv[1] + ".lora"

def adapter_in_use(model, context):
    if not os.path.exists(lora):
        llama_cy.write_lora(lora, model, {"blk.0.attn_q.weight": ([[0.1] * 64], [[0.1]] * 64)})
    adapter = model.load_adapter(lora)
    context.set_adapters([adapter])
    return adapter

def made():
    model = llama_cy.Model(sys.argv[1])
    context = model.context(n_ctx=64, n_batch=32, n_threads=1)
    context.decode([5, 6])
    chain = llama_cy.SamplerChain(llama_cy.Sampler.top_k(3), llama_cy.Sampler.dist(1))
    stream = model.context(n_ctx=64, n_batch=32, n_threads=1).stream([1, 2], chain, max_tokens=9)
    next(stream)
    return {
        "model": model, "vocab": model.vocab, "context": context, "chain": chain, "stream": stream,
        "view": context.logits_view(), "memory": context.memory, "state": context.state,
        "adapter": adapter_in_use(model, context), "batch": llama_cy.Batch(4),
        "sampler": llama_cy.Sampler.greedy(), "loop": context.generate([1], max_tokens=3),
    }

def used(things):
    # What is left must still work, whatever went before.
    if "vocab" in things:
        assert things["vocab"].detokenize(things["vocab"].tokenize("hello")) == " hello"
    if "stream" in things and "chain" in things:
        next(things["stream"], None)
    if "view" in things:
        assert float(things["view"].sum()) == things["sum"]
    elif "context" in things and not things["context"].closed:
        things["context"].memory.clear()
        things["context"].decode([3])
    repr(things)

MAIN = ("model", "vocab", "context", "chain", "stream", "view")
REST = ("memory", "state", "batch", "sampler", "loop", "adapter")

def orders(step):
    shuffle = random.Random(1).shuffle
    for order in itertools.islice(itertools.permutations(MAIN), 0, None, step):
        rest = list(REST)
        shuffle(rest)
        cut = len(rest) // 2
        yield [*rest[:cut], *order, *rest[cut:]]
"""

RELEASES = {
    "del": """
def release(things, name):
    things.pop(name)
""",
    "close": """
def release(things, name):
    if name == "context" and "view" in things:
        try:
            things["context"].close()
        except BufferError:
            things.pop("view")
        else:
            raise AssertionError("closed under a view")
    thing = things[name]
    if hasattr(thing, "close"):
        thing.close()
        thing.close()
    things.pop(name)
""",
    "with": """
def release(things, name):
    thing = things.pop(name)
    if name == "context":
        things.pop("view", None)
    if hasattr(type(thing), "__exit__"):
        with thing:
            pass
""",
    "cycle": """
class Cycle:
    pass

def release(things, name):
    cycle = Cycle()
    cycle.itself, cycle.thing = cycle, things.pop(name)
    del cycle
    gc.collect()
""",
}

LOOP = """
count = 0
for order in orders(int(sys.argv[2])):
    things = made()
    things["sum"] = float(things["view"].sum())
    for name in order:
        if name in things:
            release(things, name)
            used(things)
    things.clear()
    count += 1
gc.collect()
assert llama_cy.live_objects() == baseline, llama_cy.live_objects()
print(count)
"""


# The last two differ from the first ones in how, hardly in what: every fifth order is enough.
@pytest.mark.parametrize(("way", "step"), [("del", 1), ("close", 1), ("with", 5), ("cycle", 5)])
def test_every_order(tiny_path: Path, way: str, step: int) -> None:
    # A context on a GPU takes longer to make.
    every = max(step, 5) if offloaded() else step
    assert check_output(SETUP + RELEASES[way] + LOOP, tiny_path, str(every)) == f"{720 // every}\n"


ALL_AT_ONCE = """
class Cycle:
    pass

for order in orders(6):
    things = made()
    cycle = Cycle()
    # One cycle for all of them, and one through each.
    cycle.things, things["cycle"] = [things.pop(name) for name in order], cycle
    cycle.back = things
    for thing in cycle.things:
        vars(cycle).setdefault("each", []).append((thing, cycle))
    del cycle, things, thing
    gc.collect()
assert llama_cy.live_objects() == baseline, llama_cy.live_objects()
print("done")
"""


def test_one_cycle_through_all(tiny_path: Path) -> None:
    assert check_output(SETUP + ALL_AT_ONCE, tiny_path) == "done\n"


CLOSED_ONES_KEEP_NOTHING = """
import gc, sys
import llama_cy
with llama_cy.Model(sys.argv[1]) as model, model.context(n_ctx=64, n_batch=32, n_threads=1) as context:
    context.decode([1])
    memory, state = context.memory, context.state
print(sum(llama_cy.live_objects().values()))
"""


def test_closing_frees_at_once(tiny_path: Path) -> None:
    assert check_output(CLOSED_ONES_KEEP_NOTHING, tiny_path) == "0\n"


SUBCLASSES = """
import gc, sys, weakref
import llama_cy

class Model(llama_cy.Model):
    def __init__(self, *args, **kwargs):
        self.itself = self

class Context(llama_cy.Context):
    def __init__(self, *args, **kwargs):
        self.itself = self
    def __del__(self):
        seen.append(repr(self))

class Chain(llama_cy.SamplerChain):
    def __init__(self, *samplers):
        super().__init__(*samplers)
        self.itself = self

class Batch(llama_cy.TokenLoop):
    pass

seen = []
model = Model(sys.argv[1])
context = Context(model, n_ctx=64, n_batch=32, n_threads=1)
chain = Chain(llama_cy.Sampler.greedy())
loop = context.generate([1], chain, max_tokens=2)
context.loop = loop
chain.context = context
refs = [weakref.ref(thing) for thing in (model, context, chain)]
print(len(list(loop)))
del model, context, chain, loop
gc.collect()
print([ref() for ref in refs], sum(llama_cy.live_objects().values()), len(seen))
"""


def test_subclasses_in_cycles(tiny_path: Path) -> None:
    assert check_output(SUBCLASSES, tiny_path) == "2\n[None, None, None] 0 1\n"
