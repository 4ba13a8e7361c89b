"""Each tensor split over GPUs, or whole on one: what it gives, what it says of itself, and what it refuses.

One GPU can be two here: ``GGML_CUDA_DEVICES=2`` or ``GGML_VK_VISIBLE_DEVICES=0,0``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.encoder_models import write_bert
from support.gemma_models import write_gemma3
from support.llama_models import write_llama
from support.lora import random_lora, write_lora
from support.offload import GPUS
from support.oracle import relative_error
from support.precision import ROUNDED
from support.recurrent_models import write_lfm2, write_mamba

import llama_cy

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="needs a GPU")]

N_LAYER = 4
PROMPT = [5, 9, 17, 33, 65, 12, 77]
CONTEXT: dict[str, Any] = {"n_ctx": 256, "n_threads": 1}
# As many heads of keys and values as there may be devices to split them over, of a size that CUDA's attention has.
SIZES: dict[str, Any] = {"n_layer": N_LAYER, "n_embd": 256, "n_head": 4, "n_head_kv": 4, "n_ff": 512}
PATHS: dict[str, Callable[[Path], Path]] = {
    "llama": lambda path: write_llama(path, **SIZES),
    "llama-q8_0": lambda path: write_llama(path, weight_type="Q8_0", **SIZES),
    "two heads": lambda path: write_llama(path, n_embd=128, n_head=2, n_head_kv=2),
    "gemma3": lambda path: write_gemma3(path, head_dim=64),
    "lfm2": lambda path: write_lfm2(path, n_embd=256),
}


def rows(model: llama_cy.Model) -> NDArray[np.float32]:
    with model.context(**CONTEXT) as context:
        context.decode(PROMPT * 9)
        found = [context.logits()]
        for token in PROMPT:
            context.decode([token])
            found.append(context.logits())
    return np.stack(found)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("split") / "model.gguf", **SIZES)


@pytest.fixture(scope="module", params=[1, len(GPUS)] if len(GPUS) > 1 else [1], ids=lambda n: f"over {n}")
def over(request: pytest.FixtureRequest) -> list[str]:
    return GPUS[: request.param]


@pytest.fixture(scope="module")
def model(path: Path, over: list[str]) -> Iterator[llama_cy.Model]:
    with llama_cy.Model(path, device=over, split_mode="tensor") as loaded:
        yield loaded


@pytest.mark.parametrize("arch", PATHS)
def test_logits_are_those_of_the_cpu(tmp_path: Path, arch: str, over: list[str]) -> None:
    path = PATHS[arch](tmp_path / "model.gguf")
    with llama_cy.Model(path, device="cpu") as model:
        want = rows(model)
    with llama_cy.Model(path, device=over, split_mode="tensor") as model:
        assert relative_error(rows(model), want) < (0.3 if arch.endswith("q8_0") else ROUNDED["attention"])


@pytest.mark.skipif(not GPUS or not GPUS[0].startswith("CUDA"), reason="flash attention of others has heads of 16")
def test_heads_that_flash_attention_has_not(tmp_path: Path, over: list[str]) -> None:
    """A split needs flash attention, and what it can't do goes to the CPU, which has no part of a split."""
    path = write_llama(tmp_path / "model.gguf", n_embd=64, n_head=4)
    with (
        llama_cy.Model(path, device=over, split_mode="tensor") as model,
        model.context(**CONTEXT) as context,
        pytest.raises(llama_cy.DecodeError, match="unsupported mul_mat split states"),
    ):
        context.decode(PROMPT)


def test_it_says_over_which_devices(model: llama_cy.Model, over: list[str]) -> None:
    placed = {one.device: one for one in model.placement}
    name = "+".join(over)
    assert placed[name].layers == tuple(range(N_LAYER))
    assert sum(one.nbytes for one in placed.values()) == model.size
    with model.context(**CONTEXT) as context:
        (used,) = [use for use in context.memory_breakdown() if use.device == name]
    # Of the one that has most: norms are on all of them, and shares are whole heads.
    assert placed[name].nbytes / len(over) <= used.model
    assert used.model < placed[name].nbytes * (1.01 if len(over) == 1 else 0.9)


