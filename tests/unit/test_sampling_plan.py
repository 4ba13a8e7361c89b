"""The plan of a chain says which way it goes, and why; rows of one's own are checked."""

from __future__ import annotations

import math

import numpy as np
import pytest

import llama_cy
from llama_cy import Sampler, SamplerChain


class TestPlan:
    def test_the_usual_chain(self) -> None:
        with llama_cy.sampling(seed=1) as chain:
            assert chain.plan.one_pass == ("top_k(40)",)
            assert chain.plan.rest == ("top_p(0.95)", "min_p(0.05)", "temp(0.8)", "dist")
            assert str(chain.plan) == "one pass: top_k(40); then llama.cpp's top_p(0.95), min_p(0.05), temp(0.8), dist"

    def test_greedy(self) -> None:
        with llama_cy.sampling(temperature=0) as chain:
            assert str(chain.plan) == "one pass: greedy"

    def test_what_comes_before(self) -> None:
        with llama_cy.sampling(temperature=0, repeat_penalty=1.1, logit_bias={3: 1.0}) as chain:
            assert chain.plan.one_pass == ("logit_bias", "penalties", "greedy")

    def test_what_does_nothing_is_in_nobodys_way(self) -> None:
        with SamplerChain(Sampler.top_p(1.0), Sampler.top_k(0), Sampler.min_p(0.1), Sampler.dist(1)) as chain:
            assert chain.plan.one_pass == ("top_p(1)", "top_k(0)", "min_p(0.1)")

    @pytest.mark.parametrize(
        ("samplers", "reason"),
        [
            ([], "the chain is empty"),
            ([lambda: Sampler.temp(0.8)], "nothing in the chain leaves a few tokens only"),
            ([lambda: Sampler.temp(0.8), lambda: Sampler.dist(1)], "dist looks at the whole vocabulary"),
            ([lambda: Sampler.top_p(0.9), lambda: Sampler.top_k(4)], r"top_p(0.9) looks at the whole vocabulary"),
            ([Sampler.greedy, lambda: Sampler.top_k(4)], "greedy is not the last one"),
            ([lambda: Sampler.logit_bias(dict.fromkeys(range(300), 1.0)), Sampler.greedy],
             "300 tokens have a bias, more than 256"),
        ],
    )  # fmt: skip
    def test_why_not(self, samplers, reason) -> None:  # type: ignore[no-untyped-def]
        with SamplerChain(*(make() for make in samplers)) as chain:
            assert chain.plan.one_pass == ()
            assert str(chain.plan) == f"llama.cpp's own path: {reason}"

    def test_a_chain_in_a_chain(self) -> None:
        with SamplerChain(llama_cy.sampling(seed=1)) as chain:
            assert chain.plan.reason == "chain looks at the whole vocabulary"
        with SamplerChain(Sampler.top_k(3), llama_cy.sampling(seed=1)) as chain:
            assert chain.plan.rest == ("chain",)
        with SamplerChain(SamplerChain(Sampler.greedy())) as chain:
            assert chain.plan.one_pass == ("greedy",)

    def test_it_changes_with_the_chain(self) -> None:
        with SamplerChain() as chain:
            chain.add(Sampler.top_k(2))
            assert str(chain.plan) == "one pass: top_k(2)"
            chain.add(Sampler.dist(1))
            assert str(chain.plan) == "one pass: top_k(2); then llama.cpp's dist"
            with chain.clone() as twin:
                assert twin.plan == chain.plan

    def test_what_was_lent_to_c(self) -> None:
        with llama_cy.sampling(seed=1) as chain:
            llama_cy.to_capsule(chain)
            assert chain.plan.reason == "the sampler was lent to C"
            with SamplerChain(chain.clone()) as outer:
                assert not outer.plan.one_pass

    def test_of_what_is_closed(self) -> None:
        chain = llama_cy.sampling(seed=1)
        chain.close()
        with pytest.raises(llama_cy.ClosedError):
            _ = chain.plan


class TestRowsOfOnesOwn:
    @pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
    def test_shapes(self, shape: tuple[int, ...]) -> None:
        with llama_cy.sampling(temperature=0) as chain, pytest.raises(ValueError, match="row has shape"):
            chain.sample_logits(np.zeros(shape, dtype=np.float32))

    def test_types(self) -> None:
        with llama_cy.sampling(temperature=0) as chain, pytest.raises(TypeError, match="must be float32, not float64"):
            chain.sample_logits(np.zeros(4))  # type: ignore[arg-type]

    def test_strides(self) -> None:
        row = np.zeros((50, 2), dtype=np.float32)
        row[7, 1] = 1
        with llama_cy.sampling(temperature=0) as chain:
            assert chain.sample_logits(row[:, 1]) == 7
            assert chain.sample_logits(row[::-1, 1]) == 42

    def test_read_only(self) -> None:
        row = np.arange(50, dtype=np.float32)
        row.flags.writeable = False
        with llama_cy.sampling(temperature=0) as chain:
            assert chain.sample_logits(row) == 49

    def test_nothing_selected(self) -> None:
        with SamplerChain(Sampler.top_k(3)) as chain, pytest.raises(ValueError, match="no sampler selected a token"):
            chain.sample_logits(np.zeros(500, dtype=np.float32))

    def test_a_context_and_its_copied_row_agree(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=32) as context, llama_cy.sampling(seed=3) as one, llama_cy.sampling(seed=3) as two:
            context.decode([1, 2, 3])
            row = context.logits()
            assert [one.sample(context) for _ in range(9)] == [two.sample_logits(row) for _ in range(9)]

    def test_a_ban(self) -> None:
        row = np.arange(5000, dtype=np.float32)
        with llama_cy.sampling(temperature=0, logit_bias={4999: -math.inf, 9000: 3.0}) as chain:
            assert chain.sample_logits(row) == 4998
