"""Inputs embedded together are those embedded alone, however they are grouped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.encoder_models import write_bert
from support.llama_models import write_llama
from support.precision import assert_near

import llama_cy

token = st.integers(5, 60)
inputs = st.lists(st.lists(token, min_size=1, max_size=20), min_size=1, max_size=12)
EXACT: dict[str, Any] = {"n_threads": 1, "type_k": "f32", "type_v": "f32", "flash_attn_type": "disabled"}


@pytest.fixture(scope="module", params=[(write_bert, "mean"), (write_llama, "mean"), (write_llama, "last")])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[llama_cy.Embedder, llama_cy.Embedder]]:
    write, pooling_type = request.param
    path: Path = tmp_path_factory.mktemp("model") / "model.gguf"
    write(path)
    options = {"n_ctx": 20, "pooling_type": pooling_type, **EXACT}
    with (
        llama_cy.Model(path) as model,
        llama_cy.Embedder(model, n_seq_max=1, **options) as alone,
        llama_cy.Embedder(model, n_seq_max=4, n_batch=40, **options) as together,
    ):
        yield alone, together


@given(inputs=inputs)
def test_together_as_alone(pair: tuple[llama_cy.Embedder, llama_cy.Embedder], inputs: list[list[int]]) -> None:
    alone, together = pair
    found = together.embed(inputs, normalize=None)
    expected = np.array([alone.embed(tokens, normalize=None) for tokens in inputs])
    # ggml's GELU looks up 16-bit numbers, where one more or less in the last place is a step.
    assert_near(found, expected, rtol=1e-3, atol=5e-3)
