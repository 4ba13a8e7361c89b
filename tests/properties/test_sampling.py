"""One pass over the logits chooses the very tokens that llama.cpp chooses from the whole vocabulary."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from support import child

import llama_cy
from llama_cy import Sampler, SamplerChain

Row = npt.NDArray[np.float32]

temperatures = st.sampled_from([0.0, 0.05, 0.7, 0.8, 1.0, 1.3, 30.0])
probabilities = st.sampled_from([0.0, 1e-30, 0.001, 0.05, 0.3, 0.9, 1.0])


def plain(chain: SamplerChain) -> SamplerChain:
    """Copy a chain for llama.cpp's own path: what was lent to C is not second-guessed."""
    twin = chain.clone()
    llama_cy.to_capsule(twin)
    assert not twin.plan.one_pass
    return twin


def distinct(rng: np.random.Generator, n: int, scale: float) -> Row:
    """Make logits of which no two are the same."""
    values = np.unique(rng.normal(0, scale, n + n // 8 + 8).astype(np.float32))
    return rng.permutation(values)[:n].astype(np.float32)


@st.composite
def rows(draw: st.DrawFn, sizes: st.SearchStrategy[int]) -> list[Row]:
    n = draw(sizes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([1e-3, 1.0, 4.0, 1e4, 1e9]))
    every = []
    for _ in range(draw(st.integers(1, 5))):
        row = distinct(rng, n, scale)
        if draw(st.integers(0, 3)) == 0:
            row[rng.random(n) < draw(st.sampled_from([0.1, 0.9]))] = -np.inf
        every.append(row)
    return every


def cuts(n: int) -> st.SearchStrategy[Any]:
    few = st.sampled_from([1, 2, 5, 40, 129, 300])
    return st.one_of(
        st.tuples(st.just("top_k"), few),
        st.tuples(st.just("min_p"), probabilities, st.sampled_from([1, 1, 3, 200])),
        st.tuples(st.just("greedy")),
        st.tuples(st.just("top_k"), st.just(0)),
        st.tuples(st.just("top_p"), probabilities),
    )


@st.composite
def recipes(draw: st.DrawFn, n: int) -> list[tuple[Any, ...]]:
    """Draw the names and parameters of a chain."""
    tokens = st.integers(0, n + 3)
    biases = st.dictionaries(tokens, st.sampled_from([-math.inf, -3.0, 0.5, 20.0]), max_size=6)
    penalty = st.sampled_from([0.5, 1.0, 1.1, 2.0])
    before = st.one_of(
        st.tuples(st.just("logit_bias"), biases),
        st.tuples(st.just("penalties"), st.sampled_from([0, 1, 3, 64]), penalty, st.sampled_from([0.0, 0.4, -0.4]),
                  st.sampled_from([0.0, 1.0])),
        st.tuples(st.just("temp"), temperatures),
    )  # fmt: skip
    after = st.one_of(
        st.tuples(st.just("top_p"), probabilities), st.tuples(st.just("min_p"), probabilities),
        st.tuples(st.just("temp"), temperatures), st.tuples(st.just("top_k"), st.sampled_from([1, 3, 20])),
    )  # fmt: skip
    cut = draw(cuts(n))
    steps = [*draw(st.lists(before, max_size=3)), cut]
    if cut[0] == "greedy":
        return steps
    return [*steps, *draw(st.lists(after, max_size=3)), ("dist", draw(st.integers(0, 2**32 - 2)))]


def chain_of(recipe: list[tuple[Any, ...]]) -> SamplerChain:
    return SamplerChain(*(getattr(Sampler, name)(*arguments) for name, *arguments in recipe))


def result(chain: Sampler, row: Row) -> int | str:
    """Choose a token, or say why there is none: a row may have nothing but -inf."""
    try:
        return chain.sample_logits(row)
    except ValueError as error:
        return str(error)


def agree(recipe: list[tuple[Any, ...]], every: list[Row], history: list[int]) -> None:
    with chain_of(recipe) as chain, plain(chain) as reference:
        event("one pass" if chain.plan.one_pass else "own path")
        for token in history:
            chain.accept(token)
            reference.accept(token)
        for row in every:
            before = row.copy()
            assert result(chain, row) == result(reference, row)
            assert np.array_equal(row, before)


@given(data=st.data(), every=rows(st.integers(8, 3000)))
def test_tokens_are_llama_cpps(data: st.DataObject, every: list[Row]) -> None:
    n = every[0].size
    history = data.draw(st.lists(st.integers(0, n + 3), max_size=80))
    for _ in range(4):
        agree(data.draw(recipes(n)), every, history)


@given(data=st.data(), every=rows(st.sampled_from([32_000, 128_256])))
def test_tokens_of_large_vocabularies_are_llama_cpps(data: st.DataObject, every: list[Row]) -> None:
    agree(data.draw(recipes(every[0].size)), every[:2], data.draw(st.lists(st.integers(0, 9), max_size=20)))


@given(data=st.data(), n=st.integers(8, 3000), kinds=st.integers(1, 6), seed=st.integers(0, 2**32))
def test_a_tie_is_won_by_one_of_those_that_tie(data: st.DataObject, n: int, kinds: int, seed: int) -> None:
    row = np.random.default_rng(seed).integers(0, kinds, n).astype(np.float32)
    recipe = [step for step in data.draw(recipes(n)) if step[0] != "penalties"]
    with chain_of(recipe) as chain, plain(chain) as reference:
        for _ in range(4):
            assert row[chain.sample_logits(row)] == row[reference.sample_logits(row)] or "logit_bias" in str(recipe)


@pytest.mark.parametrize("n", [64, 5000])
def test_all_that_tie_have_the_same_chance(n: int) -> None:
    row = np.zeros(n, dtype=np.float32)
    row[[3, 9, 27, 33]] = 5
    with SamplerChain(Sampler.top_k(4), Sampler.dist(seed=5)) as chain:
        drawn = Counter(chain.sample_logits(row) for _ in range(4000))
    assert sorted(drawn) == [3, 9, 27, 33]
    assert all(850 < count < 1150 for count in drawn.values())


@pytest.mark.parametrize("n", [8, 300, 5000])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.nan])
@pytest.mark.parametrize("temperature", [0, 0.8])
def test_what_has_no_order_is_refused(n: int, bad: float, temperature: float) -> None:
    rng = np.random.default_rng(1)
    with llama_cy.sampling(temperature=temperature, seed=1) as chain, plain(chain) as reference:
        for place in (0, n // 2, n - 1):
            row = rng.normal(0, 1, n).astype(np.float32)
            row[place] = bad
            for either in (chain, reference):
                with pytest.raises(ValueError, match="NaN or infinity for a logit"):
                    either.sample_logits(row)
        row[:] = 0
        row[place] = 1
        assert chain.sample_logits(row) == reference.sample_logits(row)


def test_a_row_without_any_chance() -> None:
    row = np.full(5000, -np.inf, dtype=np.float32)
    with llama_cy.sampling(temperature=0) as chain, plain(chain) as reference:
        for either in (chain, reference):
            with pytest.raises(ValueError, match="rule out every token"):
                either.sample_logits(row)


def drawn_from_many_rows() -> list[int]:
    """Choose tokens by several chains from rows of awkward sizes."""
    rng = np.random.default_rng(8)
    tokens = []
    for n in (1, 7, 31, 32, 33, 255, 257, 2999, 40_001):
        for options in ({"temperature": 0}, {"repeat_penalty": 1.2}, {"top_k": 0, "top_p": 1.0}):
            with llama_cy.sampling(seed=n, **options) as chain:
                tokens += [chain.sample_logits(distinct(rng, n, 3)) for _ in range(5)]
    return tokens


def test_narrow_vectors_choose_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "from properties.test_sampling import drawn_from_many_rows; print(drawn_from_many_rows())"
    monkeypatch.setitem(child.ENVIRON, "LLAMA_CY_VECTOR_BYTES", "16")
    assert child.check_output(script) == f"{drawn_from_many_rows()}\n"


class TestWhatTheChainRemembers:
    ROW = np.linspace(0, 1, 3000, dtype=np.float32)

    def chain(self) -> SamplerChain:
        return SamplerChain(Sampler.penalties(2, 1.0, 0.0, 100.0), Sampler.greedy())

    def test_it_looks_back_so_far(self) -> None:
        with self.chain() as chain:
            assert [chain.sample_logits(self.ROW) for _ in range(5)] == [2999, 2998, 2997, 2999, 2998]

    def test_a_clone_remembers_too(self) -> None:
        with self.chain() as chain:
            chain.sample_logits(self.ROW)
            with chain.clone() as twin:
                assert [twin.sample_logits(self.ROW), twin.sample_logits(self.ROW)] == [2998, 2997]
            assert chain.sample_logits(self.ROW) == 2998

    def test_reset_forgets(self) -> None:
        with self.chain() as chain:
            chain.sample_logits(self.ROW)
            chain.reset()
            assert chain.sample_logits(self.ROW) == 2999

    def test_what_a_sampler_accepted_before_it_moved(self) -> None:
        penalties = Sampler.penalties(2, 1.0, 0.0, 100.0)
        penalties.accept(2999)
        with SamplerChain(penalties, Sampler.greedy()) as chain, plain(chain) as reference:
            expected = [reference.sample_logits(self.ROW) for _ in range(4)]
            assert [chain.sample_logits(self.ROW) for _ in range(4)] == expected == [2998, 2997, 2999, 2998]

    def test_many_penalties(self) -> None:
        rng = np.random.default_rng(3)
        with llama_cy.sampling(repeat_penalty=1.5, penalty_last_n=2000, seed=4) as chain, plain(chain) as reference:
            for token in rng.integers(0, 3000, 1000):
                chain.accept(token)
                reference.accept(token)
            for _ in range(5):
                row = distinct(rng, 3000, 3)
                assert chain.sample_logits(row) == reference.sample_logits(row)
