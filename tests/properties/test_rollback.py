"""A recurrent state that keeps snapshots can be rolled back, to just what it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.llama_models import write_llama
from support.precision import assert_near
from support.recurrent_models import write_lfm2, write_mamba

import llama_cy

N_RS_SEQ = 4


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[llama_cy.Context]:
    path = write_lfm2(tmp_path_factory.mktemp("rollback") / "lfm2.gguf")
    with (
        llama_cy.Model(path) as model,
        model.context(n_ctx=256, n_rs_seq=N_RS_SEQ, type_k="f32", type_v="f32", n_threads=1) as context,
    ):
        yield context


@given(st.lists(st.integers(0, 300), min_size=2, max_size=20), st.integers(1, N_RS_SEQ), st.integers(0, 300))
def test_as_if_never_decoded(context: llama_cy.Context, tokens: list[int], rollback: int, following: int) -> None:
    kept = max(1, len(tokens) - rollback)
    context.memory.clear()
    context.decode([*tokens[:kept], following])
    expected = np.array(context.logits())

    context.memory.clear()
    context.decode(tokens)
    assert context.memory.seq_rm(0, kept, -1)
    assert context.memory.seq_pos_max(0) == kept - 1
    context.decode([following])
    assert_near(context.logits(), expected, atol=2e-5, kind="recurrent")


def test_no_further_than_there_are_snapshots(context: llama_cy.Context) -> None:
    context.memory.clear()
    context.decode(list(range(10)))
    assert not context.memory.seq_rm(0, 9 - N_RS_SEQ, -1)
    assert context.memory.seq_pos_max(0) == 9
    assert context.memory.seq_rm(0, 10 - N_RS_SEQ, -1)
    assert context.memory.seq_pos_max(0) == 9 - N_RS_SEQ


@pytest.mark.parametrize(("write", "expected"), [(write_lfm2, 3), (write_mamba, 0), (write_llama, 0)])
def test_where_it_is_supported(tmp_path: Path, write: object, expected: int) -> None:
    with llama_cy.Model(write(tmp_path / "model.gguf")) as model, model.context(n_ctx=64, n_rs_seq=3) as context:  # type: ignore[operator]
        assert context.n_rs_seq == expected
