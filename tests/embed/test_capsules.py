"""Models, vocabularies, contexts and samplers cross into C++ and back, and each is freed once, by its owner."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.child import run
from support.downstream import compile_extension, load_extension

import llama_cy
from llama_cy import from_capsule, to_capsule

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the C++ side."""
    return compile_extension(HERE / "capsules.cpp", tmp_path_factory.mktemp("capsules"))


@pytest.fixture(scope="module")
def native(library: Path) -> ModuleType:
    """Import the C++ side."""
    return load_extension(library)


def greedy(model: llama_cy.Model, token: int, n: int) -> list[int]:
    with model.context(n_ctx=64, n_threads=1) as context:
        return list(context.generate([token], llama_cy.sampling(temperature=0), max_tokens=n, ignore_eog=True))


def test_a_model_is_shared_with_c(native: ModuleType, tiny_path: Path) -> None:
    model = llama_cy.Model(tiny_path)
    vocab = model.vocab
    n, bos = len(vocab), vocab.bos
    shared, words = to_capsule(model), to_capsule(vocab)
    model.close()
    del model, vocab
    assert native.n_tokens(shared) == n
    assert native.bos(words) == bos
    del shared
    assert llama_cy.live_objects()["model"] >= 1
    assert native.bos(words) == bos


def test_a_model_of_c_is_used_until_nobody_needs_it(native: ModuleType, tiny: llama_cy.Model, tiny_path: Path) -> None:
    before = native.count_freed()
    model: Any = from_capsule(native.make_model(str(tiny_path)))
    assert len(model.vocab) == len(tiny.vocab)
    assert model.n_params == tiny.n_params
    assert greedy(model, 5, 20) == greedy(tiny, 5, 20)
    context = model.context(n_ctx=64, n_threads=1)
    model.close()
    del model
    gc.collect()
    assert native.count_freed() == before
    context.decode([1, 2, 3])
    context.close()
    del context
    assert native.count_freed() == before + 1


def test_a_model_of_c_in_a_cycle_outlives_its_contexts(native: ModuleType, tiny_path: Path) -> None:
    before = native.count_freed()
    model: Any = from_capsule(native.make_model(str(tiny_path)))
    cycle: list[Any] = [model, model.context(n_ctx=64, n_threads=1)]
    cycle[1].decode([1])
    cycle.append(cycle)
    del cycle, model
    gc.collect()
    assert native.count_freed() == before + 1


def test_one_capsule_serves_several_models(native: ModuleType, tiny_path: Path) -> None:
    before = native.count_freed()
    capsule = native.make_model(str(tiny_path))
    first, second = from_capsule(capsule), from_capsule(capsule)
    del capsule
    first.close()
    assert native.count_freed() == before
    second.close()
    del first, second
    assert native.count_freed() == before + 1


def test_our_own_capsule_gives_the_same_weights(native: ModuleType, tiny: llama_cy.Model) -> None:
    before = llama_cy.live_objects()["model"]
    twin: Any = from_capsule(to_capsule(tiny))
    assert llama_cy.live_objects()["model"] == before
    assert greedy(twin, 5, 10) == greedy(tiny, 5, 10)
    twin.close()
    assert len(tiny.vocab) > 0


def test_a_vocabulary_alone_gives_no_context(native: ModuleType, tiny_path: Path) -> None:
    model: Any = from_capsule(native.make_model(str(tiny_path), True))
    assert len(model.vocab.tokenize("a")) > 0
    with pytest.raises(llama_cy.ContextError, match="vocab_only"):
        model.context()


def test_a_lent_context_is_used_by_c_alone(native: ModuleType, tiny: llama_cy.Model) -> None:
    with tiny.context(n_ctx=64, n_threads=1) as context:
        context.decode([1, 2, 3])
        lease = to_capsule(context)
        uses: list[Callable[[], object]] = [lambda: context.decode([1]), context.close, lambda: to_capsule(context)]
        for use in uses:
            with pytest.raises(llama_cy.ContextBusyError):
                use()
        assert native.greedy(lease, 5, 20) == greedy(tiny, 5, 20)
        del lease
        # What was computed meanwhile is not taken for ours.
        with pytest.raises(ValueError, match="was not decoded last"):
            context.logits(-1)
        done = context.complete([1, 2, 3], llama_cy.sampling(temperature=0), max_tokens=5, ignore_eog=True)
        assert done.reused == 0
        assert list(done.tokens) == continuation(tiny, [1, 2, 3], 5)


