"""Tokens for many rows of logits at once."""

from libc.stdint cimport int32_t
from libcpp.string cimport string
from libcpp.vector cimport vector
from llama cimport import_llama_cy, llama_cy_raise, llama_sampler, llama_token

from llama_cy.abort cimport GUARD_GRAPH, guard, unguard
from llama_cy.context cimport Context
from llama_cy.sampler cimport Sampler
from llama_cy.sampler_failure cimport raise_failure
from llama_cy.sampler_handle cimport token_picker

import numpy as np

from .checks import INT32_MAX, each, integer
from .errors import ContextBusyError
from .threadpool import MAX_THREADS, default_n_threads

import_llama_cy()

cdef extern from "kernels/pick_rows.h" namespace "llama_cy" nogil:
    cdef cppclass row_task:
        token_picker * picker
        llama_sampler * sampler
        const float * logits
        llama_token token
        int code
        string error

    size_t pick_rows(
        vector[row_task] &, int32_t, size_t, void (*)(int) noexcept nogil, int, void () noexcept nogil) except +llama_cy_raise

# A thread is worth its start from about so many logits on.
THREAD_LOGITS = 200_000


def sample_rows(chains, source, rows=None, *, n_threads=None):
    """Choose a token for each of many rows and accept it, as :meth:`Sampler.sample` does for one.

    Parameters
    ----------
    chains : iterable of Sampler
        One for each row, all different.
    source : Context or numpy.ndarray
        What holds the logits of its last decode, or float32 of shape ``(n, n_vocab)`` with contiguous rows.
    rows : iterable of int, optional
        For each chain the index of its row: in the batch, or in the array; negative counts from the end. By default all
        rows that there are, in order.
    n_threads : int, optional
        At most so many threads, this one among them. By default as many as pay.

    Returns
    -------
    numpy.ndarray
        int32, shape ``(len(chains),)``.

    Raises
    ------
    ValueError
        Not as many rows as chains, the same chain twice, a row without logits or with a NaN, or a chain that selects
        nothing. No chain accepts a token then, though some may have drawn.
    ClosedError
        A chain is closed, or in another one.
    ContextBusyError
        Another thread uses the context or a chain.
    """
    cdef list samplers = sampler_list(chains)
    cdef vector[row_task] tasks
    cdef Context context = source if isinstance(source, Context) else None
    cdef const float[:, :] array
    cdef const float * first
    cdef Py_ssize_t i, n = len(samplers)
    cdef int32_t n_vocab
    if n == 0:
        raise ValueError("there are no chains")
    indices = None if rows is None else [integer("row", row, -INT32_MAX, INT32_MAX) for row in each("rows", rows)]
    if indices is not None and len(indices) != n:
        raise ValueError(f"{len(indices)} rows are given for {n} chains")
    tasks.resize(n)
    if context is not None:
        context.enter()
        try:
            if indices is None:
                check_count(context.n_rows, n)
                indices = range(-n, 0)
            for i in range(n):
                tasks[i].logits = context.row(indices[i])
            return choose(samplers, tasks, context.n_vocab, n_threads)
        finally:
            context.leave()
    values = logits_array(source)
    if indices is None:
        check_count(values.shape[0], n)
        indices = range(n)
    array = values
    n_vocab = <int32_t> values.shape[1]
    for i in range(n):
        row = integer("row", indices[i], -values.shape[0], values.shape[0] - 1)
        first = &array[row, 0]
        tasks[i].logits = first
    return choose(samplers, tasks, n_vocab, n_threads)


cdef object choose(list samplers, vector[row_task] & tasks, int32_t n_vocab, n_threads):
    cdef Py_ssize_t i, n = len(samplers)
    cdef size_t failed, threads
    cdef Sampler sampler
    cdef int32_t[::1] tokens
    if n_threads is None:
        threads = max(1, min(default_n_threads(), n * n_vocab // THREAD_LOGITS))
    else:
        threads = integer("n_threads", n_threads, 1, MAX_THREADS)
    threads = min(threads, <size_t> n)
    result = np.empty(n, dtype=np.int32)
    tokens = result
    # One guard for all: each sampler's own would be one too many.
    for i in range(n):
        sampler = samplers[i]
        sampler.alive()
        sampler.fits(n_vocab)
        if sampler.busy:
            raise ContextBusyError(f"chain {i} is in use by another thread")
        if sampler.custom:
            # What Python raises comes out of the thread that it runs in.
            threads = 1
    for i in range(n):
        sampler = samplers[i]
        sampler.busy = True
        sampler.uses += 1
        tasks[i].picker, tasks[i].sampler = &sampler.picker, sampler.ptr
    try:
        with nogil:
            failed = pick_rows(tasks, n_vocab, threads, guard, GUARD_GRAPH, unguard)
    finally:
        for i in range(n):
            (<Sampler> samplers[i]).busy = False
    raise_failure()
    if failed < tasks.size():
        (<Sampler> samplers[failed]).failed(tasks[failed].code, f"row {failed}: ".encode() + tasks[failed].error)
    for i in range(n):
        tokens[i] = tasks[i].token
    return result


def sampler_list(chains):
    """Return the chains as a list of different samplers."""
    found = list(each("chains", chains, "an iterable of Sampler"))
    seen = {}
    for i, chain in enumerate(found):
        if not isinstance(chain, Sampler):
            raise TypeError(f"chain {i} must be a Sampler, not {type(chain).__name__}")
        if seen.setdefault(id(chain), i) != i:
            raise ValueError(f"chains {seen[id(chain)]} and {i} are the same; clone() makes another")
    return found


def check_count(there, wanted):
    """Refuse another number of rows than of chains."""
    if there != wanted:
        raise ValueError(f"there are {there} rows of logits for {wanted} chains")


def logits_array(source):
    """Return float32 logits as rows that are contiguous each."""
    array = np.asarray(source)
    if array.dtype != np.float32:
        raise TypeError(f"source must be a Context or float32, not {array.dtype}")
    if array.ndim != 2 or not 0 < array.shape[1] <= INT32_MAX:
        raise ValueError(f"source has shape {array.shape}; rows of at least one logit are expected")
    return array if array.strides[1] == array.itemsize or array.shape[1] == 1 else np.ascontiguousarray(array)
