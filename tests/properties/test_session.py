"""Files of llama.cpp's own kind: what goes in comes out, and what is damaged leaves everything as it was."""

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

PARAMS: dict[str, Any] = {"n_ctx": 256, "n_batch": 64, "n_seq_max": 2, "n_threads": 1}

tokens = st.lists(st.integers(0, 255), min_size=1, max_size=30)


@pytest.fixture(scope="module", params=["spm", "gemma3", "mamba", "jamba"])
def contexts(
    request: pytest.FixtureRequest, models: dict[str, llama_cy.Model]
) -> Iterator[tuple[llama_cy.Context, llama_cy.Context]]:
    """Give two contexts of one model and the same parameters."""
    with ExitStack() as stack:
        model = models[request.param]
        yield stack.enter_context(model.context(**PARAMS)), stack.enter_context(model.context(**PARAMS))


@given(texts=st.tuples(tokens, tokens, tokens), seq_id=st.none() | st.just(0), named=st.booleans())
def test_there_and_back(
    contexts: tuple[llama_cy.Context, llama_cy.Context],
    texts: tuple[list[int], list[int], list[int]],
    seq_id: int | None,
    named: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    first, second = contexts
    held, other, rest = texts
    path: Path = tmp_path_factory.mktemp("session") / "kept.bin"
    first.memory.clear()
    first.decode(held)
    first.state.save_session(path, [9, 9] if named else None, seq_id=seq_id)
    assert [entry.name for entry in path.parent.iterdir()] == ["kept.bin"]
    first.decode(rest)
    want = first.logits()
    for context in (second, first):
        context.memory.clear()
        context.decode(other)
        found = context.state.load_session(str(path), seq_id=seq_id)
        assert found.dtype == np.int32
        assert found.tolist() == ([9, 9] if named else held)
        assert context.memory.seq_pos_max(0) == len(held) - 1
        if not named:
            assert context.snapshot(0).tokens is not None
        with pytest.raises(ValueError, match="decode something"):
            context.logits()
        context.decode(rest)
        if context.model.n_swa:
            assert relative_error(context.logits(), want) < 2e-2
        else:
            assert np.array_equal(context.logits(), want)


def test_into_another_sequence(models: dict[str, llama_cy.Model], tmp_path: Path) -> None:
    with models["spm"].context(**PARAMS) as context:
        context.decode([1, 2, 3])
        context.state.save_session(tmp_path / "one", seq_id=0)
        assert context.state.load_session(tmp_path / "one", seq_id=1).tolist() == [1, 2, 3]
        assert [context.memory.seq_pos_max(seq_id) for seq_id in range(2)] == [2, 2]


@given(held=tokens, seq_id=st.none() | st.just(0), data=st.data())
def test_damage(
    contexts: tuple[llama_cy.Context, llama_cy.Context],
    held: list[int],
    seq_id: int | None,
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A cut or a wrong size is refused; a flipped bit among the numbers is nobody's to find."""
    context = contexts[0]
    path: Path = tmp_path_factory.mktemp("session") / "kept.bin"
    context.memory.clear()
    context.decode(held)
    context.state.save_session(path, seq_id=seq_id)
    good = path.read_bytes()
    bad = bytearray(good)
    kind = data.draw(st.sampled_from(["flip", "cut", "extend"]))
    if kind == "flip":
        # Where the counts are.
        at = data.draw(st.integers(0, min(len(good), 12 + 4 * len(held) + 60) - 1))
        bad[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del bad[data.draw(st.integers(0, len(good) - 1)) :]
    else:
        bad += data.draw(st.binary(min_size=1, max_size=9))
    path.write_bytes(bad)
    before, one = context.snapshot(), context.snapshot(0)
    try:
        context.state.load_session(path, seq_id=seq_id)
    except llama_cy.StateError:
        # What fell out of a window does not come back.
        assert context.snapshot(0).nbytes == one.nbytes
        assert context.model.n_swa or context.snapshot() == before
    else:
        assert kind == "flip"
    context.memory.clear()
    context.decode([1, 2])


@pytest.mark.parametrize("kind", ["spm", "jamba", "gemma3", "lfm2"])
def test_a_file_that_ends_anywhere(models: dict[str, llama_cy.Model], tmp_path: Path, kind: str) -> None:
    """What llama.cpp does not find in a file it would take from memory, numbers of rounds among it."""
    path = tmp_path / "cut"
    with models[kind].context(**PARAMS) as context:
        context.decode([41, 41, 148])
        context.state.save_session(path)
        whole = path.read_bytes()
        for length in range(min(len(whole), 120)):
            path.write_bytes(whole[:length])
            with pytest.raises(llama_cy.StateError):
                context.state.load_session(path)
        path.write_bytes(whole)
        assert context.state.load_session(path).tolist() == [41, 41, 148]


def test_wrong_files(models: dict[str, llama_cy.Model], tmp_path: Path) -> None:
    with models["spm"].context(**PARAMS) as context:
        context.decode([1, 2, 3])
        whole, one = tmp_path / "whole", tmp_path / "one"
        context.state.save_session(whole)
        context.state.save_session(one, seq_id=0)
        (tmp_path / "empty").touch()
        (tmp_path / "text").write_text("a file of another kind, and long enough")
        cut = whole.read_bytes()[:8] + b"\xff\xff\xff\x7f"
        (tmp_path / "cut").write_bytes(cut)
        (tmp_path / "named").write_bytes(one.read_bytes()[:8].replace(b"q", b"n", 1) + bytes(4) + b"\xff\xff\xff\xff")
        for name, seq_id, error, text in (
            ("none", None, FileNotFoundError, "none"),
            ("empty", None, llama_cy.StateError, "not a session file"),
            ("text", None, llama_cy.StateError, "not a session file"),
            ("whole", 0, llama_cy.StateError, "of the whole context: give no seq_id"),
            ("one", None, llama_cy.StateError, "of one sequence: give a seq_id"),
            ("one", 2, ValueError, "seq_id is 2"),
            ("cut", None, llama_cy.StateError, "do not hold its 2147483647 tokens"),
            ("named", None, llama_cy.StateError, "name of an architecture"),
        ):
            with pytest.raises(error, match=text):
                context.state.load_session(tmp_path / name, seq_id=seq_id)
        assert context.memory.seq_pos_max(0) == 2
        with pytest.raises(ValueError, match="token"):
            context.state.save_session(whole, [10**6])
        with pytest.raises(FileNotFoundError):
            context.state.save_session(tmp_path / "no" / "folder")
        context.memory.seq_add(0, 0, -1, 1)
        for use in (lambda: context.state.save_session(whole), lambda: context.state.load_session(whole)):
            with pytest.raises(llama_cy.StateError, match="in motion"):
                use()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cut", "empty", "named", "one", "text", "whole"]


def test_of_another_architecture(models: dict[str, llama_cy.Model], tmp_path: Path) -> None:
    path = tmp_path / "whole"
    with models["spm"].context(**PARAMS) as first, models["mamba"].context(**PARAMS) as second:
        first.decode([1, 2, 3])
        first.state.save_session(path)
        second.decode([4, 5])
        before = second.snapshot()
        with pytest.raises(llama_cy.StateError, match="wrong model arch"):
            second.state.load_session(path)
        assert second.snapshot() == before
