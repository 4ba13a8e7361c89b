"""A batch as arrays: made of them, shown as them, and checked whoever wrote them."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.child import check_output, outcomes

import llama_cy
from llama_cy import Batch

N_VOCAB = 395
EXACT: dict[str, Any] = {"n_threads": 1, "type_k": "f32", "type_v": "f32", "flash_attn_type": "disabled"}


@pytest.fixture(scope="module")
def context(shared: Callable[[str], llama_cy.Model]) -> Iterator[llama_cy.Context]:
    with shared("tiny").context(n_ctx=512, n_batch=64, n_seq_max=4, kv_unified=True, **EXACT) as opened:
        yield opened


entries = st.lists(
    st.tuples(
        st.integers(0, N_VOCAB - 1), st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True), st.booleans()
    ),
    min_size=1,
    max_size=30,
)


@given(drawn=entries)
def test_arrays_are_what_add_would_add(drawn: list[tuple[int, list[int], bool]]) -> None:
    one_by_one = Batch(len(drawn), n_seq_max=3)
    for at, (chosen, seq_ids, wanted) in enumerate(drawn):
        one_by_one.add(chosen, at, seq_ids, logits=wanted)
    rows = [[*seq_ids, *[-1] * (3 - len(seq_ids))] for _, seq_ids, _ in drawn]
    token, logits, pos = [entry[0] for entry in drawn], [entry[2] for entry in drawn], list(range(len(drawn)))
    at_once = Batch.from_arrays(token, pos, rows, logits)
    in_two = Batch(len(drawn), n_seq_max=3)
    half = len(drawn) // 2
    if half:
        assert in_two.extend(token[:half], pos[:half], rows[:half], logits[:half]) == range(half)
    assert in_two.extend(token[half:], pos[half:], rows[half:], logits[half:]) == range(half, len(drawn))
    for batch in (one_by_one, at_once, in_two):
        assert len(batch) == len(drawn)
        assert batch.token.tolist() == token
        assert batch.pos.tolist() == pos
        assert batch.seq_id.tolist() == rows
        assert batch.logits.tolist() == logits
        assert [batch.token.dtype, batch.pos.dtype, batch.seq_id.dtype] == [np.int32] * 3
        assert batch.logits.dtype == np.bool_
    assert at_once.n_tokens_max == len(drawn)


@given(tokens=st.lists(st.lists(st.integers(0, N_VOCAB - 1), min_size=1, max_size=12), min_size=1, max_size=4))
def test_sequences_in_one_decode(context: llama_cy.Context, tokens: list[list[int]]) -> None:
    context.memory.clear()
    flat = np.concatenate([np.asarray(part) for part in tokens])
    pos = np.concatenate([np.arange(len(part)) for part in tokens])
    seq_id = np.repeat(np.arange(len(tokens)), [len(part) for part in tokens])
    batch = Batch.from_arrays(flat, pos, seq_id, True)
    context.decode(batch)
    found = context.logits_all()
    context.memory.clear()
    added = Batch(len(flat))
    for row in zip(flat, pos, seq_id, strict=True):
        added.add(row[0], row[1], (row[2],), logits=True)
    context.decode(added)
    assert np.array_equal(found, context.logits_all())
    assert [context.memory.seq_pos_max(i) for i in range(len(tokens))] == [len(part) - 1 for part in tokens]


class TestViews:
    def test_what_is_written_is_decoded(self, context: llama_cy.Context) -> None:
        context.memory.clear()
        context.decode(Batch.from_arrays([5, 9, 17], [0, 1, 2], 1, [False, False, True]))
        expected = context.logits()
        context.memory.clear()
        batch = Batch.from_arrays([1, 1, 1], [7, 7, 7])
        batch.token[:] = [5, 9, 17]
        batch.pos[:] = np.arange(3)
        batch.seq_id[:, 0] = 1
        batch.logits[-1] = True
        context.decode(batch)
        assert np.array_equal(context.logits(), expected)
        assert context.memory.seq_pos_max(1) == 2

    def test_a_view_in_use_is_decoded_as_it_is(self, context: llama_cy.Context) -> None:
        context.memory.clear()
        batch = Batch.from_arrays([5, 9, 17], [0, 1, 2], [[0, 2]] * 3, True)
        token = batch.token
        context.decode(batch)
        first = context.logits()
        token[2] = 18
        context.memory.clear()
        context.decode(batch)
        assert not np.array_equal(first, context.logits())
        token[2] = 17
        context.memory.clear()
        context.decode(batch)
        assert np.array_equal(first, context.logits())
        assert [context.memory.seq_pos_max(seq_id) for seq_id in range(4)] == [2, -1, 2, -1]

    def test_shows_memory_and_no_copy(self) -> None:
        batch = Batch(4, n_seq_max=2)
        batch.add(3, 0)
        first, second = batch.token, batch.token
        first[0] = 4
        assert second[0] == 4
        assert np.shares_memory(first, second)
        batch.add(5, 1, (1, 2))
        assert (first.shape, batch.token.tolist(), batch.seq_id.tolist()) == ((1,), [4, 5], [[0, -1], [1, 2]])

    def test_holds_the_batch(self) -> None:
        batch = Batch.from_arrays([5, 9], [0, 1])
        gone = weakref.ref(batch)
        view = batch.seq_id
        with pytest.raises(BufferError, match="1 views"):
            batch.close()
        part = view[1:]
        del view
        with pytest.raises(BufferError, match="1 views"):
            batch.close()
        del batch
        gc.collect()
        assert gone() is not None
        assert part.tolist() == [[0]]
        del part
        gc.collect()
        assert gone() is None

    def test_closes_without_views(self) -> None:
        batch = Batch.from_arrays([5, 9], [0, 1])
        view = batch.token
        del view
        batch.close()
        with pytest.raises(llama_cy.ClosedError):
            batch.token  # noqa: B018
        with pytest.raises(llama_cy.ClosedError):
            batch.extend([1], [0])

    def test_empty(self) -> None:
        batch = Batch(3, n_seq_max=2)
        assert (batch.token.shape, batch.seq_id.shape, batch.logits.shape) == ((0,), (0, 2), (0,))


# Name of the view, index, value, and what the refusal says.
WRITTEN = [
    ("token", 1, -1, r"token\[1\] is -1, which is out of range"),
    ("token", 1, N_VOCAB, rf"token {N_VOCAB} is out of range \[0, {N_VOCAB}\)"),
    ("token", 0, 2**31 - 1, "token 2147483647 is out of range"),
    ("pos", 2, -5, r"pos\[2\] is -5"),
    ("pos", 2, 2**31 - 1, "range|invalid batch"),
    ("seq_id", (0, 0), 256, r"seq_id\[0, 0\] is 256"),
    ("seq_id", (0, 0), -1, r"seq_id\[0\] names no sequence"),
    ("seq_id", (0, 1), 0, r"seq_id\[0\] names sequence 0 twice"),
    ("seq_id", (0, 1), -2, r"seq_id\[0, 1\] is -2"),
    ("seq_id", (0, 0), 4, "invalid batch"),
]


@pytest.mark.parametrize("held", [True, False], ids=["view in use", "view gone"])
@pytest.mark.parametrize("written", WRITTEN, ids=lambda written: f"{written[0]}-{written[2]}")
def test_written_values_are_checked(context: llama_cy.Context, written: tuple[str, Any, int, str], held: bool) -> None:
    name, index, value, text = written
    context.memory.clear()
    batch = Batch.from_arrays([5, 9, 17], [0, 1, 2], [[0, -1]] * 3, True)
    view = getattr(batch, name)
    before = view[index]
    view[index] = value
    if not held:
        del view
    with pytest.raises(llama_cy.InvalidBatchError, match=text):
        context.decode(batch)
    assert context.memory.seq_pos_max(0) == -1
    getattr(batch, name)[index] = before
    context.decode(batch)
    assert context.memory.seq_pos_max(0) == 2


def test_hole_in_a_row_of_sequences(context: llama_cy.Context) -> None:
    batch = Batch.from_arrays([5], [0], [[0, 1, 2]])
    batch.seq_id[0, 1] = -1
    with pytest.raises(llama_cy.InvalidBatchError, match=r"seq_id\[0, 2\] is 2 behind the end"):
        context.decode(batch)


VALUE, TYPE = "ValueError", "TypeError"
REFUSED = {
    "tokens that are text": ("Batch.from_arrays('ab', [0, 1])", TYPE, "token must be integers, not str"),
    "tokens that are words": ("Batch.from_arrays(['a'], [0])", TYPE, "token must be integers"),
    "tokens with a fraction": ("Batch.from_arrays([1.5], [0])", TYPE, "token must be integers, not float64"),
    "tokens that are None": ("Batch.from_arrays(None, [0])", TYPE, "token must be integers, not object"),
    "no tokens": ("Batch.from_arrays([], [])", VALUE, r"token has the shape \(0,\)"),
    "one number": ("Batch.from_arrays(5, 0)", VALUE, r"token has the shape \(\)"),
    "a matrix of tokens": ("Batch.from_arrays([[1, 2]], [[0, 1]])", VALUE, r"token has the shape \(1, 2\)"),
    "token -1": ("Batch.from_arrays([1, -1], [0, 1])", VALUE, r"token\[1\] is -1, which is out of range"),
    "token 2**31": ("Batch.from_arrays([2**31], [0])", VALUE, r"token\[0\] is 2147483648"),
    "token 2**64": ("Batch.from_arrays([2**64], [0])", TYPE, "token must be integers, not object"),
    "token 2**63, unsigned": ("Batch.from_arrays(np.array([2**63], np.uint64), [0])", VALUE, "9223372036854775808"),
    "position -1": ("Batch.from_arrays([1], [-1])", VALUE, r"pos\[0\] is -1"),
    "too few positions": ("Batch.from_arrays([1, 2], [0])", VALUE, r"pos has the shape \(1,\) and token \(2,\)"),
    "sequence 256": ("Batch.from_arrays([1], [0], 256)", VALUE, "seq_id is 256"),
    "sequence -1": ("Batch.from_arrays([1], [0], -1)", VALUE, r"seq_id\[0\] names no sequence"),
    "sequence -2": ("Batch.from_arrays([1], [0], [[0, -2]])", VALUE, r"seq_id\[0, 1\] is -2"),
    "sequence twice": ("Batch.from_arrays([1, 2], [0, 1], [[0, 1], [1, 1]])", VALUE, r"seq_id\[1\] names a .* twice"),
    "sequence behind the end": ("Batch.from_arrays([1], [0], [[0, -1, 1]])", VALUE, r"seq_id\[0\] has .* behind -1"),
    "sequences of no width": ("Batch.from_arrays([1], [0], np.zeros((1, 0), int))", VALUE, "seq_id has the shape"),
    "sequences of too few": ("Batch.from_arrays([1, 2], [0, 1], [0])", VALUE, r"seq_id has the shape \(1,\)"),
    "257 sequences": ("Batch.from_arrays([1], [0], [[*range(256), -1]])", VALUE, r"seq_id has the shape \(1, 257\)"),
    "logits of numbers": ("Batch.from_arrays([1], [0], 0, [1])", TYPE, "logits must be bool, not int64"),
    "logits of too many": ("Batch.from_arrays([1], [0], 0, [True, False])", VALUE, r"logits has the shape \(2,\)"),
    "more than there is room for": (
        "Batch(2).extend([1, 2, 3], [0, 1, 2])",
        VALUE,
        "3 more tokens do not fit.*room for 2",
    ),
    "more sequences than room": (
        "Batch(2).extend([1], [0], [[0, 1]])",
        VALUE,
        "2 sequences for a token; n_seq_max is 1",
    ),
    "closed by its tokens": ("b = Batch(1); b.extend(Closing(b), [0])", "ClosedError", "closed"),
    "sized like a terabyte": (
        "Batch.from_arrays(np.broadcast_to(1, 2**21), np.broadcast_to(0, 2**21))",
        VALUE,
        "2097152",
    ),
}
SETUP = """
import numpy as np
from llama_cy import Batch

