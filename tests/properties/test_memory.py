"""Random operations on a context's memory, against sequences kept in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.oracle import relative_error
from support.precision import rounding

import llama_cy

N_SEQ = 3
EXACT: dict[str, Any] = {"type_k": "f32", "type_v": "f32", "flash_attn_type": "disabled"}
END = 2**31 - 1
# As in conformance/test_logits.py: float32 throughout.
TOLERANCE = rounding(5e-5)


@dataclass
class Cells:
    """What memory holds: positions, each with the sequences that see it."""

    unified: bool
    cells: list[tuple[int, frozenset[int]]] = field(default_factory=list)

    def positions(self, seq_id: int) -> list[int]:
        return [pos for pos, seqs in self.cells if seq_id in seqs]

    def change(self, seq_id: int, p0: int, p1: int, new: Callable[[int, frozenset[int]], Any]) -> None:
        """Replace the cells of a sequence within a range; those that come to nothing are gone."""
        start, end = max(p0, 0), END if p1 < 0 else p1
        changed = [
            new(pos, seqs) if start <= pos < end and (seq_id in seqs or seq_id == -1) else (pos, seqs)
            for pos, seqs in self.cells
        ]
        self.cells = [(pos, seqs) for pos, seqs in changed if pos >= 0 and seqs]

    def append(self, seq_id: int, n: int) -> None:
        first = max(self.positions(seq_id), default=-1) + 1
        self.cells += [(first + i, frozenset([seq_id])) for i in range(n)]

    def seq_rm(self, seq_id: int, p0: int, p1: int) -> None:
        self.change(seq_id, p0, p1, lambda pos, seqs: (pos, frozenset() if seq_id == -1 else seqs - {seq_id}))

    def seq_cp(self, source: int, target: int, p0: int, p1: int) -> None:
        if source == target:
            return
        if self.unified:
            self.change(source, p0, p1, lambda pos, seqs: (pos, seqs | {target}))
        else:
            self.seq_rm(target, -1, -1)
            self.cells += [(pos, frozenset([target])) for pos in self.positions(source)]

    def seq_keep(self, seq_id: int) -> None:
        self.cells = [(pos, frozenset([seq_id])) for pos in self.positions(seq_id)]

    def seq_add(self, seq_id: int, p0: int, p1: int, delta: int) -> None:
        self.change(seq_id, p0, p1, lambda pos, seqs: (pos + delta, seqs))

    def seq_div(self, seq_id: int, p0: int, p1: int, divisor: int) -> None:
        self.change(seq_id, p0, p1, lambda pos, seqs: (pos // divisor, seqs))

    def clear(self) -> None:
        self.cells = []


seqs = st.integers(0, N_SEQ - 1)
ends = st.integers(-1, 20)
OPERATIONS = st.one_of(
    st.tuples(st.just("append"), seqs, st.integers(1, 8)),
    st.tuples(st.just("append"), seqs, st.integers(1, 8)),
    st.tuples(st.just("seq_rm"), st.integers(-1, N_SEQ - 1), ends, ends),
    st.tuples(st.just("seq_cp"), seqs, seqs, ends, ends),
    st.tuples(st.just("seq_cp"), seqs, seqs, st.just(-1), st.just(-1)),
    st.tuples(st.just("seq_keep"), seqs),
    st.tuples(st.just("seq_add"), seqs, ends, ends, st.integers(-10, 10)),
    st.tuples(st.just("seq_div"), seqs, ends, ends, st.integers(1, 4)),
    st.tuples(st.just("clear")),
)


@pytest.fixture(scope="module", params=[True, False], ids=["unified", "separate"])
def context(request: pytest.FixtureRequest, models: dict[str, llama_cy.Model]) -> Iterator[llama_cy.Context]:
    params: dict[str, Any] = {"n_ctx": 768, "n_batch": 64, "n_seq_max": N_SEQ, "n_threads": 1, **EXACT}
    with models["spm"].context(kv_unified=request.param, **params) as opened:
        yield opened


def is_unified(context: llama_cy.Context) -> bool:
    return context.n_ctx_seq == context.n_ctx


def append(context: llama_cy.Context, seq_id: int, tokens: list[int]) -> None:
    first = context.memory.seq_pos_max(seq_id) + 1
    batch = llama_cy.Batch(len(tokens))
    for i, token in enumerate(tokens):
        batch.add(token, first + i, (seq_id,), logits=i == len(tokens) - 1)
    context.decode(batch)


@given(operations=st.lists(OPERATIONS, max_size=25))
def test_positions(context: llama_cy.Context, operations: list[tuple[Any, ...]]) -> None:
    context.memory.clear()
    model = Cells(is_unified(context))
    for name, *arguments in operations:
        if name == "append":
            append(context, arguments[0], list(range(10, 10 + arguments[1])))
        elif (
            name == "seq_cp" and not model.unified and arguments[0] != arguments[1] and tuple(arguments[2:]) != (-1, -1)
        ):
            # A part of a sequence is refused, and a range that covers all of it is no part.
            last = max(model.positions(arguments[0]), default=-1)
            if arguments[2] > 0 or 0 <= arguments[3] <= last:
                with pytest.raises(ValueError, match="kv_unified"):
                    context.memory.seq_cp(*arguments)
                continue
            context.memory.seq_cp(*arguments)
        else:
            done = getattr(context.memory, name)(*arguments)
            assert done is (True if name == "seq_rm" else None)
        getattr(model, name)(*arguments)
        for seq_id in range(N_SEQ):
            held = model.positions(seq_id)
            assert context.memory.seq_pos_min(seq_id) == min(held, default=-1), (name, arguments)
            assert context.memory.seq_pos_max(seq_id) == max(held, default=-1), (name, arguments)


tokens = st.lists(st.integers(0, 255), min_size=1, max_size=30)


@given(first=tokens, keep=st.integers(0, 30), rest=tokens)
def test_edited_prompt_equals_fresh_one(
    context: llama_cy.Context, first: list[int], keep: int, rest: list[int]
) -> None:
    keep = min(keep, len(first))
    context.memory.clear()
    append(context, 0, first[:keep] + rest)
    want = context.logits()
    context.memory.clear()
    append(context, 0, first)
    assert context.memory.seq_rm(0, keep, -1)
    append(context, 0, rest)
    assert relative_error(context.logits(), want) < TOLERANCE
    assert context.memory.seq_pos_max(0) == keep + len(rest) - 1


@given(shared=tokens, ends=st.lists(tokens, min_size=N_SEQ, max_size=N_SEQ))
def test_branches_of_a_shared_prompt(context: llama_cy.Context, shared: list[int], ends: list[list[int]]) -> None:
    want = []
    for end in ends:
        context.memory.clear()
        append(context, 0, shared + end)
        want.append(context.logits())
    context.memory.clear()
    append(context, 0, shared)
    for seq_id in range(1, N_SEQ):
        context.memory.seq_cp(0, seq_id)
    for seq_id in (1, 0, 2):
        append(context, seq_id, ends[seq_id])
        assert relative_error(context.logits(), want[seq_id]) < TOLERANCE
    # The others may go.
    context.memory.seq_keep(2)
    append(context, 2, [5])
    alone = context.logits()
    context.memory.clear()
    append(context, 0, [*shared, *ends[2], 5])
    assert relative_error(alone, context.logits()) < TOLERANCE


@given(held=tokens, rest=tokens, delta=st.integers(0, 200))
def test_only_distances_matter(context: llama_cy.Context, held: list[int], rest: list[int], delta: int) -> None:
    context.memory.clear()
    append(context, 0, held + rest)
    want = context.logits()
    context.memory.clear()
    append(context, 0, held)
    context.memory.seq_add(0, 0, -1, delta)
    append(context, 0, rest)
    assert context.memory.seq_pos_min(0) == delta
    # Angles are rounded in float32: at position 200 the last bit is 1.5e-5 rad.
    assert relative_error(context.logits(), want) < rounding(1e-3)


@given(entries=st.lists(tokens, min_size=2, max_size=N_SEQ))
def test_sequences_do_not_see_each_other(context: llama_cy.Context, entries: list[list[int]]) -> None:
    context.memory.clear()
    for seq_id, entry in enumerate(entries):
        append(context, seq_id, entry)
    append(context, 0, [7])
    together = context.logits()
    context.memory.clear()
    append(context, 0, [*entries[0], 7])
    assert relative_error(together, context.logits()) < TOLERANCE
    assert np.isfinite(together).all()
