"""Objects made in ways nobody should: twice, half, copied, extended."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.child import outcomes
from support.lora import random_lora, write_lora

import llama_cy

# Each is an expression over the names that SETUP makes; all classes of native objects are here.
OBJECTS = {
    "Model": "model",
    "LoraAdapter": "adapter",
    "Vocab": "model.vocab",
    "Context": "context",
    "Memory": "context.memory",
    "State": "context.state",
    "Batch": "batch",
    "BatchExt": "batch_ext",
    "Sampler": "sampler",
    "SamplerChain": "chain",
    "TokenLoop": "loop",
    "TextStream": "stream",
    "Threadpool": "pool",
}
PRIVATE = [
    "AbortCallback",
    "AdapterHandle",
    "Column",
    "ContextHandle",
    "ContextParams",
    "EvalCallback",
    "ModelHandle",
    "LoadParams",
    "LoadProgress",
    "Row",
    "Watch",
]
SETUP = """
import copy, gc, operator, pickle, sys, tempfile
import llama_cy
from llama_cy.abort_callback import AbortCallback
from llama_cy.adapter import AdapterHandle
from llama_cy.adapter_file import write_lora
from llama_cy.batch_arrays import Column
from llama_cy.context_handle import ContextHandle
from llama_cy.context_params import ContextParams
from llama_cy.eval_callback import EvalCallback, Watch
from llama_cy.handle import ModelHandle
from llama_cy.loading import LoadParams, LoadProgress
from llama_cy.rows import Row

model = llama_cy.Model(sys.argv[3], n_gpu_layers=0)
with tempfile.TemporaryDirectory() as folder:
    write_lora(folder + "/lora.gguf", model, {"blk.0.attn_q.weight": ([[1.0] * 64], [[1.0]] * 64)})
    adapter = model.load_adapter(folder + "/lora.gguf")
context = model.context(n_ctx=64, n_threads=1)
context.decode([1])
batch = llama_cy.Batch(2)
batch_ext = llama_cy.BatchExt(context)
sampler = llama_cy.Sampler.dist(3)
chain = llama_cy.sampling(seed=1)
pool = llama_cy.Threadpool(1)
loop = context.generate([1], max_tokens=2)
stream = context.stream([1], max_tokens=2)

def poke(thing):
    # Use every attribute and every method without arguments of a thing that was never made properly.
    for name in dir(type(thing)):
        if name in ("__class__", "__init_subclass__", "__subclasshook__", "__new__", "__init__", "__reduce__"):
            continue
        try:
            value = getattr(thing, name)
            if callable(value):
                value()
        except Exception:
            pass
    try:
        memoryview(thing)
    except TypeError:
        pass
    except BufferError:
        pass
    for use in (repr, bool, len, iter, next, hash, str):
        try:
            use(thing)
        except Exception:
            pass
    del thing
    gc.collect()
"""


@pytest.fixture(scope="module")
def half_made(tiny_path: Path) -> dict[str, Any]:
    classes = [f"llama_cy.{name}" for name in OBJECTS]
    classes += PRIVATE
    cases = {name: f"poke({name}.__new__({name}))" for name in classes}
    return dict(outcomes(SETUP, cases, tiny_path))


@pytest.mark.parametrize(
    "name",
    [
        *(f"llama_cy.{name}" for name in OBJECTS),
        *PRIVATE,
    ],
)
def test_new_without_init(half_made: dict[str, Any], name: str) -> None:
    outcome = half_made[name]
    assert outcome.raised == () or "TypeError" in outcome.raised, outcome


INIT_AGAIN = {
    "Model": "model.__init__(sys.argv[3])",
    "Model with nothing": "model.__init__()",
    "LoraAdapter": "adapter.__init__(model, '/nowhere')",
    "Vocab": "model.vocab.__init__()",
    "Context": "context.__init__(model, n_ctx=128)",
    "Memory": "context.memory.__init__(context)",
    "State": "context.state.__init__(context)",
    "Batch": "batch.__init__(5)",
    "Sampler": "sampler.__init__()",
    "SamplerChain": "chain.__init__(llama_cy.Sampler.greedy())",
    "SamplerChain closed": "c = llama_cy.sampling(); c.close(); c.__init__(llama_cy.Sampler.greedy()); c.close()",
    "TokenLoop": "loop.__init__(context, [1])",
    "TextStream": "stream.__init__(context, [1])",
    "Threadpool": "pool.__init__(2)",
}
STILL_GOOD = """
try:
    {source}
except Exception as error:
    assert isinstance(error, TypeError), repr(error)
