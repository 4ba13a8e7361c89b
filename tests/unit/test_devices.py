"""Devices by name, what lies where, and what would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from support.encoder_models import write_t5
from support.gemma_models import write_gemma3
from support.llama_models import write_llama
from support.recurrent_models import write_jamba, write_mamba

import llama_cy
from llama_cy import device_choice, memory_plan


def device(name: str, kind: llama_cy.DeviceType = llama_cy.DeviceType.GPU) -> llama_cy.Device:
    return llama_cy.Device(name, name, kind, 2**30, 2**31, name.rstrip("0123456789"))


CPU = device("CPU", llama_cy.DeviceType.CPU)
MACHINES = {
    "two cards": [device("CUDA0"), device("CUDA1"), CPU],
    "mac": [device("MTL0"), device("BLAS", llama_cy.DeviceType.ACCEL), CPU],
    "laptop": [device("Vulkan0", llama_cy.DeviceType.IGPU), device("CUDA0"), CPU],
    "cpu": [CPU],
}


def chosen(monkeypatch: pytest.MonkeyPatch, machine: str, wanted: object) -> list[str] | None:
    monkeypatch.setattr(device_choice, "devices", lambda: MACHINES[machine])
    found = device_choice.choose_devices(wanted)
    return None if found is None else [one.name for one in found]


@pytest.mark.parametrize(
    ("machine", "wanted", "expected"),
    [
        ("two cards", "auto", None),
        ("cpu", "auto", None),
        ("two cards", "cpu", []),
        ("two cards", CPU, []),
        ("two cards", "cuda", ["CUDA0", "CUDA1"]),
        ("two cards", "cuda:1", ["CUDA1"]),
        ("two cards", "CUDA1", ["CUDA1"]),
        ("two cards", ["cuda:1", "cuda:0"], ["CUDA1", "CUDA0"]),
        ("two cards", device("CUDA1"), ["CUDA1"]),
        ("mac", "metal", ["MTL0"]),
        ("mac", "Metal:0", ["MTL0"]),
        ("laptop", "vulkan", ["Vulkan0"]),
        ("laptop", ("vulkan", "cuda"), ["Vulkan0", "CUDA0"]),
    ],
)
def test_choice(monkeypatch: pytest.MonkeyPatch, machine: str, wanted: object, expected: list[str] | None) -> None:
    assert chosen(monkeypatch, machine, wanted) == expected


@pytest.mark.parametrize(
    ("machine", "wanted", "words"),
    [
        ("cpu", "metal", "no device 'metal' in this build and on this machine; present: cpu$"),
        ("two cards", "cuda:7", r"no device 'cuda:7': of that backend there are 2; present: cpu, CUDA0, CUDA1$"),
        ("two cards", "cuda:-1", "of that backend there are 2"),
        ("two cards", "cuda:", "of that backend there are 2"),
        ("two cards", "cuad", "did you mean 'cuda'"),
        ("mac", "metall", "did you mean 'metal'"),
        ("mac", "BLAS", "no device 'BLAS'"),
        ("cpu", "", "no device ''"),
        ("two cards", ["cuda", "cpu"], "no device 'cpu'"),
    ],
)
def test_absent(monkeypatch: pytest.MonkeyPatch, machine: str, wanted: object, words: str) -> None:
    with pytest.raises(llama_cy.BackendError, match=words):
        chosen(monkeypatch, machine, wanted)


def test_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="'CUDA0' is given twice"):
        chosen(monkeypatch, "two cards", ["cuda", "cuda:0"])


@pytest.mark.parametrize("wanted", [3, None, [0], [None]])
def test_no_device_at_all(wanted: object) -> None:
    with pytest.raises(TypeError, match="device must be a str, a Device or several of them"):
        device_choice.choose_devices(wanted)


def test_a_model_says_what_is_missing(tiny_path: Path) -> None:
    with pytest.raises(llama_cy.BackendError, match="no device 'cuda:77'"):
        llama_cy.Model(tiny_path, device="cuda:77")
    with pytest.raises(llama_cy.BackendError, match='n_gpu_layers is 2 but device is "cpu"'):
        llama_cy.Model(tiny_path, device="cpu", n_gpu_layers=2)
    with pytest.raises(ValueError, match="tensor_split has 1 shares for 0 devices"):
        llama_cy.Model(tiny_path, device="cpu", tensor_split=[1.0])


def test_features() -> None:
    cpu = next(one for one in llama_cy.devices() if one.name == "CPU")
    assert cpu.backend == "CPU"
    assert cpu.features
    assert all(f"{name} = {value}" in llama_cy.version().system_info for name, value in cpu.features.items())


WRITERS = [write_llama, write_gemma3, write_mamba, write_jamba, write_t5]


@pytest.fixture(params=WRITERS, ids=lambda write: write.__name__.removeprefix("write_"))
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write: Callable[..., object] = request.param
    write(tmp_path / "model.gguf", seed=1)
    return tmp_path / "model.gguf"


def test_placement_is_that_of_the_file(path: Path) -> None:
    tensors = gguf.GGUFReader(path).tensors
    with llama_cy.Model(path, device="cpu", use_extra_bufts=False) as model:
        (placed,) = model.placement
        assert placed.device == "CPU"
        assert placed.nbytes == sum(tensor.n_bytes for tensor in tensors) == sum(placed.buffer_types.values())
        assert placed.layers == tuple(range(max(placed.layers) + 1))
    with pytest.raises(llama_cy.ClosedError):
        _ = model.placement


@pytest.mark.parametrize(
    "params", [{}, {"n_ctx": 512, "n_batch": 64, "n_ubatch": 32}, {"n_ctx": 1024, "type_k": "f32"}]
)
def test_a_plan_comes_true(path: Path, params: dict[str, Any]) -> None:
    plan = llama_cy.plan_memory(path, device="cpu", use_extra_bufts=False, **params)
    (planned,) = plan.devices
    with llama_cy.Model(path, device="cpu", use_extra_bufts=False, load_mode="none") as model:
        assert plan.n_layer == model.n_layer
        with model.context(**{"n_ctx": plan.n_ctx} | params) as context:
            taken = context.memory_breakdown()
            assert plan.n_ctx == context.n_ctx
    assert planned.context == sum(use.context for use in taken)
    assert planned.compute == sum(use.compute for use in taken)
    assert planned.model == sum(use.model for use in taken)
    assert planned.nbytes == plan.nbytes == planned.model + planned.context + planned.compute
    assert plan.fits


def test_a_plan_takes_nothing(tiny_path: Path) -> None:
    live = llama_cy.live_objects()
    small, large = (llama_cy.plan_memory(tiny_path, device="cpu", n_ctx=n_ctx) for n_ctx in (512, 2**20))
    assert large.devices[0].context == 2048 * small.devices[0].context
    assert llama_cy.live_objects() == live


def test_a_plan_refuses_what_loading_refuses(tiny_path: Path, tmp_path: Path) -> None:
    with pytest.raises(llama_cy.ModelLoadError):
        llama_cy.plan_memory(tmp_path / "absent.gguf")
    with pytest.raises(TypeError, match="n_cxt"):
        llama_cy.plan_memory(tiny_path, n_cxt=3)
    with pytest.raises(ValueError, match="n_ctx"):
        llama_cy.plan_memory(tiny_path, n_ctx=-1)


@pytest.mark.parametrize(("room", "expected"), [(0, 0), (1, 1), (5, 5), (6, 6), (7, -1)])
def test_fit(monkeypatch: pytest.MonkeyPatch, room: int, expected: int) -> None:
    """With a card that holds so many of 6 layers and the output, which counts as one more."""

    def plan(path: object, *, n_gpu_layers: int) -> llama_cy.MemoryPlan:
        layers = 7 if n_gpu_layers < 0 else n_gpu_layers
        free = memory_plan.MARGIN + room * 100
        card = llama_cy.DevicePlan("CUDA0", 90 * layers, 10 * layers, 0, free, free)
        return llama_cy.MemoryPlan((card, llama_cy.DevicePlan("CPU", 10**15, 0, 0, 1, 1)), 4096, 6)

    monkeypatch.setattr(memory_plan, "plan_memory", plan)
    assert memory_plan.fit_gpu_layers("any") == expected


def test_fit_on_this_machine(tiny_path: Path) -> None:
    layers = memory_plan.fit_gpu_layers(tiny_path, device="cpu")
    assert layers in (0, -1)
    with llama_cy.Model(tiny_path, n_gpu_layers="fit", device="cpu") as model:
        assert [placed.device for placed in model.placement] == ["CPU"]
