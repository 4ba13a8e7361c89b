"""Control vectors as llama.cpp wants them: read from files, and given to a context."""

from libc.stdint cimport int64_t
from libc.string cimport memset
from ggml cimport GGML_TYPE_F32, ggml_type_name
from gguf cimport (
    GGUF_TYPE_STRING,
    gguf_context,
    gguf_find_key,
    gguf_free,
    gguf_get_data_offset,
    gguf_get_kv_type,
    gguf_get_n_tensors,
    gguf_get_tensor_name,
    gguf_get_tensor_ne,
    gguf_get_tensor_offset,
    gguf_get_tensor_type,
    gguf_get_val_str,
    gguf_init_from_file,
    gguf_init_params,
)
from llama cimport import_llama_cy, llama_model_n_embd, llama_model_n_layer, llama_set_adapter_cvec, llama_synchronize

from llama_cy.context cimport Context

import re
from collections.abc import Mapping

import numpy as np

from . import log
from .checks import FLOAT32_MAX, each, integer, real
from .errors import ContextError, ModelLoadError
from .loading import readable

import_llama_cy()

# More layers than any model has; a file can name any number.
MAX_LAYERS = 4096
# The architectures whose graph in llama.cpp has no place for a control vector.
WITHOUT = frozenset((
    "bert", "dflash", "eagle3", "eurobert", "gemma4-assistant", "hy_v4", "jina-bert-v2", "jina-bert-v3", "modern-bert",
    "neo-bert", "nomic-bert", "nomic-bert-moe", "plamo2", "wavtokenizer-dec",
))  # fmt: skip


def load_failure(name, reason, lines=()):
    """Describe a failed load."""
    return ModelLoadError(f"cannot load the control vector {name!r}: {reason}", log=lines)


def read(str name):
    """Read a file of directions; return them by row from layer 1 on, and the architecture that they are for."""
    cdef bytes data = readable(name, "control vector")
    cdef const char * c_path = data
    cdef gguf_init_params params
    cdef gguf_context * gguf
    memset(&params, 0, sizeof(params))
    params.no_alloc = True
    log.begin()
    with nogil:
        gguf = gguf_init_from_file(c_path, params)
    if gguf is NULL:
        raise load_failure(name, "it is no whole GGUF file", log.tail())
    try:
        places = places_of(gguf, name)
        hint = hint_of(gguf)
    finally:
        gguf_free(gguf)
    n_embd = next(iter(places.values()))[1]
    directions = np.zeros((max(places), n_embd), dtype=np.float32)
    with open(data, "rb") as file:
        for layer, (offset, _) in places.items():
            file.seek(offset)
            values = np.frombuffer(file.read(4 * n_embd), dtype="<f4")
            if len(values) != n_embd:
                raise load_failure(name, f"it is cut: direction.{layer} has {len(values)} of {n_embd} numbers")
            if not np.isfinite(values).all():
                raise load_failure(name, f"direction.{layer} holds a number that is not finite")
            directions[layer - 1] = values
    return directions, hint


cdef dict places_of(gguf_context * gguf, str name):
    """Return where the direction of each layer begins in the file, and how many numbers it has."""
    cdef int64_t i
    cdef const int64_t * ne
    places = {}
    width = None
    for i in range(gguf_get_n_tensors(gguf)):
        tensor = gguf_get_tensor_name(gguf, i).decode("utf-8", "replace")
        found = re.fullmatch(r"direction\.([0-9]{1,9})", tensor)
        layer = int(found[1]) if found else 0
        if not 1 <= layer <= MAX_LAYERS or layer in places:
            raise load_failure(name, f"tensor {tensor!r} is no direction of a layer from 1 on")
        if gguf_get_tensor_type(gguf, i) != GGML_TYPE_F32:
            kind = ggml_type_name(gguf_get_tensor_type(gguf, i)).decode()
            raise load_failure(name, f"{tensor} is of type {kind}, not f32")
        ne = gguf_get_tensor_ne(gguf, i)
        shape = (ne[3], ne[2], ne[1], ne[0])
        if shape[:3] != (1, 1, 1) or shape[3] < 1 or width not in (None, shape[3]):
            raise load_failure(name, f"{tensor} has the shape {shape}; a row of {width or 'some'} numbers is expected")
        width = shape[3]
        places[layer] = gguf_get_data_offset(gguf) + gguf_get_tensor_offset(gguf, i), width
    if not places:
        raise load_failure(name, "it has no directions")
    return places


