"""Every attribute and every method of every object after close(): found by looking, so that new ones are covered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.child import Outcome, outcomes
from support.lora import random_lora, write_lora

import llama_cy

SETUP = """
import sys
import llama_cy

model = llama_cy.Model(sys.argv[3], n_gpu_layers=0)
context = model.context(n_ctx=64, n_threads=1)
context.decode([1])

def closed_model():
    model = llama_cy.Model(sys.argv[3], n_gpu_layers=0)
    model.close()
    return model

def closed_context():
    context = model.context(n_ctx=64, n_threads=1)
    context.decode([1])
    context.close()
    return context

def closed(thing):
    thing.close()
    return thing

def member(gone):
    sampler = llama_cy.Sampler.dist(1)
    chain = llama_cy.SamplerChain(sampler)
    # Without its chain the sampler is freed; with it, it is in use elsewhere.
    members.append(chain)
    if gone:
        chain.close()
    return sampler

members = []
adapter_path = sys.argv[4]
saved = context.state.get()
"""

CLOSED = {
    "Model": "closed_model()",
    "Context": "closed_context()",
    "Memory": "closed_context().memory",
    "State": "closed_context().state",
    "LoraAdapter": "closed(model.load_adapter(adapter_path))",
    "Batch": "closed(llama_cy.Batch(2))",
    "BatchExt": "closed(llama_cy.BatchExt(context))",
    "Sampler": "closed(llama_cy.Sampler.dist(1))",
    "Sampler in a chain": "member(False)",
    "Sampler in a closed chain": "member(True)",
    "SamplerChain": "closed(llama_cy.sampling())",
}
# Arguments by method; one that is missing here is called without any.
ARGUMENTS = {
    "Model.chat_template": "",
    "Model.context": "n_ctx=64",
    "Model.embed": "'a'",
    "Model.rerank": "'a', ['b']",
    "Model.save": "'/nowhere/model.gguf'",
    "Model.load_adapter": "'/nowhere/lora.gguf'",
    # What it says it says when it is awaited.
    "Context.acomplete": "[1]).send(None",
    "Context.agenerate": "[1]",
    "Context.astream": "[1]",
    "Context.attach": "llama_cy.Threadpool(1)",
    "Context.complete": "[1]",
    "Context.decode": "[1]",
    "Context.encode": "[1]",
    "Context.generate": "[1]",
    "Context.set_abort_callback": "None",
    "Context.set_adapters": "None",
    "Context.set_causal_attn": "False",
    "Context.set_control_vectors": "None",
    "Context.set_embeddings": "True",
    "Context.set_n_threads": "1",
    "Context.stream": "[1]",
    "LoraAdapter.meta_val_str": "'general.type'",
    "Memory.seq_add": "0, 0, -1, 1",
    "Memory.seq_cp": "0, 0",
    "Memory.seq_div": "0, 0, -1, 2",
    "Memory.seq_keep": "0",
    "Memory.seq_rm": "0",
    "Context.restore": "context.snapshot()",
    "Model.meta_val_str": "'general.type'",
    "State.give": "context.snapshot()",
    "State.load": "'/nowhere/state'",
    "State.load_session": "sys.argv[3]",
    "State.save_session": "'/nowhere/state'",
    "State.save": "'/nowhere/state'",
    "State.set": "saved",
    "Batch.add": "1, 0",
    "Batch.extend": "[1], [0]",
    "BatchExt.add": "0",
    "BatchExt.add_embd": "0, [0.0] * 64",
    "BatchExt.add_seq": "0, 0",
    "BatchExt.add_token": "0, 1",
    "BatchExt.set_embd_state": "0, [0.0] * 64",
    "BatchExt.set_embd_token": "0, [0.0] * 64",
    "BatchExt.set_output_embd": "0, True",
    "BatchExt.set_output_logits": "0, True",
    "BatchExt.set_pos": "0, 0",
    "Context.process": "llama_cy.BatchExt(context)",
    "Context.logprobs": "[1, 2]",
    "Context.set_sampler": "0, None",
    "Sampler.accept": "1",
    "Sampler.apply": "llama_cy.Candidates([1.0, 2.0])",
    "Sampler.copy": "llama_cy.Sampler.dist(2)",
    "Sampler.sample": "context",
    "Sampler.sample_logits": "context.logits()",
    "SamplerChain.accept": "1",
    "SamplerChain.apply": "llama_cy.Candidates([1.0, 2.0])",
    "SamplerChain.add": "llama_cy.Sampler.greedy()",
    "SamplerChain.copy": "llama_cy.sampling()",
    "SamplerChain.get": "0",
    "SamplerChain.remove": "0",
    "SamplerChain.sample": "context",
    "SamplerChain.sample_logits": "context.logits()",
}
# What goes on working: the question itself, what was noted at creation, and making another.
MAKERS = (
    "from_arrays",
    "from_buffer",
    "init_from_user",
    "load_async",
    *(name for name, kind in vars(llama_cy.Sampler).items() if isinstance(kind, staticmethod)),
)
WORKS = {
    "Model": {"path", "vocab_only"},
    "Context": {"model", "n_batch", "n_ctx", "n_ctx_seq", "n_rs_seq", "n_seq_max", "n_ubatch", "n_vocab"},
    "Memory": set(),
    "State": set(),
    "LoraAdapter": {"model", "path"},
    "Batch": {"n_tokens_max", "n_seq_max"},
    "BatchExt": {"n_tokens_max", "n_seq_max", "n_pos_per_embd"},
    "Sampler": set(),
    "SamplerChain": set(),
}
ALWAYS = {"close", "closed", *MAKERS}
# Views that say at their first use that the context is closed.
VIEWS = {"Context.memory", "Context.state"}
PROTOCOL = {"__len__": "len({})", "__iter__": "iter({})", "__next__": "next({})", "__enter__": "{}.__enter__()"}


def uses() -> dict[str, str]:
    """Name and source of each use of each closed object that must raise."""
    found = {}
    for what, source in CLOSED.items():
        name = what.split()[0]
        cls = getattr(llama_cy, name)
        for attribute in dir(cls):
            if attribute in PROTOCOL:
                found[f"{what}.{attribute}"] = PROTOCOL[attribute].format(source)
            elif attribute.startswith("_") or attribute in ALWAYS | WORKS[name]:
                continue
            elif callable(getattr(cls, attribute)):
                arguments = ARGUMENTS.get(f"{name}.{attribute}", "")
                found[f"{what}.{attribute}"] = f"{source}.{attribute}({arguments})"
            elif f"{name}.{attribute}" not in VIEWS:
                found[f"{what}.{attribute}"] = f"{source}.{attribute}"
    return found


def harmless() -> dict[str, str]:
    """Name and source of each use of each closed object that must not raise."""
    found: dict[str, str] = {}
    for what, source in CLOSED.items():
        name = what.split()[0]
        attributes = [*sorted(WORKS[name]), *(["closed"] if hasattr(getattr(llama_cy, name), "closed") else [])]
        found |= {f"{what}.{attribute}": f"{source}.{attribute}" for attribute in attributes}
        found[f"repr {what}"] = f"repr({source})"
        found[f"str {what}"] = f"str({source})"
        found[f"hash {what}"] = f"hash({source}) and 0"
        if hasattr(getattr(llama_cy, name), "closed"):
            found[f"bool {what}"] = f"bool({source})"
            found[f"close {what}"] = f"{source}.close()"
    return found


# A sampler in a chain still has its name and its seed.
SHOWN = {"Sampler in a chain.name": "member(False).name", "Sampler in a chain.seed": "member(False).seed"}
USES = {name: source for name, source in uses().items() if name not in SHOWN}
HARMLESS = harmless() | SHOWN


@pytest.fixture(scope="module")
def came_to(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    lora = write_lora(tmp_path_factory.mktemp("lora") / "lora.gguf", random_lora({"blk.0.attn_q.weight": (64, 64)}))
    return outcomes(SETUP, USES | HARMLESS, tiny_path, lora)


@pytest.mark.parametrize("use", USES)
def test_raises(came_to: dict[str, Outcome], use: str) -> None:
    assert came_to[use].raised[:1] == ("ClosedError",), came_to[use]
    assert "closed" in came_to[use].text or "moved into a chain" in came_to[use].text


@pytest.mark.parametrize("use", HARMLESS)
def test_does_not_raise(came_to: dict[str, Outcome], use: str) -> None:
    assert came_to[use].raised == (), came_to[use]
    if use.startswith("bool "):
        assert came_to[use].text == "False"
    if use.endswith(".closed"):
        assert came_to[use].text == "True"
    if use.startswith("repr ") and use != "repr Sampler in a chain":
        assert came_to[use].text.strip("'\"").rstrip(">").endswith("closed"), came_to[use]


@contextmanager
def loop_of(model: llama_cy.Model, method: str) -> Iterator[Any]:
    with model.context(n_ctx=64, n_threads=1) as context:
        yield getattr(context, method)([1, 2], llama_cy.Sampler.greedy(), max_tokens=9, ignore_eog=True)


@pytest.mark.parametrize("method", ["generate", "stream"])
class TestLoop:
    """A closed loop ends as a closed generator does; what it made stays readable."""

    def test_iteration_stops(self, tiny: llama_cy.Model, method: str) -> None:
        with loop_of(tiny, method) as loop:
            next(loop)
            loop.close()
            loop.close()
            assert list(loop) == []
            with pytest.raises(StopIteration):
                next(loop)
            assert loop.finish_reason == "cancelled"
            assert len(loop.tokens) >= 1
            assert loop.timings.tokens == len(loop.tokens)
            assert "cancelled" in repr(loop)

    def test_reason_of_a_finished_one_stays(self, tiny: llama_cy.Model, method: str) -> None:
        with loop_of(tiny, method) as loop:
            list(loop)
            loop.close()
            assert loop.finish_reason == "length"

    def test_context_closed_under_it(self, tiny: llama_cy.Model, method: str) -> None:
        with loop_of(tiny, method) as loop:
            next(loop)
            getattr(loop, "loop", loop).context.close()
            with pytest.raises(llama_cy.ClosedError, match="context is closed"):
                next(loop)
            loop.close()
            assert loop.finish_reason == "cancelled"

    def test_sampler_closed_under_it(self, tiny: llama_cy.Model, method: str) -> None:
        with loop_of(tiny, method) as loop:
            next(loop)
            getattr(loop, "loop", loop).sampler.close()
            with pytest.raises(llama_cy.ClosedError, match="sampler is closed"):
                next(loop)

    def test_with(self, tiny: llama_cy.Model, method: str) -> None:
        with loop_of(tiny, method) as loop:
            with loop as entered:
                assert entered is loop
                next(loop)
            assert list(loop) == []


def test_view_outlives_names(tiny: llama_cy.Model) -> None:
    context = tiny.context(n_ctx=64, n_threads=1)
    context.decode([1, 2])
    want = context.logits(-1)
    view = context.logits_view(-1)
    del context
    assert (view == want).all()


def test_view_holds_the_context_still(tiny: llama_cy.Model) -> None:
    with tiny.context(n_ctx=64, n_threads=1) as context:
        saved = context.state.get()
        context.decode([1, 2])
        view = context.logits_view(-1)
        part = view[3:5]
        del view
        for use in (
            lambda: context.decode([1]),
            lambda: context.complete([1]),
            lambda: next(context.generate([1])),
            lambda: context.state.set(saved),
            context.close,
        ):
            with pytest.raises(BufferError, match="1 views"):
                use()
        assert not context.closed
        del part
        context.decode([1])


def test_expired_row_shows_nothing(tiny: llama_cy.Model) -> None:
    with tiny.context(n_ctx=64, n_threads=1) as context:
        context.decode([1, 2])
        view: Any = context.logits_view(-1)
        row = view.base.obj
        first, second = memoryview(row), memoryview(row)
        del view
        first.release()
        assert second[0] == context.logits(-1)[0]
        second.release()
        context.decode([3])
        with pytest.raises(BufferError, match="gone"):
            memoryview(row)
