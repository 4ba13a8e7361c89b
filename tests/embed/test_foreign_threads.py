"""Python callbacks that C++ reaches from threads of its own: they work there, and what they raise is told once."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.downstream import compile_extension, load_extension

import llama_cy
from llama_cy import Candidates, Sampler, SamplerChain, to_capsule

HERE = Path(__file__).parent
ABORTED = 2


class OddError(Exception):
    """Nothing else raises it."""


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Compile and import the C++ side."""
    built = compile_extension(HERE / "foreign_threads.cpp", tmp_path_factory.mktemp("foreign"), "-pthread")
    return load_extension(built)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """Collect what is handed to ``sys.unraisablehook``."""
    types: list[type] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: types.append(unraisable.exc_type))
    return types


class Picky:
    """Choose the last candidate, except when it is told to raise."""

    raises = False
    calls = 0

    def apply(self, candidates: Candidates) -> None:
        self.calls += 1
        if self.raises:
            raise OddError
        candidates.selected = len(candidates.logits) - 1


@pytest.mark.parametrize("here", [False, True], ids=["thread of C", "this thread"])
def test_a_sampler_raises_and_nothing_is_left(native: ModuleType, told: list[type], here: bool) -> None:
    picky = Picky()
    sampler = Sampler.init(picky)
    lease = to_capsule(sampler)
    assert native.choose(lease, 1, here) == 4
    picky.raises = True
    assert native.choose(lease, 3, here) == "a Python sampler raised"
    del lease
    # In a thread where somebody of ours waits, the first one stands for those that follow from it.
    assert told == [OddError] * (1 if here else 3)
    picky.raises = False
    again = to_capsule(sampler)
    assert native.choose(again, 1, here) == 4
    del again
    assert sampler.name == "Picky"
    assert len(told) == (1 if here else 3)
    sampler.close()


def test_a_sampler_within_a_lent_chain(native: ModuleType, told: list[type], tiny: llama_cy.Model) -> None:
    picky = Picky()
    with SamplerChain(Sampler.init(picky)) as chain, tiny.context(n_ctx=64, n_threads=1) as context:
        lease = to_capsule(chain)
        picky.raises = True
        assert native.choose(lease, 1) == "a Python sampler raised"
        del lease
        assert told == [OddError]
        # Python's own use of it raises, as ever.
        context.decode([5])
        with pytest.raises(OddError):
            chain.sample(context, -1)
        picky.raises = False
        assert chain.sample(context, -1) == len(tiny.vocab) - 1
    assert told == [OddError]


@pytest.mark.parametrize("kind", ["eval", "abort"])
def test_a_callback_ends_the_decode_of_another_thread(
    native: ModuleType, told: list[type], tiny: llama_cy.Model, kind: str
) -> None:
    raises = False

    def look(*_: Any) -> bool:
        if raises:
            raise OddError
        return kind == "eval"

    more: dict[str, Any] = {"eval_callback": look} if kind == "eval" else {}
    with tiny.context(n_ctx=256, n_threads=1, **more) as context:
        if kind == "abort":
            context.set_abort_callback(look, interval=0)
        wanted = list(context.generate([5], llama_cy.sampling(temperature=0), max_tokens=5, ignore_eog=True))
        lease = to_capsule(context)
        assert native.decode(lease, 8) == 0
        raises = True
        code = native.decode(lease, 40)
        assert told == []
        del lease
        assert told == [OddError]
        assert code == ABORTED or kind == "eval"
        raises = False
        context.memory.clear()
        # The context is Python's again, and what ended the work of C does not end this.
        assert list(context.generate([5], llama_cy.sampling(temperature=0), max_tokens=5, ignore_eog=True)) == wanted
        raises = True
        with pytest.raises(OddError):
            context.decode([1, 2])
    assert told == [OddError]
