"""Where there is no GPU to split tensors over, that is said before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.offload import GPUS

import llama_cy

NONE = r'split_mode="tensor" splits each tensor over GPUs; device is .*; present: cpu'


def test_the_cpu_takes_no_part(tiny_path: Path) -> None:
    modes: list[Any] = ["tensor", llama_cy.SplitMode.TENSOR, 3]
    for mode in modes:
        with pytest.raises(llama_cy.BackendError, match=NONE):
            llama_cy.Model(tiny_path, device="cpu", split_mode=mode)
    with pytest.raises(llama_cy.BackendError, match=NONE):
        llama_cy.plan_memory(tiny_path, device="cpu", split_mode="tensor")


def test_where_nothing_is_chosen(tiny_path: Path) -> None:
    if not GPUS:
        for layers in ("auto", 0, "fit"):
            with pytest.raises(llama_cy.BackendError, match=NONE):
                llama_cy.Model(tiny_path, split_mode="tensor", n_gpu_layers=layers)
    else:
        with llama_cy.Model(tiny_path, split_mode="tensor") as model:
            assert model.placement[0].device == "+".join(GPUS)
