"""Models without a file: metadata, and a Python function that gives the weights."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from ggml cimport (
    ggml_blck_size,
    ggml_n_dims,
    ggml_nbytes,
    ggml_nrows,
    ggml_quantize_chunk,
    ggml_quantize_requires_imatrix,
    ggml_set_name,
    ggml_tensor,
    ggml_type,
    ggml_type_size,
)
from ggml_backend cimport ggml_backend_tensor_memset, ggml_backend_tensor_set
from gguf cimport gguf_add_tensor, gguf_context, gguf_free, gguf_init_from_buffer, gguf_init_params
from libc.string cimport memset
from llama cimport import_llama_cy, llama_model, llama_model_init_from_user

from llama_cy.lifetime cimport enter_native, exiting, leave_native
from llama_cy.loading cimport LoadParams

import io
import re
from collections.abc import Mapping

import numpy as np

from . import log
from .checks import choice
from .enums import GGMLType
from .gguf_file import gguf_bytes
from .gguf_rules import check_tensor

import_llama_cy()

NAME = "<metadata>"
MAX_NAME = 63
# What is multiplied or divided by; a file without them computes as with ones.
NEUTRAL = re.compile(r"\.(input_)?scale$|rope_(freqs|factors_\w+)\.weight$")
# What each layer of a T5 takes from the first one, unless it has its own.
INHERITED = re.compile(r"((?:enc|dec)\.blk\.)[1-9]\d*(\.attn_rel_b\.weight)")


@cython.final
cdef class Weights:
    """The function that gives the weights, and what it raised."""
    cdef object function
    cdef object error

    cdef void fill(self, ggml_tensor * tensor) noexcept with gil:
        if self.error is not None:
            # llama.cpp asks for all the others too, of a model that is freed then.
            return
        try:
            PyErr_CheckSignals()
            name = tensor.name.decode("utf-8", "replace")
            shape = tuple([tensor.ne[i] for i in range(ggml_n_dims(tensor) - 1, -1, -1)])
            kind = GGMLType(<int> tensor.type)
            values = self.function(name, shape, kind)
            inherited = INHERITED.fullmatch(name)
            if values is None and inherited:
                values = self.function(f"{inherited[1]}0{inherited[2]}", shape, kind)
            put(tensor, name, shape, values)
        except BaseException as error:
            self.error = error


cdef void on_tensor(ggml_tensor * tensor, void * weights) noexcept nogil:
    if not exiting():
        (<Weights> weights).fill(tensor)


cdef int put(ggml_tensor * tensor, str name, tuple shape, object values) except -1:
    cdef size_t size = ggml_nbytes(tensor)
    if values is None:
        if not NEUTRAL.search(name):
            ggml_backend_tensor_memset(tensor, 0, 0, size)
            return 0
        values = np.ones(shape, dtype=np.float32)
    array = np.ascontiguousarray(values, dtype=np.float32)
    if array.shape != shape:
        raise ValueError(f"{name} has the shape {array.shape}; {shape} is expected")
    cdef const float[::1] numbers = array.reshape(-1)
    packed = np.empty(size, dtype=np.uint8)
    cdef unsigned char[::1] data = packed
    ggml_quantize_chunk(tensor.type, &numbers[0], &data[0], 0, ggml_nrows(tensor), tensor.ne[0], NULL)
    ggml_backend_tensor_set(tensor, &data[0], 0, size)
    return 0


cdef int add_types(gguf_context * context, object types) except -1:
    """Note which tensors are not of 32 bits; llama.cpp looks up nothing but the type."""
    cdef ggml_tensor tensor
    cdef ggml_type kind
    if types is None:
        return 0
    if not isinstance(types, Mapping):
        raise TypeError(f"types must be a mapping, not {type(types).__name__}")
    for name, value in types.items():
        if not isinstance(name, str):
            raise TypeError(f"a name in types must be str, not {type(name).__name__}")
        data = name.encode("utf-8")
        if not 1 <= len(data) <= MAX_NAME or b"\0" in data:
            raise ValueError(f"{name!r} in types is {len(data)} bytes; 1 to {MAX_NAME} without NUL are allowed")
        number = choice(f"types[{name!r}]", GGMLType, value)
        kind = <ggml_type> <int> number
        check_tensor(name, GGMLType(number).name.lower(), GGMLType(number).name in FROM_FLOATS, ValueError)
        if ggml_quantize_requires_imatrix(kind):
            raise ValueError(f"types[{name!r}] is {GGMLType(number).name}, which needs an importance matrix")
        memset(&tensor, 0, sizeof(tensor))
        tensor.type = kind
        tensor.ne[0] = ggml_blck_size(kind)
        tensor.nb[0] = ggml_type_size(kind)
        for i in range(1, 4):
            tensor.ne[i] = 1
            tensor.nb[i] = tensor.nb[0]
        ggml_set_name(&tensor, data)
        gguf_add_tensor(context, &tensor)
    return 0


# What ggml makes of floats without more.
FROM_FLOATS = frozenset((
    "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
    "IQ3_S", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4",
))  # fmt: skip


def init_from_user(metadata, set_tensor_data, types, n_gpu_layers, params):
    """Do what :meth:`Model.init_from_user` says; return the handle of the model."""
    cdef gguf_init_params read
    cdef llama_model * ptr
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a mapping, not {type(metadata).__name__}")
    if not callable(set_tensor_data):
        raise TypeError(f"set_tensor_data must be callable, not {type(set_tensor_data).__name__}")
    cdef LoadParams load_params = LoadParams(n_gpu_layers, params)
    cdef bytes head = gguf_bytes(metadata, {})
    load_params.look(io.BytesIO(head), NAME, 0)
    cdef Weights weights = Weights()
    weights.function = set_tensor_data
    read.no_alloc = True
    read.ctx = NULL
    log.begin()
    cdef const char * data = head
    cdef gguf_context * context = gguf_init_from_buffer(data, len(head), read)
    if context is NULL:
        return load_params.end(NULL, None, NAME)
    try:
        add_types(context, types)
        enter_native()
        try:
            with nogil:
                ptr = llama_model_init_from_user(context, on_tensor, <void *> weights, load_params.c)
        finally:
            leave_native()
    finally:
        gguf_free(context)
    return load_params.end(ptr, weights.error, NAME)
