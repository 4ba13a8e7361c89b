"""Where a model goes of which a test says nothing: as the build does it, or as ``--device`` and ``--gpu-layers`` say.

What is asked for stands in the environment, so that the children of a test do the same: see ``site/sitecustomize.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["ask", "asked", "environ", "patch", "wanted"]

VARIABLE = "LLAMA_CY_TESTS_UNASKED"
SITE = str(Path(__file__).parent / "site")


def wanted() -> tuple[str, int | str]:
    """Return the device and the number of layers that stand for "auto"."""
    device, _, layers = os.environ.get(VARIABLE, "").partition(",")
    return device or "auto", int(layers) if layers else "auto"


def patch(loading: ModuleType) -> None:
    """Let ``llama_cy.loading`` read "auto" as what is wanted."""
    choose_devices, gpu_layers = loading.choose_devices, loading.gpu_layers

    def device_of(given: Any) -> Any:
        return wanted()[0] if isinstance(given, str) and given == "auto" else given

    def chosen(given: Any) -> Any:
        return choose_devices(device_of(given))

    def layers_of(value: Any, device: Any = "auto") -> Any:
        where = device_of(device)
        if value == "auto" and device == "auto" and where != "cpu":
            value = wanted()[1]
        return gpu_layers(value, where)

    vars(loading).update(choose_devices=chosen, gpu_layers=layers_of)


def ask(device: str, n_gpu_layers: int | None) -> None:
    """Want a device and a number of layers from here on."""
    os.environ[VARIABLE] = f"{device},{'' if n_gpu_layers is None else n_gpu_layers}"


@contextmanager
def asked(device: str) -> Iterator[None]:
    """Want a device for a while."""
    before = os.environ.get(VARIABLE)
    ask(device, None)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


def environ(known: dict[str, str]) -> dict[str, str]:
    """Return the environment of a child, which places its models as this process does now."""
    if VARIABLE not in os.environ:
        return known
    path = os.pathsep.join(filter(None, [SITE, known.get("PYTHONPATH")]))
    return known | {VARIABLE: os.environ[VARIABLE], "PYTHONPATH": path}
