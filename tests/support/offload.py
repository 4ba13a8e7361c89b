"""What of a model goes to a GPU, as the tests of devices vary it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llama_cy

__all__ = ["GPUS", "PARTS", "on_gpu"]

GPUS = [
    device.name
    for device in llama_cy.devices()
    if device.type in (llama_cy.DeviceType.GPU, llama_cy.DeviceType.IGPU)
]  # fmt: skip

# What to pass for a model of so many layers: the output counts as one more and goes first, then the last layer.
PARTS: dict[str, Callable[[int], int]] = {
    "the output": lambda n_layer: 1,
    "half": lambda n_layer: n_layer // 2 + 1,
    "all but a layer": lambda n_layer: n_layer,
    "all": lambda n_layer: -1,
}


def on_gpu(device: str, part: str, n_layer: int) -> dict[str, Any]:
    """Return parameters of a model, a part of which is on a GPU."""
    return {"device": device, "n_gpu_layers": PARTS[part](n_layer)}
