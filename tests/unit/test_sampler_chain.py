"""Chains: what is in them, what leaves them, and what a copy of one takes along."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import llama_cy
from llama_cy import Sampler, SamplerChain


@pytest.fixture
def context(tiny: llama_cy.Model) -> Iterator[llama_cy.Context]:
    with tiny.context(n_ctx=64, n_threads=1) as opened:
        opened.decode([1, 2, 3])
        yield opened


def draws(sampler: Sampler, context: llama_cy.Context, n: int = 12) -> list[int]:
    return [sampler.sample(context) for _ in range(n)]


class TestMembers:
    def test_get(self) -> None:
        chain = SamplerChain(Sampler.top_k(5), Sampler.dist(7))
        assert (len(chain), chain.get(0).name, chain.get(-1).name, chain.get(1).seed) == (2, "top-k", "dist", 7)
        assert chain.get(0) is chain.get(-2)
        assert chain.get(0).closed
        with pytest.raises(llama_cy.ClosedError, match="moved into a chain"):
            chain.get(0).reset()

    @pytest.mark.parametrize("i", [2, -3, 10**30])
    def test_get_out_of_range(self, i: int) -> None:
        chain = SamplerChain(Sampler.top_k(5), Sampler.dist(7))
        for use in (chain.get, chain.remove):
            with pytest.raises(IndexError, match=r"range \[-2, 1\]"):
                use(i)
        with pytest.raises(IndexError, match="empty"):
            SamplerChain().get(0)

    def test_remove(self, context: llama_cy.Context) -> None:
        chain = SamplerChain(Sampler.top_k(1), Sampler.penalties(), Sampler.dist(7))
        cut = chain.remove(0)
        dist = chain.remove(-1)
        assert (cut.name, dist.name, len(chain), cut.closed) == ("top-k", "dist", 1, False)
        other = SamplerChain(dist)
        assert draws(other, context) == draws(SamplerChain(Sampler.dist(7)), context)
        with pytest.raises(ValueError, match="no sampler selected"):
            cut.sample(context)
        chain.close()
        cut.reset()

    def test_remove_keeps_the_state(self, context: llama_cy.Context) -> None:
        chain = SamplerChain(Sampler.dist(7))
        first = draws(chain, context)
        rest = draws(chain.remove(0), context)
        assert first + rest == draws(SamplerChain(Sampler.dist(7)), context, 24)

    def test_chain_in_a_chain(self, context: llama_cy.Context) -> None:
        inner = SamplerChain(Sampler.top_k(5), Sampler.dist(7))
        outer = SamplerChain(Sampler.temp(2), inner)
        assert (len(outer), outer.get(1).name, outer.seed) == (2, "chain", 7)
        twin = outer.clone()
        assert draws(outer, context) == draws(twin, context)
        back = twin.remove(1)
        assert isinstance(back, SamplerChain)
        assert back.get(0).name == "top-k"
        outer.close()
        assert inner.closed
        back.close()

    def test_clone_has_members(self) -> None:
        twin = SamplerChain(Sampler.top_k(5), Sampler.dist(7)).clone()
        assert (twin.get(1).name, twin.remove(0).name, repr(twin)) == ("dist", "top-k", "<SamplerChain dist>")


STATEFUL: dict[str, Callable[[llama_cy.Model], Sampler]] = {
    "dist": lambda _: Sampler.dist(1),
    "mirostat": lambda model: Sampler.mirostat(model.vocab.n_tokens, 1),
    "mirostat_v2": lambda _: Sampler.mirostat_v2(1),
    "xtc": lambda _: SamplerChain(Sampler.xtc(0.5, 0.0, seed=1), Sampler.greedy()),
    "penalties": lambda _: SamplerChain(Sampler.penalties(8, freq=9), Sampler.greedy()),
    "dry": lambda model: SamplerChain(Sampler.dry(model.vocab, 100, allowed_length=1), Sampler.greedy()),
}


@pytest.mark.parametrize("name", STATEFUL)
class TestState:
    def test_copy(self, tiny: llama_cy.Model, context: llama_cy.Context, name: str) -> None:
        src, dst = STATEFUL[name](tiny), STATEFUL[name](tiny)
        draws(src, context, 5)
        dst.copy(src)
        assert draws(dst, context) == draws(src, context)

    def test_clone(self, tiny: llama_cy.Model, context: llama_cy.Context, name: str) -> None:
        sampler = STATEFUL[name](tiny)
        draws(sampler, context, 5)
        with sampler.clone() as twin:
            assert draws(twin, context) == draws(sampler, context)

    def test_reset(self, tiny: llama_cy.Model, context: llama_cy.Context, name: str) -> None:
        sampler = STATEFUL[name](tiny)
        first = draws(sampler, context)
        sampler.reset()
        assert draws(sampler, context) == first


def test_adaptive_p_draws_from_the_seed_again(context: llama_cy.Context) -> None:
    sampler = Sampler.adaptive_p(-1, seed=1)
    first = draws(sampler, context)
    # llama.cpp's clone does not go on where the numbers were.
    assert draws(sampler.clone(), context) == first
    other = Sampler.adaptive_p(-1, seed=2)
    other.copy(sampler)
    assert draws(other, context) == first
    sampler.reset()
    assert draws(sampler, context) == first


class TestCopyRefuses:
    @pytest.mark.parametrize(
        "other",
        [
            lambda: Sampler.top_k(5),
            lambda: SamplerChain(Sampler.dist(1)),
            lambda: SamplerChain(Sampler.dist(1), Sampler.top_k(1)),
            SamplerChain,
        ],
    )
    def test_other_kinds(self, other: Callable[[], Sampler]) -> None:
        chain = SamplerChain(Sampler.top_k(1), Sampler.dist(1))
        with other() as src, pytest.raises(ValueError, match="not of the same kind"):
            chain.copy(src)
        with pytest.raises(TypeError):
            chain.copy(None)  # type: ignore[arg-type]

    def test_itself(self) -> None:
        chain = llama_cy.sampling(seed=1)
        chain.copy(chain)
        assert chain.seed == 1


class TestPerf:
    def test_counts_and_measures(self, context: llama_cy.Context) -> None:
        chain = SamplerChain(Sampler.top_k(5), Sampler.dist(1), no_perf=False)
        assert chain.perf() == (0.0, 0)
        draws(chain, context, 5)
        assert chain.perf().n_sample == 5
        assert chain.perf().t_sample > 0
        chain.perf_reset()
        assert chain.perf() == (0.0, 0)

    def test_no_times_unless_asked_for(self, context: llama_cy.Context) -> None:
        chain = llama_cy.sampling(seed=1)
        draws(chain, context, 5)
        assert chain.perf() == (0.0, 5)


def test_a_chain_that_can_not_be_made_gives_its_samplers_back() -> None:
    first, second = Sampler.greedy(), Sampler.dist(1)
    with pytest.raises(TypeError, match="int"):
        SamplerChain(first, second, 5)  # type: ignore[arg-type]
    with pytest.raises(llama_cy.ClosedError, match="moved"):
        SamplerChain(first, first)
    assert len(SamplerChain(second, first)) == 2