def continuation(model: llama_cy.Model, tokens: list[int], n: int) -> list[int]:
    with model.context(n_ctx=64, n_threads=1) as context:
        return list(context.generate(tokens, llama_cy.sampling(temperature=0), max_tokens=n, ignore_eog=True))


def test_a_context_outlives_its_name_while_it_is_lent(native: ModuleType, tiny: llama_cy.Model) -> None:
    lease = to_capsule(tiny.context(n_ctx=64, n_threads=1))
    gc.collect()
    assert native.greedy(lease, 5, 20) == greedy(tiny, 5, 20)


def test_a_view_of_logits_keeps_a_context_here(native: ModuleType, tiny: llama_cy.Model) -> None:
    with tiny.context(n_ctx=64, n_threads=1) as context:
        context.decode([1])
        view = context.logits_view()
        with pytest.raises(BufferError, match="lend the context"):
            to_capsule(context)
        del view
        to_capsule(context)
        context.decode([1])


def test_a_sampler_in_c_is_a_step_of_a_chain(native: ModuleType, tiny: llama_cy.Model) -> None:
    before = native.count_freed()
    sampler: Any = from_capsule(native.make_sampler())
    assert "second" in repr(sampler)
    with llama_cy.SamplerChain(sampler) as chain, tiny.context(n_ctx=64, n_threads=1) as context:
        context.decode([5])
        assert chain.sample(context, -1) == context.logits(-1).argsort()[-2]
        assert native.count_freed() == before
    assert native.count_freed() == before + 1


def test_a_sampler_that_nobody_takes_stays_with_its_capsule(native: ModuleType) -> None:
    before = native.count_freed()
    capsule = native.make_sampler()
    assert native.sampler_name(capsule) == "second"
    del capsule
    assert native.count_freed() == before + 1


def test_a_lent_sampler_is_used_by_c_alone(native: ModuleType) -> None:
    sampler = llama_cy.Sampler.top_k(40)
    lease = to_capsule(sampler)
    assert native.sampler_name(lease) == "top-k"
    with pytest.raises(llama_cy.ContextBusyError):
        sampler.close()
    with pytest.raises(ValueError, match="lives here"):
        from_capsule(lease)
    del lease
    sampler.close()


def test_an_empty_capsule_is_refused(native: ModuleType) -> None:
    capsule = native.make_sampler()
    from_capsule(capsule).close()
    with pytest.raises(ValueError, match="taken before"):
        from_capsule(capsule)
    with pytest.raises(ValueError, match="incorrect name"):
        native.sampler_name(capsule)


def test_what_is_no_such_capsule_is_refused(native: ModuleType, tiny: llama_cy.Model) -> None:
    for thing, name in ((5, "int"), (native.other_capsule(None), "without a name"),
                        (native.other_capsule(1), "somebody.something"),
                        (to_capsule(tiny.vocab), "llama_cy.llama_vocab")):  # fmt: skip
        with pytest.raises(TypeError, match=name):
            from_capsule(thing)
    with pytest.raises(TypeError, match="make one of the model"):
        from_capsule(to_capsule(tiny.context(n_ctx=64, n_threads=1)))
    with pytest.raises(TypeError, match="not list"):
        to_capsule([])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="PyCapsule_GetPointer"):
        native.n_tokens(to_capsule(tiny.vocab))


def test_what_is_closed_is_refused(tiny_path: Path) -> None:
    model = llama_cy.Model(tiny_path)
    context, sampler = model.context(n_ctx=64, n_threads=1), llama_cy.Sampler.greedy()
    for thing in (context, sampler, model):
        thing.close()
        with pytest.raises(llama_cy.ClosedError):
            to_capsule(thing)


EXIT = """
import sys
sys.path.insert(0, sys.argv[1])
import capsules, llama_cy
model = llama_cy.from_capsule(capsules.make_model(sys.argv[2]))
context = model.context(n_ctx=64, n_threads=1)
context.decode([1])
lent, words = llama_cy.to_capsule(model), llama_cy.to_capsule(model.vocab)
chain = llama_cy.SamplerChain(llama_cy.from_capsule(capsules.make_sampler()))
{end}
"""


ENDS = ["", "lease = llama_cy.to_capsule(context)", "cycle = [model, context]; cycle.append(cycle)"]


@pytest.mark.parametrize("end", ENDS, ids=["alive", "lent", "cycle"])
def test_the_interpreter_ends_well_with_capsules_alive(library: Path, tiny_path: Path, end: str) -> None:
    child = run(EXIT.replace("{end}", end), library.parent, tiny_path)
    assert (child.code, child.stderr) == (0, "")
