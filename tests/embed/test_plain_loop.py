"""The loop written in C with llama.cpp's own sampling gives the tokens that ours gives."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.extension import build_extension, import_extension

import llama_cy
from llama_cy import Sampler, SamplerChain

CHAINS: dict[str, Any] = {
    "greedy": lambda: llama_cy.sampling(temperature=0),
    "usual": lambda: llama_cy.sampling(seed=1),
    "hot": lambda: llama_cy.sampling(temperature=2.5, top_k=0, top_p=1.0, min_p=0.1, seed=2),
    "penalties": lambda: llama_cy.sampling(repeat_penalty=1.3, frequency_penalty=0.2, presence_penalty=0.1, seed=3),
    "penalties and greedy": lambda: llama_cy.sampling(temperature=0, repeat_penalty=1.3, penalty_last_n=16),
    "bias": lambda: llama_cy.sampling(logit_bias={5: -float("inf"), 300: 4.0, 301: -2.0}, seed=4),
    "temperature first": lambda: SamplerChain(Sampler.temp(1.5), Sampler.top_k(20), Sampler.dist(5)),
    "no pass": lambda: SamplerChain(Sampler.temp(0.9), Sampler.top_p(0.9), Sampler.dist(6)),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return import_extension(build_extension(Path(__file__).parent / "plain_loop.pyx", tmp_path_factory.mktemp("plain")))


@pytest.mark.parametrize("name", CHAINS)
def test_tokens_are_those_of_the_loop_in_c(plain: ModuleType, demo: llama_cy.Model, name: str) -> None:
    prompt = demo.vocab.tokenize("Once upon a time")
    options: dict[str, Any] = {"n_ctx": 256, "n_threads": 1}
    with demo.context(**options) as ours, demo.context(**options) as theirs, CHAINS[name]() as chain:
        assert bool(chain.plan.one_pass) == (name != "no pass")
        got = list(ours.generate(prompt, chain, max_tokens=120, ignore_eog=True, reuse=False))
        context, sampler = llama_cy.to_capsule(theirs), llama_cy.to_capsule(chain)
        want = plain.plain_loop(context, sampler, prompt, 120)
        del context, sampler
    assert got == want
    assert len(got) == 120
