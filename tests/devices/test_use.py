"""Loops, states and callbacks with a model on a GPU, or half of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.llama_models import write_llama
from support.offload import GPUS, on_gpu
from support.oracle import relative_error

import llama_cy

pytestmark = pytest.mark.gpu

N_LAYER = 4
PROMPT = [5, 9, 17, 33, 65, 12, 77]
CHAINS: dict[str, Any] = {
    "greedy": lambda: llama_cy.sampling(temperature=0),
    "usual": lambda: llama_cy.sampling(seed=3),
    "penalties": lambda: llama_cy.sampling(seed=4, repeat_penalty=1.4, temperature=2.0),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("use") / "model.gguf", n_layer=N_LAYER, n_ctx_train=4096)


@pytest.fixture(scope="module", params=[(device, part) for device in GPUS for part in ("half", "all")], ids=str)
def model(request: pytest.FixtureRequest, path: Path) -> Iterator[llama_cy.Model]:
    device, part = request.param
    with llama_cy.Model(path, **on_gpu(device, part, N_LAYER)) as loaded:
        yield loaded


def decode_for_ever(context: llama_cy.Context) -> None:
    while True:
        context.memory.clear()
        context.decode(PROMPT * 500)


@pytest.fixture
def context(model: llama_cy.Model) -> Iterator[llama_cy.Context]:
    with model.context(n_ctx=512, n_seq_max=2, n_ubatch=64, n_threads=2) as opened:
        yield opened


@pytest.mark.parametrize("name", CHAINS)
def test_all_loops_are_one(context: llama_cy.Context, name: str) -> None:
    options: dict[str, Any] = {"max_tokens": 60, "ignore_eog": True, "reuse": False}
    context.decode(PROMPT)
    tokens: list[int] = []
    with CHAINS[name]() as chain:
        for _ in range(60):
            tokens.append(chain.sample(context))
            context.decode(tokens[-1:])
    text = context.vocab.detokenize(tokens)
    for run_ahead in (0, 3):
        with CHAINS[name]() as chain:
            assert list(context.generate(PROMPT, chain, run_ahead=run_ahead, **options)) == tokens
        with CHAINS[name]() as chain:
            assert "".join(context.stream(PROMPT, chain, run_ahead=run_ahead, **options)) == text
    with CHAINS[name]() as chain:
        assert context.complete(PROMPT, chain, **options).tokens == tokens


def test_breaking_off_leaves_the_memory_where_the_caller_is(context: llama_cy.Context) -> None:
    greedy = llama_cy.sampling(temperature=0)
    loop = context.generate(PROMPT, greedy, run_ahead=4, max_tokens=50, ignore_eog=True)
    seen = [next(loop) for _ in range(5)]
    loop.close()
    got = context.memory.seq_pos_max(), context.logits()
    context.memory.clear()
    plain = context.generate(PROMPT, greedy, max_tokens=50, ignore_eog=True, reuse=False)
    assert [next(plain) for _ in seen] == seen
    plain.close()
    assert context.memory.seq_pos_max() == got[0]
    assert np.array_equal(context.logits(), got[1])


def test_a_state_goes_from_the_gpu_to_the_cpu_and_back(model: llama_cy.Model, path: Path) -> None:
    params: dict[str, Any] = {"n_ctx": 128, "n_threads": 1, "flash_attn_type": "disabled"}
    with (
        model.context(**params) as here,
        llama_cy.Model(path, device="cpu") as other,
        other.context(**params) as there,
    ):
        here.decode(PROMPT)
        there.state.set(here.state.get())
        for context in (here, there):
            context.decode([3, 4])
        assert relative_error(there.logits(), here.logits()) < 2e-2
        here.state.set(there.state.get())
        for context in (here, there):
            context.decode([8])
        assert relative_error(there.logits(), here.logits()) < 2e-2


def test_a_snapshot_brings_the_very_logits_back(context: llama_cy.Context) -> None:
    context.decode(PROMPT)
    for on_device in (False, True):
        kept = context.state.take(seq_id=0, on_device=on_device)
        context.decode([9])
        want = context.logits()
        context.state.give(kept)
        context.decode([9])
        assert np.array_equal(context.logits(), want)
        context.state.give(kept)


def test_a_long_prompt_is_cancelled(model: llama_cy.Model) -> None:
    with model.context(n_ctx=4096, n_ubatch=16, n_threads=1) as context:
        timer = threading.Timer(0.01, context.cancel)
        timer.start()
        with pytest.raises(llama_cy.DecodeAborted):
            decode_for_ever(context)
        timer.join()
        context.memory.clear()
        context.decode(PROMPT)
        want = context.logits()
        context.memory.clear()
        context.decode(PROMPT)
        assert np.array_equal(context.logits(), want)


def test_an_eval_callback_sees_tensors_of_the_gpu(model: llama_cy.Model) -> None:
    seen: dict[str, Any] = {}
    with model.context(
        n_ctx=64,
        n_threads=1,
        eval_callback=lambda tensor: seen.__setitem__(tensor.name, np.array(tensor.data)),
        eval_filter=lambda tensor: tensor.name == "result_output",
    ) as context:
        context.decode(PROMPT)
        assert np.array_equal(seen["result_output"].reshape(-1)[-context.n_vocab :], context.logits())


def test_contexts_in_threads(model: llama_cy.Model) -> None:
    options: dict[str, Any] = {"max_tokens": 40, "ignore_eog": True}
    with model.context(n_ctx=256, n_threads=1) as context:
        want = context.complete(PROMPT, llama_cy.sampling(temperature=0), **options).tokens
    found: list[list[int]] = []

    def work() -> None:
        with model.context(n_ctx=256, n_threads=1) as context:
            for _ in range(5):
                found.append(context.complete(PROMPT, llama_cy.sampling(temperature=0), **options).tokens)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [want] * 20


def test_sampling_on_the_device(model: llama_cy.Model) -> None:
    with model.context(n_ctx=256, n_threads=1) as context:
        want = context.complete(PROMPT, llama_cy.sampling(temperature=0), max_tokens=40, ignore_eog=True).tokens
    chain = llama_cy.SamplerChain(llama_cy.Sampler.greedy())
    with model.context(n_ctx=256, n_threads=1) as context:
        context.set_sampler(0, chain)
        context.decode(PROMPT)
        tokens: list[int] = []
        for _ in range(40):
            tokens.append(chain.sample(context))
            context.decode(tokens[-1:])
    assert tokens == want