cdef str hint_of(gguf_context * gguf):
    cdef int64_t at = gguf_find_key(gguf, b"controlvector.model_hint")
    if at < 0 or gguf_get_kv_type(gguf, at) != GGUF_TYPE_STRING:
        return ""
    return gguf_get_val_str(gguf, at).decode("utf-8", "replace")


def pairs_of(vectors):
    """Turn what set_control_vectors() takes into a list of (vector, scale)."""
    from .control_vector import ControlVector

    if vectors is None:
        return []
    if isinstance(vectors, ControlVector):
        return [(vectors, 1.0)]
    if isinstance(vectors, Mapping):
        pairs = list(vectors.items())
    else:
        pairs = [pair if isinstance(pair, tuple) else (pair, 1.0)
                 for pair in each("vectors", vectors, "a ControlVector, a mapping, an iterable of pairs or None")]
    for pair in pairs:
        if len(pair) != 2 or not isinstance(pair[0], ControlVector):
            raise TypeError(f"vectors must be pairs of a ControlVector and a scale, not {pair!r}")
    return [(vector, real("scale", scale)) for vector, scale in pairs]


def set_control_vectors(Context context not None, vectors, il_start, il_end):
    """Do what :meth:`Context.set_control_vectors` says."""
    cdef float[:, ::1] total
    cdef int first = 1, last, n_layer, n_embd, code
    cdef float * data = NULL
    cdef size_t size = 0
    context.alive()
    n_layer, n_embd = llama_model_n_layer(context.handle.ptr), llama_model_n_embd(context.handle.ptr)
    pairs = pairs_of(vectors)
    last = n_layer - 1
    if pairs:
        if context.arch in WITHOUT or n_layer < 2:
            raise ContextError(
                f"llama.cpp adds no control vector to a model of architecture {context.arch} and {n_layer} layers"
            )
        first = integer("il_start", il_start, 1, n_layer - 1)
        last = n_layer - 1 if il_end is None else integer("il_end", il_end, first, n_layer - 1)
        total = summed(pairs, n_layer - 1, n_embd)
        data, size = &total[0, 0], total.size
    context.enter()
    try:
        context.computing.due = True
        # A device may still compute with the one of before.
        with nogil:
            llama_synchronize(context.ptr)
            code = llama_set_adapter_cvec(context.ptr, data, size, n_embd, first, last)
        if code != 0:
            raise ContextError("the control vector could not be set", code=code, log=log.tail())
        context.epoch += 1
        context.control = (pairs, (first, last)) if pairs else None
    finally:
        context.leave()


cdef object summed(list pairs, int n_rows, int n_embd):
    """Add up what a context is to add, with a row for every layer: llama.cpp leaves those that it gets none for."""
    total = np.zeros((n_rows, n_embd))
    for vector, scale in pairs:
        rows = len(vector.directions)
        if vector.n_embd != n_embd or rows > n_rows:
            raise ValueError(
                f"{vector!r} is for another model: this one has {n_rows} layers from layer 1 on, with {n_embd} numbers each"
            )
        total[:rows] += scale * vector.directions.astype(np.float64)
    if not (np.abs(total) <= FLOAT32_MAX).all():
        raise ValueError("the sum of the control vectors is not finite in 32 bits")
    return total.astype(np.float32)


def control_vectors_of(Context context not None):
    """Do what :attr:`Context.control_vectors` says."""
    context.alive()
    return list(context.control[0]) if context.control else []
