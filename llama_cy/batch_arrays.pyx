"""Zero-copy views of the arrays in a batch, which keep them from being freed while they live."""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT
from libc.stdint cimport int8_t, int32_t

from llama_cy.batch cimport Batch

import numpy as np


@cython.final
cdef class Column:
    """One array of a batch, as a writable buffer."""
    cdef Batch batch
    cdef void * values
    cdef bytes format
    cdef Py_ssize_t size
    cdef int ndim
    cdef Py_ssize_t shape[2]
    cdef Py_ssize_t strides[2]

    def __getbuffer__(self, Py_buffer * buffer, int flags):
        if self.batch is None:
            raise BufferError("a column belongs to a batch; use Batch.token and its like")
        if not self.batch:
            raise BufferError("the batch is closed")
        buffer.buf = self.values
        buffer.obj = self
        buffer.len = self.shape[0] * self.strides[0]
        buffer.readonly = False
        buffer.itemsize = self.size
        buffer.format = NULL
        if flags & PyBUF_FORMAT:
            buffer.format = self.format
        buffer.ndim = self.ndim
        buffer.shape = self.shape
        buffer.strides = self.strides
        buffer.suboffsets = NULL
        buffer.internal = NULL
        self.batch.exports += 1
        self.batch.touched = True

    def __releasebuffer__(self, Py_buffer * buffer):
        self.batch.exports -= 1


def view(Batch batch not None, str name):
    """Show an array of a batch as it is now; the batch counts it as an export until it is gone."""
    batch.check()
    cdef Column column = Column.__new__(Column)
    column.batch = batch
    column.ndim = 1
    column.shape[0] = batch.c.n_tokens
    if name == "logits":
        column.values, column.format, column.size = batch.c.logits, b"?", sizeof(int8_t)
    else:
        column.format, column.size = b"i", sizeof(int32_t)
        if name == "token":
            column.values = batch.c.token
        elif name == "pos":
            column.values = batch.c.pos
        else:
            batch.gather()
            column.values, column.ndim = batch.seq_ids.data(), 2
    column.shape[1] = batch.n_seq_max
    column.strides[0] = column.size * (batch.n_seq_max if column.ndim == 2 else 1)
    column.strides[1] = column.size
    return np.asarray(memoryview(column))
