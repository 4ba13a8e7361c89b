"""Snapshots: what is decoded after a restore is what would have been decoded, whatever happened in between."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.llama_models import write_llama
from support.oracle import relative_error

import llama_cy

ROUNDING = 2e-2
PARAMS: dict[str, Any] = {"n_ctx": 512, "n_batch": 64, "n_seq_max": 3, "n_threads": 1}
KINDS = ["spm", "gemma3", "mamba", "jamba", "lfm2"]

tokens = st.lists(st.integers(0, 255), min_size=1, max_size=30)
held_sequences = st.lists(tokens, min_size=1, max_size=3)


@pytest.fixture(scope="module", params=KINDS)
def contexts(
    request: pytest.FixtureRequest, models: dict[str, llama_cy.Model]
) -> Iterator[tuple[llama_cy.Context, llama_cy.Context]]:
    """Give two contexts of one model and the same parameters."""
    with ExitStack() as stack:
        model = models[request.param]
        yield stack.enter_context(model.context(**PARAMS)), stack.enter_context(model.context(**PARAMS))


def append(context: llama_cy.Context, seq_id: int, tokens: list[int]) -> None:
    first = context.memory.seq_pos_max(seq_id) + 1
    n = len(tokens)
    context.decode(llama_cy.Batch.from_arrays(tokens, np.arange(first, first + n), seq_id, np.arange(n) == n - 1))


def fill(context: llama_cy.Context, held: list[list[int]]) -> None:
    context.memory.clear()
    for seq_id, sequence in enumerate(held):
        append(context, seq_id, sequence)


def ends(context: llama_cy.Context) -> list[int]:
    return [context.memory.seq_pos_max(seq_id) for seq_id in range(context.n_seq_max)]


def same(context: llama_cy.Context, got: Any, want: Any) -> bool:
    # Entries that fell out of a window are taken in another order.
    return relative_error(got, want) < ROUNDING if context.model.n_swa else np.array_equal(got, want)


@given(held=held_sequences, other=held_sequences, rest=tokens, by_bytes=st.booleans())
def test_whole(
    contexts: tuple[llama_cy.Context, llama_cy.Context],
    held: list[list[int]],
    other: list[list[int]],
    rest: list[int],
    by_bytes: bool,
) -> None:
    first, second = contexts
    fill(first, held)
    snapshot = first.snapshot()
    assert snapshot.seq_id is None
    assert snapshot.positions is None
    where = ends(first)
    append(first, 0, rest)
    want = first.logits()
    if by_bytes:
        snapshot = llama_cy.Snapshot.from_bytes(bytes(snapshot))
    for context in (second, first):
        fill(context, other)
        context.restore(snapshot)
        assert ends(context) == where
        append(context, 0, rest)
        assert same(context, context.logits(), want)


@given(held=held_sequences, other=held_sequences, rest=tokens, places=st.tuples(*[st.integers(0, 2)] * 2))
def test_one_sequence(
    contexts: tuple[llama_cy.Context, llama_cy.Context],
    held: list[list[int]],
    other: list[list[int]],
    rest: list[int],
    places: tuple[int, int],
) -> None:
    first, second = contexts
    source, target = places[0] % len(held), places[1]
    fill(first, held)
    snapshot = first.snapshot(source)
    assert (snapshot.seq_id, snapshot.partial, snapshot.on_device) == (source, False, False)
    assert snapshot.positions is not None
    assert snapshot.positions.stop == len(held[source])
    append(first, source, rest)
    want = first.logits()
    for context in (second, first):
        fill(context, other)
        before = ends(context)
        context.restore(snapshot, target)
        assert ends(context) == [*before[:target], len(held[source]) - 1, *before[target + 1 :]]
        append(context, target, rest)
        assert same(context, context.logits(), want)


@given(held=held_sequences, rest=tokens, other=tokens, on_device=st.booleans())
def test_partial_rolls_back_what_else_can_not(
    contexts: tuple[llama_cy.Context, llama_cy.Context],
    held: list[list[int]],
    rest: list[int],
    other: list[int],
    on_device: bool,
) -> None:
    context = contexts[0]
    fill(context, held)
    whole, part = context.snapshot(0), context.snapshot(0, partial=True, on_device=on_device)
    assert part.partial
    if context.model.n_swa or context.model.is_hybrid:
        assert part.nbytes < whole.nbytes
    where = ends(context)
    append(context, 0, rest)
    want = context.logits()
    context.restore(part)
    assert ends(context) == where
    for way in (other, rest):
        append(context, 0, way)
        if way is other:
            context.restore(part)
    assert same(context, context.logits(), want)


@given(held=held_sequences, rest=tokens, other=tokens)
def test_on_device(
    contexts: tuple[llama_cy.Context, llama_cy.Context], held: list[list[int]], rest: list[int], other: list[int]
) -> None:
    context, foreign = contexts
    fill(context, held)
    snapshot = context.snapshot(0, on_device=True)
    where = ends(context)
    append(context, 0, rest)
    want = context.logits()
    for _ in range(2):
        context.memory.seq_rm(0)
        append(context, 0, other)
        context.restore(snapshot)
        assert ends(context) == where
        append(context, 0, rest)
        assert same(context, context.logits(), want)
    if snapshot.on_device:
        assert repr(snapshot).count("on the device")
        for use in (lambda: bytes(snapshot), lambda: pickle.dumps(snapshot), lambda: foreign.restore(snapshot)):
            with pytest.raises(llama_cy.StateError, match="device"):
                use()


def test_a_later_one_on_the_device_takes_the_place(models: dict[str, llama_cy.Model]) -> None:
    for kind in KINDS:
        with models[kind].context(**PARAMS) as context:
            append(context, 0, [1, 2, 3, 4])
            first = context.snapshot(0, on_device=True)
            assert first.on_device
            assert first in {first}
            append(context, 0, [5])
            second = context.snapshot(0, on_device=True)
            assert first != second
            if second.on_device:
                with pytest.raises(llama_cy.StateError, match="later one"):
                    context.restore(first)
            context.restore(second)
            # As many bytes as before in other pieces: llama.cpp's buffer would be too small.
            context.memory.clear()
            for i in range(5):
                append(context, 0, [i])
                append(context, 1, [i])
            again = context.snapshot(0, on_device=True)
            context.restore(again)
            assert context.memory.seq_pos_max(0) == 4


def test_pieces_on_the_device_in_one_memory(models: dict[str, llama_cy.Model]) -> None:
    with models["spm"].context(kv_unified=True, flash_attn_type="disabled", **PARAMS) as context:
        for round in range(6):
            context.memory.clear()
            for i in range(8):
                append(context, 0, [i])
                if round % 2:
                    append(context, 1, [i])
            snapshot = context.snapshot(0, on_device=True)
            assert snapshot.on_device == (round == 0)
            append(context, 0, [9])
            want = context.logits()
            context.restore(snapshot)
            append(context, 0, [9])
            assert relative_error(context.logits(), want) < ROUNDING


@given(held=held_sequences, seq_id=st.none() | st.just(0), partial=st.booleans())
def test_is_a_value(
    contexts: tuple[llama_cy.Context, llama_cy.Context],
    held: list[list[int]],
    seq_id: int | None,
    partial: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    context = contexts[0]
    fill(context, held)
    snapshot = context.snapshot(seq_id, partial=partial and seq_id is not None)
    path: Path = tmp_path_factory.mktemp("snapshot") / "kept"
    snapshot.save(path)
    copies = [
        llama_cy.Snapshot.load(str(path)),
        llama_cy.Snapshot.from_bytes(memoryview(snapshot)),
        pickle.loads(pickle.dumps(snapshot)),
        copy.deepcopy(snapshot),
    ]
    for other in copies:
        assert other == snapshot
        assert hash(other) == hash(snapshot)
        assert bytes(other) == bytes(snapshot) == path.read_bytes()
        assert (other.seq_id, other.partial) == (snapshot.seq_id, snapshot.partial)
        assert (other.positions, other.nbytes) == (snapshot.positions, snapshot.nbytes)
    assert len({snapshot, *copies}) == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["kept"]
    append(context, 0, [1])
    assert context.snapshot(seq_id) != snapshot
    assert snapshot != bytes(snapshot)
    with pytest.raises(TypeError):
        memoryview(snapshot)[0] = 1


@given(held=held_sequences, seq_id=st.none() | st.just(0), data=st.data())
def test_damage_is_found(
    contexts: tuple[llama_cy.Context, llama_cy.Context],
    held: list[list[int]],
    seq_id: int | None,
    data: st.DataObject,
) -> None:
    context = contexts[0]
    fill(context, held)
    good = bytes(context.snapshot(seq_id))
    bad = bytearray(good)
    at = data.draw(st.integers(0, len(good) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "extend"]))
    if kind == "flip":
        bad[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del bad[at:]
    else:
        bad += data.draw(st.binary(min_size=1, max_size=9))
    with pytest.raises(llama_cy.StateError):
        llama_cy.Snapshot.from_bytes(bad)
    assert bytes(llama_cy.Snapshot.from_bytes(good)) == good


def test_size_is_proportional_to_the_tokens(models: dict[str, llama_cy.Model]) -> None:
    for seq_id in (None, 0):
        with models["spm"].context(**PARAMS) as context:
            empty = context.snapshot(seq_id).nbytes
            append(context, 0, [1] * 10)
            ten = context.snapshot(seq_id).nbytes - empty
            append(context, 0, [1] * 30)
            assert context.snapshot(seq_id).nbytes - empty == pytest.approx(4 * ten, rel=0.05)


def test_branches(models: dict[str, llama_cy.Model]) -> None:
    """One prompt, several ways on from it, each as if there were no other."""
    for kind in KINDS:
        with models[kind].context(**PARAMS) as context:
            append(context, 0, [1, 2, 3, 4, 5])
            start = context.snapshot(0)
            want = []
            for way in (7, 8):
                append(context, 0, [way])
                want.append(context.logits())
                context.restore(start)
            context.restore(start, 1)
            context.restore(start, 2)
            for seq_id, way in ((1, 7), (2, 8)):
                append(context, seq_id, [way])
                assert same(context, context.logits(), want[seq_id - 1])


class TestTokens:
    PROMPT = (1, 5, 6, 7, 8, 9)

    def test_a_prompt_is_not_decoded_again(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64) as context, tiny.context(n_ctx=64) as other:
            context.decode(self.PROMPT)
            snapshot = pickle.loads(pickle.dumps(context.snapshot()))
            assert snapshot.tokens.tolist() == list(self.PROMPT)
            want = context.complete([*self.PROMPT, 4], llama_cy.Sampler.greedy(), max_tokens=5, ignore_eog=True)
            for user in (context, other):
                user.memory.clear()
                user.restore(snapshot)
                got = user.complete([*self.PROMPT, 4], llama_cy.Sampler.greedy(), max_tokens=5, ignore_eog=True)
                assert got.tokens == want.tokens
                assert got.reused == len(self.PROMPT)

    def test_logits_of_before_are_not_those_of_the_snapshot(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64) as context:
            options: dict[str, Any] = {"max_tokens": 3, "ignore_eog": True}
            want = context.complete(self.PROMPT, llama_cy.Sampler.greedy(), **options).tokens
            context.memory.clear()
            context.decode(self.PROMPT)
            snapshot = context.snapshot()
            other = context.complete([30, 31, 32, 33, 34, 35], llama_cy.Sampler.greedy(), max_tokens=0)
            assert other.reused == 0
            context.restore(snapshot)
            assert context.complete(self.PROMPT, llama_cy.Sampler.greedy(), **options).tokens == want

    def test_while_a_loop_runs(self, tiny: llama_cy.Model) -> None:
        """A loop may decode ahead; a snapshot holds what its caller has seen."""
        with tiny.context(n_ctx=64) as context, tiny.context(n_ctx=64) as fresh:
            loop = context.generate(self.PROMPT, llama_cy.Sampler.greedy(), ignore_eog=True)
            seen = [next(loop) for _ in range(4)]
            snapshot = context.snapshot()
            assert context.memory.seq_pos_max(0) == len(self.PROMPT) + len(seen) - 1
            fresh.decode([*self.PROMPT, *seen])
            fresh.decode([5])
            context.memory.clear()
            context.restore(snapshot)
            context.decode([5])
            assert relative_error(context.logits(), fresh.logits()) < ROUNDING

    def test_what_nobody_knows(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64, n_seq_max=2) as context:
            append(context, 0, [1, 2])
            assert context.snapshot().tokens is None
            context.memory.clear()
            context.decode(self.PROMPT)
            assert context.snapshot(1).tokens is None
            context.restore(context.snapshot(1))
            assert context.complete([*self.PROMPT, 4], max_tokens=0).reused == len(self.PROMPT)
            snapshot = context.snapshot(0)
            context.restore(snapshot, 1)
            context.memory.seq_rm(0)
            assert context.complete([*self.PROMPT, 4], max_tokens=0).reused == 0

    def test_partial_over_other_tokens(self, models: dict[str, llama_cy.Model]) -> None:
        with models["jamba"].context(n_ctx=64) as context:
            context.decode(self.PROMPT)
            part = context.snapshot(0, partial=True)
            context.decode([3, 4])
            context.restore(part)
            assert context.complete([*self.PROMPT, 4], max_tokens=0).reused == len(self.PROMPT)
            context.memory.clear()
            context.decode([9, *self.PROMPT])
            with pytest.raises(llama_cy.StateError, match="other tokens"):
                context.restore(part)
            context.memory.clear()
            with pytest.raises(llama_cy.StateError, match="must still hold"):
                context.restore(part)


class TestRefused:
    """What is refused leaves the context as it was."""

    @staticmethod
    def refused(context: llama_cy.Context, snapshot: llama_cy.Snapshot, match: str) -> None:
        context.decode([9, 8, 7])
        before = context.snapshot()
        assert before.tokens is not None
        with pytest.raises(llama_cy.StateError, match=match):
            context.restore(snapshot)
        assert context.snapshot() == before

    @pytest.mark.parametrize("seq_id", [None, 0])
    def test_of_another_model(self, models: dict[str, llama_cy.Model], tmp_path: Path, seq_id: int | None) -> None:
        path = write_llama(tmp_path / "other.gguf", metadata={"general.finetune": "stories"})
        with models["spm"].context(**PARAMS) as first:
            append(first, 0, [1, 2, 3])
            snapshot = first.snapshot(seq_id)
            with models["broken"].context(**PARAMS) as second:
                self.refused(second, snapshot, "another model")
            with llama_cy.Model(path) as model, model.context(**PARAMS) as second:
                self.refused(second, snapshot, "another model")

    @pytest.mark.parametrize("params", [{"type_k": "f32"}, {"kv_unified": True}, {"n_seq_max": 2}], ids=str)
    def test_of_other_parameters(self, models: dict[str, llama_cy.Model], params: dict[str, Any]) -> None:
        with models["spm"].context(**PARAMS) as first, models["spm"].context(**PARAMS | params) as second:
            append(first, 0, [1, 2, 3])
            self.refused(second, first.snapshot(0), "other parameters")

    def test_what_only_llama_cpp_notices(self, models: dict[str, llama_cy.Model]) -> None:
        flash: dict[str, Any] = {"flash_attn_type": "enabled"}
        with models["spm"].context(**PARAMS, flash_attn_type="disabled") as first:
            append(first, 0, [1, 2, 3])
            with models["spm"].context(**PARAMS, **flash) as second:
                for seq_id in (None, 0):
                    second.memory.clear()
                    self.refused(second, first.snapshot(seq_id), "V transposition")

    def test_a_sequence_fits_into_a_context_of_another_size(self, models: dict[str, llama_cy.Model]) -> None:
        with models["spm"].context(**PARAMS) as first, models["spm"].context(**PARAMS | {"n_ctx": 1024}) as second:
            append(first, 0, [1, 2, 3])
            second.restore(first.snapshot(0), 2)
            assert second.memory.seq_pos_max(2) == 2
            self.refused(second, first.snapshot(), "other parameters")

    def test_without_room(self, models: dict[str, llama_cy.Model]) -> None:
        params = PARAMS | {"n_ctx": 256, "kv_unified": True}
        with models["spm"].context(**params) as context:
            for _ in range(3):
                append(context, 0, [1] * 50)
            snapshot = context.snapshot(0)
            for _ in range(2):
                append(context, 1, [2] * 50)
            append(context, 2, [3, 4])
            before = context.snapshot(2)
            with pytest.raises(llama_cy.StateError, match="find 150 available cells"):
                context.restore(snapshot, 2)
            assert context.snapshot(2) == before

    def test_in_motion(self, models: dict[str, llama_cy.Model]) -> None:
        with models["spm"].context(**PARAMS) as context:
            append(context, 0, [1, 2, 3])
            snapshot = context.snapshot(0)
            context.memory.seq_add(0, 0, -1, 1)
            with pytest.raises(llama_cy.StateError, match="in motion"):
                context.snapshot(0)
            context.restore(snapshot)
            assert ends(context)[0] == 2

    def test_wrong_values(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64, n_seq_max=2) as context:
            whole, one = context.snapshot(), context.snapshot(1)
            cases: dict[str, tuple[Any, type[Exception], str]] = {
                "a sequence behind the last": (lambda: context.snapshot(2), ValueError, "seq_id is 2"),
                "a sequence -1": (lambda: context.snapshot(-1), ValueError, "seq_id is -1"),
                "a sequence of text": (lambda: context.snapshot("0"), TypeError, "seq_id must be an integer"),  # type: ignore[arg-type]
                "a part of the whole": (lambda: context.snapshot(partial=True), ValueError, "which sequence"),
                "the whole on the device": (lambda: context.snapshot(on_device=True), ValueError, "which sequence"),
                "partial in words": (lambda: context.snapshot(0, partial="no"), TypeError, "partial must be"),  # type: ignore[arg-type]
                "the whole into a sequence": (lambda: context.restore(whole, 0), ValueError, "of the whole context"),
                "into a sequence too far": (lambda: context.restore(one, 2), ValueError, "seq_id is 2"),
                "bytes": (lambda: context.restore(bytes(one)), TypeError, "Snapshot"),  # type: ignore[arg-type]
                "nothing": (lambda: context.restore(None), TypeError, "None"),  # type: ignore[arg-type]
                "made by hand": (llama_cy.Snapshot, TypeError, "comes from"),
                "text": (lambda: llama_cy.Snapshot.from_bytes("abc"), TypeError, "bytes-like"),  # type: ignore[arg-type]
                "no bytes": (lambda: llama_cy.Snapshot.from_bytes(b""), llama_cy.StateError, "0 bytes"),
                "other bytes": (lambda: llama_cy.Snapshot.from_bytes(bytes(99)), llama_cy.StateError, "starts with"),
                "no file": (lambda: llama_cy.Snapshot.load("/no/such"), FileNotFoundError, "/no/such"),
            }
            for name, (use, error, text) in cases.items():
                with pytest.raises(error) as raised:
                    use()
                assert re.search(text, str(raised.value)), (name, raised.value)
        for use in (lambda: context.snapshot(0), lambda: context.restore(one)):
            with pytest.raises(llama_cy.ClosedError):
                use()
