"""Samplers whose work is done by Python, or by a C function table of others."""

from cpython.pycapsule cimport PyCapsule_CheckExact, PyCapsule_GetName, PyCapsule_GetPointer, PyCapsule_IsValid
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset
from libcpp cimport bool
from llama cimport (
    LLAMA_CY_SAMPLER_CONTEXT_CAPSULE,
    LLAMA_CY_SAMPLER_I_CAPSULE,
    import_llama_cy,
    llama_sampler,
    llama_sampler_apply,
    llama_sampler_i,
    llama_sampler_init,
    llama_token,
    llama_token_data,
    llama_token_data_array,
)

from llama_cy.lifetime cimport exiting
from llama_cy.sampler cimport Sampler
from llama_cy.sampler_failure cimport has_failed, keep_failure, raise_failure
from llama_cy.sampler_handle cimport SamplerHandle

from copy import deepcopy

import numpy as np

from .candidates import DTYPE, Candidates
from .checks import INT32_MAX, integer
from .errors import GrammarError, LlamaError

import_llama_cy()

cdef extern from "kernels/custom_sampler.h" namespace "llama_cy" nogil:
    ctypedef bool (*apply_function)(llama_sampler * sampler, llama_token_data_array * candidates) noexcept nogil
    apply_function apply_in_python
    void apply_or_throw(llama_sampler * sampler, llama_token_data_array * candidates) noexcept nogil


cdef object taken(const llama_token_data_array * array):
    """Copy candidates of C's, so that nobody is left with memory that is gone."""
    candidates = Candidates.__new__(Candidates)
    data = np.empty(array.size, dtype=DTYPE)
    cdef unsigned char[::1] target = data.view(np.uint8)
    if array.size:
        memcpy(&target[0], array.data, array.size * sizeof(llama_token_data))
    candidates.data = data
    candidates.selected = int(array.selected) if 0 <= array.selected < <int64_t> array.size else None
    candidates.sorted = True if array.sorted else False
    return candidates


cdef object checked(object candidates, size_t most, llama_token highest):
    """Return the data of candidates that samplers can work on."""
    data = candidates.data
    if not isinstance(data, np.ndarray) or data.dtype != DTYPE or data.ndim != 1:
        raise TypeError(f"data must be an array of {DTYPE} in one row, not {getattr(data, 'dtype', type(data).__name__)}")
    if not 0 < data.size <= most:
        raise ValueError(f"there are {data.size} candidates; expected 1 to {most}, as before")
    ids, logits = data["id"], data["logit"]
    if ids.min() < 0 or ids.max() > highest:
        raise ValueError(f"a candidate is out of range [0, {highest}]: {ids.min()} to {ids.max()}")
    if not (logits < np.inf).all():
        raise ValueError("a candidate's logit is NaN or infinity")
    if candidates.sorted and (logits[1:] > logits[:-1]).any():
        raise ValueError("sorted is True, and the logits do not fall")
    if candidates.selected is not None:
        integer("selected", candidates.selected, 0, data.size - 1)
    return np.ascontiguousarray(data)


cdef int given(object candidates, llama_token_data_array * array, llama_token highest) except -1:
    """Copy candidates back to where C has room for so many."""
    data = checked(candidates, array.size, highest)
    cdef const unsigned char[::1] source = data.view(np.uint8)
    memcpy(array.data, &source[0], source.shape[0])
    array.size = len(data)
    array.selected = -1 if candidates.selected is None else candidates.selected
    array.sorted = True if candidates.sorted else False
    return 0


cdef class Hook:
    """What the context pointer of a Python sampler points to."""
    cdef object target
    cdef object apply
    cdef bytes label
    cdef const char * name

    def __init__(self, target):
        apply = getattr(target, "apply", target)
        if not callable(apply):
            raise TypeError(f"a sampler must be callable or have a method apply(), not {type(target).__name__}")
        name = getattr(target, "name", None) or getattr(target, "__name__", None) or type(target).__name__
        if not isinstance(name, str):
            raise TypeError(f"the name of a sampler must be str, not {type(name).__name__}")
        if name in ("grammar", "adaptive-p") or "\0" in name:
            raise ValueError(f"a sampler of one's own can't be called {name!r}; expected another name")
        self.target, self.apply = target, apply
        self.label = name.encode("utf-8", "replace")
        self.name = self.label

    cdef Hook twin(self):
        clone = getattr(self.target, "clone", None)
        return Hook(deepcopy(self.target) if clone is None else clone())


cdef llama_sampler * hooked(Hook hook) except NULL:
    cdef llama_sampler * ptr = llama_sampler_init(&python_table, <void *> hook)
    Py_INCREF(hook)
    return ptr


cdef const char * on_name(const llama_sampler * sampler) noexcept nogil:
    return (<Hook> sampler.ctx).name


