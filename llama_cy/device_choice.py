"""From what a person writes for a device to devices of the registry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .devices import Device, devices
from .enums import DeviceType
from .errors import BackendError

# What people call the backends that ggml names otherwise.
BACKENDS = {
    "metal": "mtl",
    "mtl": "mtl",
    "cuda": "cuda",
    "rocm": "rocm",
    "hip": "rocm",
    "musa": "musa",
    "vulkan": "vulkan",
    "sycl": "sycl",
}


def choose_devices(wanted: Any) -> list[Device] | None:
    """Find the devices that a model is to use.

    Parameters
    ----------
    wanted : str, Device or iterable of them
        ``"auto"``, ``"cpu"``; a backend, ``"metal"``, ``"cuda"``, ``"vulkan"``, for all its devices; one of them,
        ``"cuda:0"``; or a device by its name, ``"CUDA0"``.

    Returns
    -------
    list of Device or None
        None leaves the choice to llama.cpp; an empty list is the CPU.

    Raises
    ------
    BackendError
        There is no such device; the message lists what there is.
    """
    if isinstance(wanted, (str, Device)):
        name = wanted if isinstance(wanted, str) else wanted.name
        if name.casefold() == "auto":
            return None
        if name.casefold() == "cpu":
            return []
        return _find(name)
    if not isinstance(wanted, Iterable):
        raise TypeError(f"device must be a str, a Device or several of them, not {type(wanted).__name__}")
    chosen: list[Device] = []
    for one in wanted:
        if not isinstance(one, (str, Device)):
            raise TypeError(f"device must be a str, a Device or several of them, not {type(one).__name__} among them")
        for device in _find(one if isinstance(one, str) else one.name):
            if device.name in [known.name for known in chosen]:
                raise ValueError(f"device {device.name!r} is given twice")
            chosen.append(device)
    return chosen


def devices_to_spread_over(wanted: Any) -> tuple[str, ...]:
    """Name the devices over which ``split_mode="tensor"`` splits each tensor; `wanted` as in :func:`choose_devices`.

    Raises
    ------
    BackendError
        There is none: the CPU takes no part of a tensor.
    """
    chosen = choose_devices(wanted)
    names = tuple(device.name for device in (_gpus() if chosen is None else chosen))
    if not names:
        there = ", ".join(["cpu", *(device.name for device in _gpus())])
        raise BackendError(f'split_mode="tensor" splits each tensor over GPUs; device is {wanted!r}; present: {there}')
    return names


def _gpus() -> list[Device]:
    return [device for device in devices() if device.type in (DeviceType.GPU, DeviceType.IGPU)]


def _find(name: str) -> list[Device]:
    present = _gpus()
    wanted = name.casefold()
    if found := [device for device in present if device.name.casefold() == wanted]:
        return found
    backend, colon, number = wanted.partition(":")
    of_backend = [device for device in present if _backend(device) == BACKENDS.get(backend, backend)]
    if of_backend and not colon:
        return of_backend
    if of_backend and number.isdecimal() and int(number) < len(of_backend):
        return [of_backend[int(number)]]
    raise BackendError(_explain(name, of_backend if colon else [], present))


def _backend(device: Device) -> str:
    return device.name.rstrip("0123456789").casefold()


def _explain(name: str, of_backend: list[Device], present: list[Device]) -> str:
    there = ", ".join(["cpu", *(device.name for device in present)])
    if of_backend:
        return f"there is no device {name!r}: of that backend there are {len(of_backend)}; present: {there}"
    known = ["auto", "cpu", *BACKENDS, *(device.name.casefold() for device in present)]
    import difflib

    near = difflib.get_close_matches(name.partition(":")[0].casefold(), known, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near and near[0] != name.partition(":")[0].casefold() else ""
    return f"there is no device {name!r} in this build and on this machine; present: {there}{hint}"
