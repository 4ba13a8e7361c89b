"""What a model and a context would take, before they take it."""

from llama_cy.handle cimport ModelHandle
from llama_cy.loading cimport LoadParams

import os
import re
from pathlib import Path
from typing import NamedTuple

from .checks import INT32_MAX
from .devices import devices
from .enums import LoadMode
from .errors import BackendError
from .model import Model
from .placement import memory_breakdown

# Parameters of a model; all others are those of a context.
OF_A_MODEL = frozenset((
    "n_gpu_layers", "device", "split_mode", "main_gpu", "tensor_split", "kv_overrides", "use_extra_bufts", "no_host",
    "load_mtp",
))
# What stays free on a GPU: the driver and other programs need some, and a graph may need more than the one planned with.
MARGIN = 512 * 2**20
DEFAULT_N_CTX = 4096


class DevicePlan(NamedTuple):
    """What one device would hold.

    Attributes
    ----------
    device : str
        As in :func:`devices`; ``CPU`` for the memory of the machine.
    model, context, compute : int
        Bytes of weights, of what the context remembers, and of intermediate results.
    memory_free, memory_total : int
        Bytes of the device now.
    """

    device: str
    model: int
    context: int
    compute: int
    memory_free: int
    memory_total: int

    @property
    def nbytes(self):
        """Bytes in all."""
        return self.model + self.context + self.compute

    @property
    def fits(self):
        """Whether that is no more than what is free."""
        return self.nbytes <= self.memory_free


class MemoryPlan(NamedTuple):
    """What each device would hold; see :func:`plan_memory`.

    Attributes
    ----------
    devices : tuple of DevicePlan
    n_ctx : int
        Tokens of the context that it is for.
    n_layer : int
        Layers of the model.
    """

    devices: tuple
    n_ctx: int
    n_layer: int

    @property
    def nbytes(self):
        """Bytes on all devices."""
        return sum(device.nbytes for device in self.devices)

    @property
    def fits(self):
        """Whether every device has room for its part."""
        return all(device.fits for device in self.devices)


def plan_memory(path, **params):
    """Tell what a model and a context would take on each device, without taking it.

    The metadata is read, and llama.cpp goes through all its steps but the allocations.

    Parameters
    ----------
    path : str, bytes or os.PathLike
    **params
        Of :class:`Model` and of :meth:`Model.context`, under their names; `n_ctx` is 4096 or what the model was trained
        with, whichever is less, unless given.

    Returns
    -------
    MemoryPlan

    Raises
    ------
    ValueError
        For ``split_mode="tensor"``, which llama.cpp does not plan.

    Notes
    -----
    Weights count in full, also where a file is mapped and read as needed.
    """
    model_params = {name: params.pop(name) for name in list(params) if name in OF_A_MODEL}
    cdef LoadParams load_params = LoadParams(model_params.pop("n_gpu_layers", "auto"), model_params)
    if load_params.spread:
        raise ValueError('split_mode="tensor" can\'t be planned: llama.cpp tells the parts of tensors after a load only')
    load_params.c.no_alloc = True
    load_params.c.load_mode = LoadMode.NONE
    cdef ModelHandle handle = load_params.from_file(os.fsdecode(path), None, True)
    with Model(handle) as model:
        params.setdefault("n_ctx", min(DEFAULT_N_CTX, model.n_ctx_train))
        with model.context(**params) as context:
            taken = memory_breakdown(context)
            n_ctx = context.n_ctx
        n_layer = model.n_layer
    known = {device.name: device for device in devices()}
    plans = []
    for name in dict.fromkeys(use.device for use in taken):
        of_device = [use for use in taken if use.device == name]
        free, total = known[name].memory_free, known[name].memory_total
        if name == "CPU":
            free = min(free, available_memory() or free)
        plans.append(DevicePlan(
            name, sum(use.model for use in of_device), sum(use.context for use in of_device),
            sum(use.compute for use in of_device), free, total,
        ))  # fmt: skip
    return MemoryPlan(tuple(plans), n_ctx, n_layer)


def available_memory():
    """Return the bytes of memory that this process can still get, as Linux estimates them; None elsewhere."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def fit_gpu_layers(path, **params):
    """Find how many layers fit on the GPUs, with room for a context.

    Parameters
    ----------
    path, **params
        As in :func:`plan_memory`, without `n_gpu_layers`.

    Returns
    -------
    int
        For `n_gpu_layers`: -1 where all fit, 0 where there is no GPU or no room.
    """
    def fits(layers):
        plan = plan_memory(path, n_gpu_layers=layers, **params)
        return all(one.nbytes + MARGIN <= one.memory_free for one in plan.devices if one.device != "CPU")

    try:
        if fits(-1):
            return -1
    except BackendError:
        # No GPU, or none asked for.
        return 0
    low, high = 0, plan_memory(path, n_gpu_layers=0, **params).n_layer + 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return min(low, INT32_MAX)
