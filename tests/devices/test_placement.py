"""The books tell what is on a GPU, and a plan tells it before."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.llama_models import write_llama
from support.offload import GPUS, PARTS, on_gpu

import llama_cy

pytestmark = [pytest.mark.gpu, pytest.mark.parametrize("device", GPUS)]

N_LAYER = 4


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("placement") / "model.gguf", n_layer=N_LAYER)


@pytest.mark.parametrize("part", PARTS)
def test_layers_are_where_they_were_sent(path: Path, device: str, part: str) -> None:
    n = PARTS[part](N_LAYER)
    with llama_cy.Model(path, **on_gpu(device, part, N_LAYER)) as model:
        placed = {one.device: one for one in model.placement}
        first = 0 if n < 0 else N_LAYER + 1 - n
        assert placed[device].layers == tuple(range(first, N_LAYER))
        assert placed["CPU"].layers == tuple(range(first))
        assert sum(one.nbytes for one in placed.values()) == model.size


@pytest.mark.parametrize("part", PARTS)
def test_a_plan_is_what_comes(path: Path, device: str, part: str) -> None:
    params = on_gpu(device, part, N_LAYER)
    plan = llama_cy.plan_memory(path, n_ctx=512, **params)
    planned = {one.device: one for one in plan.devices}
    with llama_cy.Model(path, load_mode="none", **params) as model, model.context(n_ctx=512) as context:
        used = [use for use in context.memory_breakdown() if use.device == device]
        assert planned[device].model == sum(use.model for use in used)
        assert planned[device].context == sum(use.context for use in used)
        assert planned[device].compute == sum(use.compute for use in used)


def test_all_that_fits(path: Path, device: str) -> None:
    with llama_cy.Model(path, device=device, n_gpu_layers="fit") as model:
        assert model.placement[0].device == device
    with llama_cy.Model(path) as model:
        assert model.placement[0].device in GPUS


def test_a_model_larger_than_the_gpu(path: Path, device: str) -> None:
    # Keys and values of more than a terabyte; the model is as good as before.
    with llama_cy.Model(path, device=device) as model:
        with pytest.raises(llama_cy.ContextError):
            model.context(n_ctx=2**31 - 256, n_seq_max=64, kv_unified=False)
        with model.context(n_ctx=64) as context:
            context.decode([1, 2, 3])


def test_what_is_not_there(path: Path, device: str) -> None:
    backend = device.rstrip("0123456789").lower()
    with pytest.raises(llama_cy.BackendError, match=f"no device '{backend}:99'.*{device}"):
        llama_cy.Model(path, device=f"{backend}:99")
    with pytest.raises(ValueError, match="tensor_split has"):
        llama_cy.Model(path, device=device, tensor_split=[1.0] * (len(GPUS) + 5))
    with pytest.raises(ValueError, match="n_gpu_layers"):
        llama_cy.Model(path, device=device, n_gpu_layers=-5)
