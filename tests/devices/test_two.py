"""One model on two GPUs of one host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.llama_models import write_llama
from support.offload import GPUS
from support.oracle import relative_error

import llama_cy

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(len(GPUS) < 2, reason="needs two GPUs")]

N_LAYER = 8
PROMPT = [5, 9, 17, 33, 65, 12, 77]
SIZES: dict[str, Any] = {"n_layer": N_LAYER, "n_embd": 512, "n_head": 8, "n_head_kv": 4, "n_ff": 1024}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("two") / "model.gguf", weight_type="Q8_0", **SIZES)


def logits(model: llama_cy.Model) -> Any:
    with model.context(n_ctx=256, n_threads=1) as context:
        context.decode(PROMPT * 9)
        context.decode([8])
        return context.logits()


@pytest.fixture(scope="module")
def want(path: Path) -> Any:
    with llama_cy.Model(path, device="cpu") as model:
        return logits(model)


def test_logits_are_those_of_the_cpu(path: Path, want: Any) -> None:
    with llama_cy.Model(path, device=GPUS[:2], split_mode="layer") as model:
        assert relative_error(logits(model), want) < 0.3


def test_split_rows_where_a_backend_can(path: Path, want: Any) -> None:
    if GPUS[0].startswith(("CUDA", "Vulkan", "MTL")):
        # ggml's CUDA gave them up, others never had them; the load says so.
        with pytest.raises(llama_cy.ModelLoadError, match="does not support split buffers"):
            llama_cy.Model(path, device=GPUS[:2], split_mode="row")
    else:
        with llama_cy.Model(path, device=GPUS[:2], split_mode="row") as model:
            assert relative_error(logits(model), want) < 0.3


def test_layers_lie_on_both(path: Path) -> None:
    with llama_cy.Model(path, device=GPUS[:2], split_mode="layer") as model:
        placed = {one.device: one.layers for one in model.placement if one.device in GPUS}
        assert set(placed) == set(GPUS[:2])
        assert sorted(sum(placed.values(), ())) == list(range(N_LAYER))


def test_shares(path: Path, want: Any) -> None:
    with llama_cy.Model(path, device=GPUS[:2], tensor_split=[1, 3]) as model:
        placed = {one.device: len(one.layers) for one in model.placement}
        assert placed[GPUS[0]] < placed[GPUS[1]]
        assert relative_error(logits(model), want) < 0.3


@pytest.mark.parametrize("device", GPUS[:2])
def test_one_of_them(path: Path, want: Any, device: str) -> None:
    with llama_cy.Model(path, device=device) as model:
        assert {one.device for one in model.placement} <= {device, "CPU"}
        assert relative_error(logits(model), want) < 0.3


def test_the_main_one(path: Path) -> None:
    with llama_cy.Model(path, device=GPUS[:2], split_mode="none", main_gpu=1) as model:
        assert GPUS[0] not in {one.device for one in model.placement}
    with pytest.raises(ValueError, match="tensor_split has 3 shares for 2 devices"):
        llama_cy.Model(path, device=GPUS[:2], tensor_split=[1, 1, 1])
