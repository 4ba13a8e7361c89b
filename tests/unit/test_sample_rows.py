"""Many rows at once give what each chain gives by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import llama_cy
from llama_cy import Sampler, SamplerChain, sample_rows

KINDS: list[Any] = [
    lambda seed: llama_cy.sampling(seed=seed),
    lambda seed: llama_cy.sampling(temperature=0, repeat_penalty=1.1),
    lambda seed: llama_cy.sampling(repeat_penalty=1.2, temperature=2.0, seed=seed),
    lambda seed: SamplerChain(Sampler.temp(0.9), Sampler.dist(seed)),
]


def logits(n: int, n_vocab: int, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 3, (n, n_vocab)).astype(np.float32)


@pytest.fixture
def four() -> Iterator[list[SamplerChain]]:
    chains = [make(seed) for seed, make in enumerate(KINDS)]
    yield chains
    for chain in chains:
        chain.close()


@given(n=st.integers(1, 20), n_vocab=st.integers(8, 3000), n_threads=st.integers(1, 6), seed=st.integers(0, 2**32))
def test_tokens_are_those_of_one_by_one(n: int, n_vocab: int, n_threads: int, seed: int) -> None:
    chains = [KINDS[i % len(KINDS)](i) for i in range(n)]
    alone = [chain.clone() for chain in chains]
    for step in range(3):
        rows = logits(n, n_vocab, seed + step)
        got = sample_rows(chains, rows, n_threads=n_threads)
        assert got.dtype == np.int32
        assert got.tolist() == [chain.sample_logits(row) for chain, row in zip(alone, rows, strict=True)]


def test_rows_are_chosen(four: list[SamplerChain]) -> None:
    rows = logits(9, 400)
    alone = [chain.clone() for chain in four]
    want = [chain.sample_logits(rows[i]) for chain, i in zip(alone, [8, 0, -1, 3], strict=True)]
    assert sample_rows(four, rows, [8, 0, -1, 3]).tolist() == want


def test_strides(four: list[SamplerChain]) -> None:
    rows = logits(8, 900)
    want = sample_rows([chain.clone() for chain in four], np.ascontiguousarray(rows[::2, ::-1]))
    assert sample_rows(four, rows[::2, ::-1]).tolist() == want.tolist()


class TestContext:
    @pytest.fixture
    def context(self, tiny: llama_cy.Model) -> Iterator[llama_cy.Context]:
        with tiny.context(n_ctx=64, n_seq_max=4, kv_unified=True, n_threads=1) as opened:
            batch = llama_cy.Batch(8)
            for sequence in range(4):
                batch.add(sequence + 5, 0, [sequence])
                batch.add(sequence + 9, 1, [sequence], logits=True)
            opened.decode(batch)
            yield opened

    def test_all_rows(self, context: llama_cy.Context, four: list[SamplerChain]) -> None:
        alone = [chain.clone() for chain in four]
        want = [chain.sample(context, i) for chain, i in zip(alone, [1, 3, 5, 7], strict=True)]
        assert sample_rows(four, context).tolist() == want

    def test_chosen_rows(self, context: llama_cy.Context, four: list[SamplerChain]) -> None:
        alone = [chain.clone() for chain in four]
        want = [chain.sample(context, i) for chain, i in zip(alone, [7, -4, 1, 1], strict=True)]
        assert sample_rows(four, context, [7, -4, 1, 1], n_threads=2).tolist() == want

    def test_a_row_without_logits(self, context: llama_cy.Context, four: list[SamplerChain]) -> None:
        with pytest.raises(ValueError, match="row 2 has no logits"):
            sample_rows(four, context, [1, 3, 5, 2])

    def test_counts(self, context: llama_cy.Context, four: list[SamplerChain]) -> None:
        with pytest.raises(ValueError, match="there are 4 rows of logits for 3 chains"):
            sample_rows(four[:3], context)

    def test_nothing_decoded(self, tiny: llama_cy.Model, four: list[SamplerChain]) -> None:
        with tiny.context(n_ctx=32) as context:
            with pytest.raises(ValueError, match="there are 0 rows of logits for 4 chains"):
                sample_rows(four, context)
            with pytest.raises(ValueError, match="row 0 has no logits"):
                sample_rows(four[:1], context, [0])

    def test_closed(self, tiny: llama_cy.Model, four: list[SamplerChain]) -> None:
        context = tiny.context(n_ctx=32)
        context.close()
        with pytest.raises(llama_cy.ClosedError):
            sample_rows(four, context)


class TestRefusals:
    ROWS = logits(4, 500)

    def test_no_chains(self) -> None:
        with pytest.raises(ValueError, match="there are no chains"):
            sample_rows([], self.ROWS[:0])

    def test_the_same_chain_twice(self, four: list[SamplerChain]) -> None:
        with pytest.raises(ValueError, match="chains 1 and 3 are the same"):
            sample_rows([*four[:3], four[1]], self.ROWS)

    def test_counts(self, four: list[SamplerChain]) -> None:
        with pytest.raises(ValueError, match="there are 3 rows of logits for 4 chains"):
            sample_rows(four, self.ROWS[:3])
        with pytest.raises(ValueError, match="2 rows are given for 4 chains"):
            sample_rows(four, self.ROWS, [0, 1])

    @pytest.mark.parametrize("row", [4, -5, 2**40])
    def test_ranges(self, four: list[SamplerChain], row: int) -> None:
        with pytest.raises(ValueError, match=f"row is {row}"):
            sample_rows(four, self.ROWS, [0, 1, 2, row])

    @pytest.mark.parametrize("n_threads", [0, -1, 513])
    def test_threads(self, four: list[SamplerChain], n_threads: int) -> None:
        with pytest.raises(ValueError, match=f"n_threads is {n_threads}"):
            sample_rows(four, self.ROWS, n_threads=n_threads)

    @pytest.mark.parametrize("shape", [(4,), (4, 0), (2, 2, 2)])
    def test_shapes(self, four: list[SamplerChain], shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="source has shape"):
            sample_rows(four, np.zeros(shape, dtype=np.float32))

    def test_types(self, four: list[SamplerChain]) -> None:
        with pytest.raises(TypeError, match="source must be a Context or float32, not float64"):
            sample_rows(four, np.zeros((4, 9)))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="chain 1 must be a Sampler, not int"):
            sample_rows([four[0], 3], self.ROWS)  # type: ignore[list-item]
        with pytest.raises(TypeError, match="chains must be an iterable of Sampler"):
            sample_rows("abcd", self.ROWS)  # type: ignore[arg-type]

    def test_a_closed_chain(self, four: list[SamplerChain]) -> None:
        four[2].close()
        with pytest.raises(llama_cy.ClosedError):
            sample_rows(four, self.ROWS)
        assert sample_rows(four[:2], self.ROWS[:2]).size == 2

    def test_a_chain_that_is_lent(self, four: list[SamplerChain]) -> None:
        capsule = llama_cy.to_capsule(four[1])
        with pytest.raises(llama_cy.ContextBusyError, match="chain 1 is in use"):
            sample_rows(four, self.ROWS)
        del capsule
        assert sample_rows(four, self.ROWS).size == 4

    @pytest.mark.parametrize("n_threads", [1, 3])
    def test_a_bad_row_keeps_all_from_accepting(self, n_threads: int) -> None:
        chains = [SamplerChain(Sampler.penalties(4, 1.0, 0.0, 100.0), Sampler.greedy()) for _ in range(4)]
        bad = self.ROWS.copy()
        bad[2, 77] = np.nan
        with pytest.raises(ValueError, match="row 2: the model computed NaN"):
            sample_rows(chains, bad, n_threads=n_threads)
        assert sample_rows(chains, self.ROWS).tolist() == self.ROWS.argmax(1).tolist()

    def test_a_chain_that_selects_nothing(self, four: list[SamplerChain]) -> None:
        with pytest.raises(ValueError, match="row 4: no sampler selected a token"):
            sample_rows([*four, SamplerChain(Sampler.top_k(3))], logits(5, 500))


def test_the_gil_is_free_meanwhile() -> None:
    chains = [llama_cy.SamplerChain(Sampler.temp(0.9), Sampler.dist(seed)) for seed in range(32)]
    rows = logits(32, 128_000)
    ticks: list[int] = []
    going = threading.Event()

    def tick() -> None:
        while not going.is_set():
            ticks.append(1)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        before = len(ticks)
        sample_rows(chains, rows, n_threads=1)
        assert len(ticks) > before
    finally:
        going.set()
        thread.join()