cdef bool apply_hook(llama_sampler * sampler, llama_token_data_array * array) noexcept with gil:
    cdef Hook hook = <Hook> sampler.ctx
    cdef llama_token highest = 0
    cdef size_t i
    if has_failed():
        return False
    try:
        candidates = taken(array)
        for i in range(array.size):
            highest = max(highest, array.data[i].id)
        hook.apply(candidates)
        given(candidates, array, highest)
        return True
    except BaseException as error:
        keep_failure(error)
        return False


cdef bool on_apply(llama_sampler * sampler, llama_token_data_array * array) noexcept nogil:
    return not exiting() and apply_hook(sampler, array)


cdef void accept_hook(llama_sampler * sampler, llama_token token) noexcept with gil:
    try:
        accept = getattr((<Hook> sampler.ctx).target, "accept", None)
        if accept is not None:
            accept(token)
    except BaseException as error:
        keep_failure(error)


cdef void on_accept(llama_sampler * sampler, llama_token token) noexcept nogil:
    if not exiting():
        accept_hook(sampler, token)


cdef void reset_hook(llama_sampler * sampler) noexcept with gil:
    try:
        reset = getattr((<Hook> sampler.ctx).target, "reset", None)
        if reset is not None:
            reset()
    except BaseException as error:
        keep_failure(error)


cdef void on_reset(llama_sampler * sampler) noexcept nogil:
    if not exiting():
        reset_hook(sampler)


cdef llama_sampler * clone_hook(const llama_sampler * sampler) noexcept with gil:
    cdef Hook hook = <Hook> sampler.ctx
    try:
        return hooked(hook.twin())
    except BaseException as error:
        # C wants a sampler; whoever asked for it raises.
        keep_failure(error)
    try:
        return hooked(hook)
    except BaseException:
        return NULL


cdef void free_hook(llama_sampler * sampler) noexcept with gil:
    Py_DECREF(<Hook> sampler.ctx)


cdef void on_free(llama_sampler * sampler) noexcept nogil:
    if not exiting():
        free_hook(sampler)


cdef llama_sampler_i python_table
memset(&python_table, 0, sizeof(python_table))
python_table.name = on_name
python_table.accept = on_accept
python_table.apply = apply_or_throw
python_table.reset = on_reset
python_table.clone = clone_hook
python_table.free = on_free
apply_in_python = on_apply


cdef void * pointer(object capsule, const char * name) except NULL:
    cdef const char * found = NULL
    if not PyCapsule_CheckExact(capsule):
        raise TypeError(f"a capsule is expected, not {type(capsule).__name__}")
    if not PyCapsule_IsValid(capsule, name):
        found = PyCapsule_GetName(capsule)
        raise TypeError(
            f"the capsule holds {'something without a name' if found is NULL else found.decode('utf-8', 'replace')}, "
            f"not {name.decode()}"
        )
    return PyCapsule_GetPointer(capsule, name)


def init(sampler, context):
    """Do what :meth:`Sampler.init` says."""
    cdef Sampler made = Sampler.__new__(Sampler)
    cdef llama_sampler_i * table
    cdef void * ctx = NULL
    if not PyCapsule_CheckExact(sampler):
        if context is not None:
            raise TypeError("a context goes with a capsule of a function table, not with a Python sampler")
        made.own(hooked(Hook(sampler)))
    else:
        table = <llama_sampler_i *> pointer(sampler, LLAMA_CY_SAMPLER_I_CAPSULE)
        if table.apply is NULL:
            raise ValueError("the function table has no apply; expected a function")
        if context is not None:
            ctx = pointer(context, LLAMA_CY_SAMPLER_CONTEXT_CAPSULE)
        made.own(llama_sampler_init(table, ctx))
        made.kept = (sampler, context)
    made.custom = True
    return made


def apply(SamplerHandle sampler not None, candidates):
    """Do what :meth:`Sampler.apply` says."""
    cdef llama_token_data_array array
    cdef unsigned char[::1] view
    if not isinstance(candidates, Candidates):
        raise TypeError(f"candidates must be Candidates, not {type(candidates).__name__}")
    data = checked(candidates, INT32_MAX, sampler.n_vocab - 1 if sampler.n_vocab else INT32_MAX).copy()
    view = data.view(np.uint8)
    array.data = <llama_token_data *> &view[0]
    array.size = len(data)
    array.selected = -1 if candidates.selected is None else candidates.selected
    array.sorted = True if candidates.sorted else False
    sampler.enter()
    try:
        with nogil:
            llama_sampler_apply(sampler.ptr, &array)
        raise_failure()
    except LlamaError:
        raise_failure()
        raise
    except OverflowError as error:
        raise GrammarError(str(error)) from None
    finally:
        sampler.leave()
    left = taken(&array)
    candidates.data, candidates.selected, candidates.sorted = left.data, left.selected, left.sorted
