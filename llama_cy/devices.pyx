"""What this machine computes on."""

from ggml_backend cimport (
    ggml_backend_dev_backend_reg,
    ggml_backend_dev_count,
    ggml_backend_dev_description,
    ggml_backend_dev_get,
    ggml_backend_dev_memory,
    ggml_backend_dev_name,
    ggml_backend_dev_t,
    ggml_backend_dev_type,
    ggml_backend_feature,
    ggml_backend_get_features_t,
    ggml_backend_reg_get_proc_address,
    ggml_backend_reg_name,
    ggml_backend_reg_t,
)
from llama cimport import_llama_cy

from llama_cy.lifetime cimport start_backends

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
    backend : str
        The part of ggml that computes on it: ``CPU``, ``CUDA``, ``MTL`` for Metal, ``Vulkan``.
    features : dict of str to str
        What that backend was built with or found, for example ``AVX2`` or ``ARCHS``.
    """

    name: str
    description: str
    type: DeviceType
    memory_free: int
    memory_total: int
    backend: str = ""
    features: dict = {}


cdef dict features_of(ggml_backend_reg_t reg):
    cdef ggml_backend_get_features_t get = <ggml_backend_get_features_t> ggml_backend_reg_get_proc_address(
        reg, "ggml_backend_get_features")
    cdef ggml_backend_feature * feature
    found = {}
    if get is not NULL:
        feature = get(reg)
        while feature is not NULL and feature.name is not NULL:
            found[feature.name.decode("utf-8", "replace")] = feature.value.decode("utf-8", "replace")
            feature += 1
    return found


def devices():
    """List the devices of this build and machine. Wraps ``llama_backend_init``, ``ggml_backend_dev_get`` and what goes with it.

    The first call, or the first model, starts the drivers. A process that is forked later has no use of a GPU; one that was
    forked before has.

    Returns
    -------
    list of Device
    """
    cdef ggml_backend_dev_t device
    cdef ggml_backend_reg_t reg
    cdef size_t i, free, total
    found = []
    start_backends()
    for i in range(ggml_backend_dev_count()):
        device = ggml_backend_dev_get(i)
        reg = ggml_backend_dev_backend_reg(device)
        free = total = 0
        with nogil:
            ggml_backend_dev_memory(device, &free, &total)
        found.append(Device(
            ggml_backend_dev_name(device).decode("utf-8", "replace"),
            ggml_backend_dev_description(device).decode("utf-8", "replace"),
            DeviceType(<int> ggml_backend_dev_type(device)), free, total,
            ggml_backend_reg_name(reg).decode("utf-8", "replace"), features_of(reg),
        ))  # fmt: skip
    log.flush()
    return found
