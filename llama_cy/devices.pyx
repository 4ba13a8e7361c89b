"""What this machine computes on."""

from ggml_backend cimport (
    ggml_backend_dev_count,
    ggml_backend_dev_description,
    ggml_backend_dev_get,
    ggml_backend_dev_memory,
    ggml_backend_dev_name,
    ggml_backend_dev_t,
    ggml_backend_dev_type,
)
from llama cimport import_llama_cy

from typing import NamedTuple

from . import log
from .enums import DeviceType

import_llama_cy()


class Device(NamedTuple):
    """One device of the ggml backend registry.

    Attributes
    ----------
    name : str
        As ggml calls it, for example ``CPU``, ``CUDA0``, ``Metal``.
    description : str
        The product's name.
    type : DeviceType
    memory_free, memory_total : int
        Bytes; 0 where the device does not tell.
    """

    name: str
    description: str
    type: DeviceType
    memory_free: int
    memory_total: int


def devices():
    """List the devices of this build and machine. Wraps ``ggml_backend_dev_get`` and what goes with it.

    Returns
    -------
    list of Device
    """
    cdef ggml_backend_dev_t device
    cdef size_t i, free, total
    found = []
    for i in range(ggml_backend_dev_count()):
        device = ggml_backend_dev_get(i)
        free = total = 0
        with nogil:
            ggml_backend_dev_memory(device, &free, &total)
        found.append(Device(
            ggml_backend_dev_name(device).decode("utf-8", "replace"),
            ggml_backend_dev_description(device).decode("utf-8", "replace"),
            DeviceType(<int> ggml_backend_dev_type(device)), free, total,
        ))  # fmt: skip
    log.flush()
    return found