class Closing:
    def __init__(self, batch):
        self.batch = batch
    def __array__(self, dtype=None, copy=None):
        self.batch.close()
        return np.array([1])
"""


def test_refused() -> None:
    came_to = outcomes(SETUP, {name: source for name, (source, _, _) in REFUSED.items()})
    for name, (_, error, text) in REFUSED.items():
        assert error in came_to[name].raised, (name, came_to[name])
        assert re.search(text, came_to[name].text), (name, came_to[name])


RACE = """
import itertools, sys, threading
import numpy as np
import llama_cy

# Threads wait this long for the interpreter, and there are few processors under many tests.
sys.setswitchinterval(1e-4)
params = {"n_ctx": 128, "n_batch": 64, "n_seq_max": 4, "kv_unified": True, "n_threads": 1}
with llama_cy.Model(sys.argv[1]) as model, model.context(**params) as context:
    batch = llama_cy.Batch.from_arrays(np.ones(40, int), np.arange(40), np.tile([0, -1, -1, -1], (40, 1)), True)
    views = [batch.token, batch.pos, batch.seq_id.reshape(-1), batch.logits.view(np.int8)]
    whole = [view.copy() for view in views]
    going = True
    def scribble():
        rng = np.random.default_rng(1)
        while going:
            for view in views:
                view[rng.integers(len(view))] = rng.integers(-128, 128)
    thread = threading.Thread(target=scribble)
    thread.start()
    refused = 0
    # Until the other thread was in time once; the test is ended from outside if it never is.
    for round in itertools.count():
        context.memory.clear()
        try:
            context.decode(batch)
        except (llama_cy.LlamaError, ValueError):
            refused += 1
        if refused and round >= 20:
            break
        for view, values in zip(views, whole):
            view[:] = values
    going = False
    thread.join()
    print("lived", refused > 0)
"""


def test_another_thread_writes_while_c_computes(tiny_path: Path) -> None:
    assert check_output(RACE, tiny_path) == "lived True\n"
