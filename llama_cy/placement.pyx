"""Which device holds which part of a model, and what a context takes, by llama.cpp's own books."""

from cpython.pycapsule cimport PyCapsule_Import
from ggml cimport ggml_nbytes, ggml_tensor
from ggml_backend cimport (
    ggml_backend_buffer,
    ggml_backend_buffer_get_type,
    ggml_backend_buffer_type_t,
    ggml_backend_buft_get_device,
    ggml_backend_buft_is_host,
    ggml_backend_buft_name,
    ggml_backend_dev_name,
    ggml_backend_dev_t,
)
from libcpp cimport bool
from llama cimport import_llama_cy, llama_context, llama_model

from llama_cy.context_handle cimport ContextHandle
from llama_cy.model cimport Model

import re
from typing import NamedTuple

from .errors import BackendError, LlamaError

import_llama_cy()

cdef extern from "kernels/accounting.h" namespace "llama_cy":
    struct accounting:
        bool (*each_tensor)(
            const llama_model * model, void (*visit)(void *, const char *, ggml_tensor *) noexcept, void * data)
        bool (*each_buffer)(
            const llama_context * context,
            void (*visit)(void *, ggml_backend_buffer_type_t, size_t, size_t, size_t) noexcept, void * data)

cdef extern from "kernels/readable.h" namespace "llama_cy":
    ggml_backend_buffer * buffer_of(const ggml_tensor * tensor) noexcept
    bool readable(ggml_backend_buffer * buffer)

cdef accounting * books = <accounting *> PyCapsule_Import("llama_cy._llama._accounting", 0)

LAYER = re.compile(r"\bblk\.(\d+)\.")


class Placed(NamedTuple):
    """What of a model lies on one device.

    Attributes
    ----------
    device : str
        As in :func:`devices`; ``CPU`` for the memory of the machine; ``CUDA0+CUDA1`` where each tensor is split over both.
    layers : tuple of int
        Layers, whole or in part.
    nbytes : int
        Bytes of weights.
    buffer_types : dict of str to int
        Bytes by kind of buffer: ``CPU_Mapped`` is the file itself, for example.
    """

    device: str
    layers: tuple
    nbytes: int
    buffer_types: dict


class MemoryUse(NamedTuple):
    """Bytes of one kind of buffer.

    Attributes
    ----------
    device : str
        As in :class:`Placed`.
    buffer_type : str
        As ggml calls it.
    model, context, compute : int
        Bytes for weights, for what the context remembers, and for intermediate results; where tensors are split over
        several devices, of the one that has most.
    """

    device: str
    buffer_type: str
    model: int
    context: int
    compute: int


cdef str spelt_out(str name, tuple spread):
    # ggml means to name the devices of its joint one between the brackets.
    return "+".join(spread) if name == "Meta()" and spread else name


cdef str device_of(ggml_backend_buffer_type_t type):
    # A GPU's backend may hand out memory of the machine.
    cdef ggml_backend_dev_t device = ggml_backend_buft_get_device(type)
    if device is NULL or ggml_backend_buft_is_host(type):
        return "CPU"
    return ggml_backend_dev_name(device).decode("utf-8", "replace")


cdef void on_tensor(void * data, const char * name, ggml_tensor * tensor) noexcept:
    cdef ggml_backend_buffer * buffer = buffer_of(tensor)
    if buffer is NULL or tensor.view_src is not NULL:
        return
    cdef ggml_backend_buffer_type_t type = ggml_backend_buffer_get_type(buffer)
    (<list> data).append((
        device_of(type), ggml_backend_buft_name(type).decode("utf-8", "replace"), name.decode("utf-8", "replace"),
        ggml_nbytes(tensor),
    ))  # fmt: skip


cdef void on_buffer(
    void * data, ggml_backend_buffer_type_t type, size_t model, size_t context, size_t compute
) noexcept:
    (<list> data).append(MemoryUse(
        device_of(type), ggml_backend_buft_name(type).decode("utf-8", "replace"), model, context, compute
    ))  # fmt: skip


def placement(Model model not None):
    """Tell which layers and how many bytes of a loaded model are on which device; see :attr:`Model.placement`.

    Returns
    -------
    list of Placed
        The device with most of it first. Tied weights count once.

    Raises
    ------
    BackendError
        The llama.cpp that was linked does not tell.
    """
    cdef list found = []
    if not books.each_tensor(model.ptr(), on_tensor, <void *> found):
        raise BackendError("the installed llama.cpp does not tell where its tensors are")
    by_device = {}
    spread = model.handle.spread
    for device, kind, name, nbytes in found:
        device = spelt_out(device, spread)
        layers, kinds = by_device.setdefault(device, (set(), {}))
        kinds[kind] = kinds.get(kind, 0) + nbytes
        match = LAYER.search(name)
        if match:
            layers.add(int(match[1]))
    placed = [
        Placed(device, tuple(sorted(layers)), sum(kinds.values()), kinds)
        for device, (layers, kinds) in by_device.items()
    ]
    return sorted(placed, key=lambda one: -one.nbytes)


cdef void on_unreadable(void * data, const char * name, ggml_tensor * tensor) noexcept:
    cdef ggml_backend_buffer * buffer = buffer_of(tensor)
    if buffer is not NULL and not readable(buffer):
        (<set> data).add(ggml_backend_buft_name(ggml_backend_buffer_get_type(buffer)).decode("utf-8", "replace"))


def check_readable(Model model not None):
    """See that the weights of a model can be read back, which those are not that the CPU's kernels have rearranged.

    Raises
    ------
    LlamaError
        Some have been, or the llama.cpp that was linked does not tell.
    """
    cdef set kinds = set()
    known = books.each_tensor(model.ptr(), on_unreadable, <void *> kinds)
    if kinds or not known and model.handle.may_rearrange:
        why = f"rearranged for the CPU ({', '.join(sorted(kinds))})" if known else "perhaps rearranged for the CPU"
        raise LlamaError(f"llama.cpp can't read its weights, which are {why}; load the model with use_extra_bufts=False")


def memory_breakdown(ContextHandle context not None):
    """Tell what a context and its model take, by kind of buffer; see :meth:`Context.memory_breakdown`.

    Returns
    -------
    list of MemoryUse
    """
    cdef list found = []
    context.enter()
    try:
        if not books.each_buffer(context.ptr, on_buffer, <void *> found):
            raise BackendError("the installed llama.cpp does not tell what its buffers take")
        spread = context.handle.spread
    finally:
        context.leave()
    return [use._replace(device=spelt_out(use.device, spread)) for use in found]