def test_the_last_layers_alone(path: Path, over: list[str]) -> None:
    with llama_cy.Model(path, device=over, split_mode="tensor", n_gpu_layers=3) as model:
        placed = {one.device: one.layers for one in model.placement}
        assert placed == {"+".join(over): (2, 3), "CPU": (0, 1)}
        split = rows(model)
    with llama_cy.Model(path, device="cpu") as model:
        assert relative_error(split, rows(model)) < ROUNDED["attention"]


def test_loops_are_one(model: llama_cy.Model) -> None:
    options: dict[str, Any] = {"max_tokens": 40, "ignore_eog": True, "reuse": False}
    with model.context(**CONTEXT) as context:
        tokens = [
            list(context.generate(PROMPT, llama_cy.sampling(temperature=0), run_ahead=n, **options)) for n in (0, 3)
        ]
        assert tokens[0] == tokens[1]
        context.decode([5])


@pytest.mark.parametrize("on_device", [False, True])
def test_states_come_back(model: llama_cy.Model, on_device: bool) -> None:
    with model.context(**CONTEXT) as context:
        context.decode(PROMPT)
        kept = context.state.take(seq_id=0, on_device=on_device)
        whole = context.state.get()
        context.decode([9])
        want = context.logits()
        context.state.give(kept)
        context.decode([9])
        assert relative_error(context.logits(), want) < ROUNDED["attention"]
        context.state.set(whole)
        context.decode([9])
        assert relative_error(context.logits(), want) < ROUNDED["attention"]


def test_embeddings(tmp_path: Path, over: list[str]) -> None:
    path = write_bert(tmp_path / "model.gguf", n_embd=256)
    found = []
    for params in ({"device": "cpu"}, {"device": over, "split_mode": "tensor"}):
        with llama_cy.Model(path, **params) as model:
            found.append(model.embed("one text"))
            if params["device"] != "cpu":
                # llama.cpp asserts where it would read the second one of a batch; the process goes on.
                with pytest.raises(llama_cy.DecodeError, match="GGML_ASSERT"):
                    model.embed(["one text", "x"])
                found.append(model.embed("one text"))
    assert all(relative_error(one, found[0]) < ROUNDED["attention"] for one in found)


def test_what_llama_cpp_can_not(model: llama_cy.Model, path: Path, over: list[str], tmp_path: Path) -> None:
    with pytest.raises(llama_cy.ContextError, match="requires flash_attn to be enabled"):
        model.context(flash_attn_type="disabled", **CONTEXT)
    with pytest.raises(llama_cy.ModelLoadError, match="not implemented for architecture 'mamba'"):
        llama_cy.Model(write_mamba(tmp_path / "mamba.gguf"), device=over, split_mode="tensor")
    with pytest.raises(ValueError, match="can't be planned"):
        llama_cy.plan_memory(path, device=over, split_mode="tensor")
    with pytest.raises(ValueError, match="can't be planned"):
        llama_cy.Model(path, device=over, split_mode="tensor", n_gpu_layers="fit")
    with pytest.raises(llama_cy.LlamaError, match="can't save this model: its tensors are split over"):
        model.save(tmp_path / "saved.gguf")
    assert not list(tmp_path.glob("saved*"))


def test_an_adapter_of_a_split_tensor(model: llama_cy.Model, tmp_path: Path) -> None:
    lora = write_lora(tmp_path / "lora.gguf", random_lora({"blk.0.ffn_down.weight": (256, 512)}), alpha=1.0)
    with model.context(**CONTEXT) as context:
        context.set_adapters({model.load_adapter(lora): 1.0})
        with pytest.raises(llama_cy.DecodeError, match="unsupported mul_mat split states"):
            context.decode(PROMPT)
    with model.context(**CONTEXT) as context:
        context.decode(PROMPT)