context.memory.clear()
context.decode([1, 2])
assert chain.sample(context) < model.vocab.n_tokens and sampler.sample(context) is not None
assert len(batch) == 0 and batch.n_tokens_max == 2 and pool.n_threads == 1 and context.n_ctx == 256
gc.collect()
result = {{name: count for name, count in llama_cy.live_objects().items()}}
"""


@pytest.fixture(scope="module")
def made_again(tiny_path: Path) -> dict[str, Any]:
    cases = {name: STILL_GOOD.format(source=source) for name, source in {"none": "pass", **INIT_AGAIN}.items()}
    return dict(outcomes(SETUP, cases, tiny_path))


@pytest.mark.parametrize("name", INIT_AGAIN)
def test_init_again(made_again: dict[str, Any], name: str) -> None:
    assert made_again[name] == made_again["none"]


@pytest.fixture
def objects(tiny: llama_cy.Model, tmp_path: Path) -> Iterator[dict[str, Any]]:
    lora = write_lora(tmp_path / "lora.gguf", random_lora({"blk.0.attn_q.weight": (64, 64)}))
    with tiny.context(n_ctx=64, n_threads=1) as context:
        made = {
            "Model": tiny,
            "LoraAdapter": tiny.load_adapter(lora),
            "Vocab": tiny.vocab,
            "Context": context,
            "Memory": context.memory,
            "State": context.state,
            "Batch": llama_cy.Batch(2),
            "BatchExt": llama_cy.BatchExt(context),
            "Sampler": llama_cy.Sampler.greedy(),
            "SamplerChain": llama_cy.SamplerChain(),
            "TokenLoop": context.generate([1]),
            "TextStream": context.stream([1]),
            "Threadpool": llama_cy.Threadpool(1),
        }
        yield made
        # pytest holds on to the dict for a while.
        made.clear()


@pytest.mark.parametrize("name", OBJECTS)
class TestEveryClass:
    def test_is_covered(self, objects: dict[str, Any], name: str) -> None:
        assert type(objects[name]).__name__ == name

    def test_pickle_is_refused(self, objects: dict[str, Any], name: str) -> None:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError):
                pickle.dumps(objects[name], protocol)

    def test_copy_is_refused(self, objects: dict[str, Any], name: str) -> None:
        with pytest.raises(TypeError):
            copy.copy(objects[name])
        with pytest.raises(TypeError):
            copy.deepcopy(objects[name])

    def test_properties_are_read_only(self, objects: dict[str, Any], name: str) -> None:
        thing = objects[name]
        for attribute in dir(type(thing)):
            if not attribute.startswith("__"):
                with pytest.raises((AttributeError, TypeError)):
                    setattr(thing, attribute, None)
                with pytest.raises((AttributeError, TypeError)):
                    delattr(thing, attribute)
        with pytest.raises(AttributeError):
            thing.no_such_attribute = 1

    def test_repr_names_the_class(self, objects: dict[str, Any], name: str) -> None:
        assert repr(objects[name]).startswith(f"<{name}")


@pytest.mark.parametrize("name", ["Model", "Context", "LoraAdapter", "Batch", "Sampler", "SamplerChain"])
def test_weak_reference(objects: dict[str, Any], name: str) -> None:
    assert weakref.ref(objects[name])() is objects[name]


def test_collectable_weak_reference(tiny: llama_cy.Model) -> None:
    context = tiny.context(n_ctx=64, n_threads=1)
    ended: list[str] = []
    weakref.finalize(context, ended.append, "context")
    batch = llama_cy.Batch(1)
    weakref.finalize(batch, ended.append, "batch")
    del context, batch
    gc.collect()
    assert sorted(ended) == ["batch", "context"]


class TestSubclass:
    def test_of_model(self, tiny_path: Path) -> None:
        class Named(llama_cy.Model):
            def __init__(self, path: Path, **params: Any) -> None:
                self.name = path.stem

        with Named(tiny_path, n_gpu_layers=0) as model:
            assert model.name == "tiny"
            assert model.n_layer == 2

    def test_of_context(self, tiny: llama_cy.Model) -> None:
        class Counted(llama_cy.Context):
            count = 0

            def decode(self, tokens: Any) -> None:
                super().decode(tokens)
                self.count += 1

        with Counted(tiny, n_ctx=64, n_threads=1) as context:
            context.decode([1])
            assert context.count == 1
            assert context.memory.seq_pos_max() == 0

    def test_of_chain(self, tiny: llama_cy.Model) -> None:
        class Greedy(llama_cy.SamplerChain):
            def __init__(self) -> None:
                super().__init__(llama_cy.Sampler.greedy())

        with tiny.context(n_ctx=64, n_threads=1) as context, Greedy() as chain:
            assert len(list(context.generate([1], chain, max_tokens=3, ignore_eog=True))) == 3

    def test_of_chain_without_init(self) -> None:
        class Empty(llama_cy.SamplerChain):
            def __init__(self) -> None:
                pass

        chain = Empty()
        assert not chain
        with pytest.raises(llama_cy.ClosedError):
            chain.add(llama_cy.Sampler.greedy())

    @pytest.mark.parametrize("name", ["LoraAdapter", "Vocab", "Batch", "Memory", "State", "Threadpool"])
    def test_of_a_final_class(self, name: str) -> None:
        with pytest.raises(TypeError, match="not an acceptable base type"):
            type("Extended", (getattr(llama_cy, name),), {})

    def test_that_fails(self, tiny: llama_cy.Model) -> None:
        class Failing(llama_cy.Context):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                raise KeyError("on the way")

        with pytest.raises(KeyError):
            Failing(tiny, n_ctx=64, n_threads=1)


def test_no_public_constructor() -> None:
    vocab: Any = llama_cy.Vocab
    with pytest.raises(TypeError, match=r"model\.vocab"):
        vocab()
    sampler: Any = llama_cy.Sampler
    with pytest.raises(TypeError, match=r"Sampler\.greedy\(\)"):
        sampler()
