"""Saved and restored memory: the same bits, or an error that leaves everything as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.oracle import relative_error

import llama_cy

# As in conformance/test_logits.py: keys and values of 16 bits.
ROUNDING = 2e-2
PARAMS: dict[str, Any] = {"n_ctx": 512, "n_batch": 64, "n_seq_max": 2, "n_threads": 1}

tokens = st.lists(st.integers(0, 255), min_size=1, max_size=40)


@pytest.fixture(scope="module", params=["spm", "gemma3", "mamba", "jamba", "lfm2"])
def contexts(
    request: pytest.FixtureRequest, models: dict[str, llama_cy.Model]
) -> Iterator[tuple[llama_cy.Context, llama_cy.Context]]:
    """Give two contexts of one model and the same parameters."""
    with ExitStack() as stack:
        model = models[request.param]
        yield stack.enter_context(model.context(**PARAMS)), stack.enter_context(model.context(**PARAMS))


def append(context: llama_cy.Context, seq_id: int, tokens: list[int]) -> None:
    first = context.memory.seq_pos_max(seq_id) + 1
    batch = llama_cy.Batch(len(tokens))
    for i, token in enumerate(tokens):
        batch.add(token, first + i, (seq_id,), logits=i == len(tokens) - 1)
    context.decode(batch)


def fill(context: llama_cy.Context, held: list[list[int]]) -> None:
    context.memory.clear()
    for seq_id, sequence in enumerate(held):
        append(context, seq_id, sequence)


def positions(context: llama_cy.Context) -> list[tuple[int, int]]:
    return [(context.memory.seq_pos_min(seq_id), context.memory.seq_pos_max(seq_id)) for seq_id in range(2)]


held_sequences = st.lists(tokens, min_size=1, max_size=2)


@given(held=held_sequences, other=held_sequences, rest=tokens)
def test_logits_after_a_restore_are_the_same_bits(
    contexts: tuple[llama_cy.Context, llama_cy.Context],
    held: list[list[int]],
    other: list[list[int]],
    rest: list[int],
) -> None:
    first, second = contexts
    fill(first, held)
    blob = first.state.get()
    assert first.state.get() == blob
    where = positions(first)
    append(first, 0, rest)
    want = first.logits()
    for context in (second, first):
        # Over something else, as a restore is.
        fill(context, other)
        context.state.set(blob)
        assert positions(context) == where
        append(context, 0, rest)
        if context.model.n_swa:
            # Entries that fell out of the window are taken in another order.
            assert relative_error(context.logits(), want) < ROUNDING
        else:
            assert np.array_equal(context.logits(), want)


@given(held=held_sequences)
def test_outputs_of_before_are_refused(
    contexts: tuple[llama_cy.Context, llama_cy.Context], held: list[list[int]]
) -> None:
    context = contexts[0]
    fill(context, held)
    context.state.set(context.state.get())
    for use in (
        context.logits,
        context.logits_view,
        lambda: llama_cy.Sampler.greedy().sample(context),
        lambda: next(context.generate(None)),
    ):
        with pytest.raises(ValueError, match="decode"):
            use()
    append(context, 0, [1])
    context.logits()


@given(held=held_sequences, data=st.data())
def test_damage_is_found(
    contexts: tuple[llama_cy.Context, llama_cy.Context], held: list[list[int]], data: st.DataObject
) -> None:
    first, second = contexts
    fill(first, held)
    good = first.state.get()
    bad = bytearray(good)
    kind = data.draw(st.sampled_from(["flip", "cut", "extend", "swap"]))
    at = data.draw(st.integers(0, len(good) - 1))
    if kind == "flip":
        bad[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del bad[at:]
    elif kind == "extend":
        bad += data.draw(st.binary(min_size=1, max_size=9))
    else:
        bad[at:] = bad[:at][::-1] + bad[at:]
        bad = bad if bytes(bad) != good else bytearray(b"x")
    fill(second, [[9, 8, 7]])
    where = positions(second)
    with pytest.raises(llama_cy.StateError):
        second.state.set(bad)
    assert positions(second) == where
    second.state.set(bytearray(good))


@given(n=st.integers(1, 60))
def test_size_grows_with_tokens(contexts: tuple[llama_cy.Context, llama_cy.Context], n: int) -> None:
    context = contexts[0]
    context.memory.clear()
    empty = len(context.state.get())
    append(context, 0, [1] * n)
    size = len(context.state.get()) - empty
    append(context, 0, [1])
    more = len(context.state.get()) - empty
    assert 0 < size <= more
    if not (context.model.is_recurrent or context.model.is_hybrid):
        assert size * (n + 1) == pytest.approx(more * n, rel=0.5)


@given(held=held_sequences)
def test_files(
    contexts: tuple[llama_cy.Context, llama_cy.Context], held: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    first, second = contexts
    path: Path = tmp_path_factory.mktemp("state") / "state.bin"
    fill(first, held)
    first.state.save(path)
    assert path.read_bytes() == first.state.get()
    assert [entry.name for entry in path.parent.iterdir()] == ["state.bin"]
    second.state.load(str(path))
    assert positions(second) == positions(first)


@pytest.mark.parametrize(
    "params",
    [{"n_ctx": 1024}, {"n_seq_max": 1}, {"type_k": "f32"}, {"kv_unified": True}],
    ids=lambda params: next(iter(params)),
)
def test_state_of_other_parameters(models: dict[str, llama_cy.Model], params: dict[str, Any]) -> None:
    model = models["spm"]
    with model.context(**PARAMS) as first, model.context(**PARAMS | params) as second:
        append(first, 0, [1, 2, 3])
        with pytest.raises(llama_cy.StateError, match="another model, or a context with other parameters"):
            second.state.set(first.state.get())


def test_state_of_another_model(models: dict[str, llama_cy.Model]) -> None:
    with models["spm"].context(**PARAMS) as first, models["broken"].context(**PARAMS) as second:
        append(first, 0, [1, 2, 3])
        with pytest.raises(llama_cy.StateError, match="another model"):
            second.state.set(first.state.get())


class TestDeferred:
    """What llama.cpp puts off to the next decode is no part of a state."""

    def test_shift(self, models: dict[str, llama_cy.Model]) -> None:
        with models["spm"].context(**PARAMS) as first, models["spm"].context(**PARAMS) as second:
            append(first, 0, [1, 2, 3, 4, 5])
            saved = first.state.get()
            first.memory.seq_rm(0, 0, 2)
            first.memory.seq_add(0, 2, -1, -2)
            with pytest.raises(llama_cy.StateError, match="decode"):
                first.state.get()
            append(first, 0, [6])
            shifted = first.state.get()
            second.state.set(shifted)
            append(first, 0, [7])
            append(second, 0, [7])
            # The hole at the front is gone, so that sums run in another order.
            assert relative_error(first.logits(), second.logits()) < ROUNDING
            # A restore or an empty memory leaves nothing to shift.
            first.memory.seq_add(0, 0, -1, 3)
            first.state.set(saved)
            assert first.state.get() == saved
            first.memory.seq_add(0, 0, -1, 3)
            first.memory.clear()
            first.state.get()

    def test_copy(self, models: dict[str, llama_cy.Model]) -> None:
        with models["spm"].context(**PARAMS) as context:
            append(context, 0, [1, 2, 3])
            saved = context.state.get()
            context.memory.seq_cp(0, 1)
            for use in (context.state.get, lambda: context.state.set(saved)):
                with pytest.raises(llama_cy.StateError, match="decode"):
                    use()
            append(context, 1, [4])
            copied = context.state.get()
            append(context, 1, [5])
            want = context.logits()
            context.state.set(copied)
            append(context, 1, [5])
            assert np.array_equal(context.logits(), want)

    def test_copy_in_one_memory(self, models: dict[str, llama_cy.Model]) -> None:
        with models["spm"].context(kv_unified=True, **PARAMS) as context:
            append(context, 0, [1, 2, 3])
            context.memory.seq_cp(0, 1)
            saved = context.state.get()
            append(context, 1, [4])
            want = context.logits()
            context.state.set(saved)
            append(context, 1, [4])
            assert np.array_equal(context.logits(), want)

    def test_recurrent_memory_puts_nothing_off(self, models: dict[str, llama_cy.Model]) -> None:
        with models["mamba"].context(**PARAMS) as context:
            append(context, 0, [1, 2, 3])
            context.memory.seq_cp(0, 1)
            saved = context.state.get()
            append(context, 1, [4])
            want = context.logits()
            context.state.set(saved)
            append(context, 1, [4])
            assert np.array_equal(context.logits(), want)

    def test_loop_that_goes_on_applies_it(self, models: dict[str, llama_cy.Model]) -> None:
        with models["spm"].context(**PARAMS) as context:
            append(context, 0, [1, 2, 3])
            context.memory.seq_add(0, 0, -1, 1)
            assert len(list(context.generate(None, llama_cy.Sampler.greedy(), max_tokens=2, ignore_eog=True))) == 2
            context.state.get()
