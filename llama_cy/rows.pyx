"""Zero-copy views of logits, which hold the context still while they live."""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_WRITABLE
from libc.stdint cimport int32_t

from llama_cy.context cimport Context

import numpy as np


@cython.final
cdef class Row:
    """One row of a context's logits, as a read-only buffer of float32."""
    cdef Context context
    cdef const float * values
    cdef int exports
    cdef Py_ssize_t shape[1]
    cdef Py_ssize_t strides[1]

    def __getbuffer__(self, Py_buffer * buffer, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("logits are read-only")
        if self.context is None:
            raise BufferError("a row belongs to a context; use Context.logits_view()")
        if self.values is NULL:
            raise BufferError("these logits are gone: ask the context for a new view")
        self.shape[0] = self.context.n_vocab
        self.strides[0] = sizeof(float)
        buffer.buf = <void *> self.values
        buffer.obj = self
        buffer.len = self.context.n_vocab * sizeof(float)
        buffer.readonly = True
        buffer.itemsize = sizeof(float)
        buffer.format = NULL
        if flags & PyBUF_FORMAT:
            buffer.format = b"f"
        buffer.ndim = 1
        buffer.shape = self.shape
        buffer.strides = self.strides
        buffer.suboffsets = NULL
        buffer.internal = NULL
        self.context.exports += 1
        self.exports += 1

    def __releasebuffer__(self, Py_buffer * buffer):
        self.context.exports -= 1
        self.exports -= 1
        # Nothing holds the context still any more, so a later export would show other memory.
        if self.exports == 0:
            self.values = NULL


def view(Context context not None, int32_t i):
    """Show row `i` as a read-only float32 array; the context counts it as an export until it is gone."""
    cdef Row row
    context.enter()
    try:
        row = Row.__new__(Row)
        row.context = context
        row.values = context.row(i)
        return np.asarray(memoryview(row))
    finally:
        context.leave()
