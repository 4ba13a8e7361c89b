from libcpp.vector cimport vector
from llama cimport llama_batch_ext

from llama_cy.context_handle cimport ContextHandle


cdef class BatchExt:
    cdef llama_batch_ext * ptr
    cdef ContextHandle context
    cdef readonly int n_tokens_max
    cdef readonly int n_seq_max
    cdef readonly int n_pos_per_embd
    cdef int n_vocab
    # Numbers in an embedding of this batch, once it has one; so many entries have one.
    cdef int n_embd
    cdef int n_rows
    cdef int n_ids
    cdef vector[bint] has_id
    cdef vector[bint] placed
    cdef vector[bint] output
    cdef vector[int] seq_ids
    cdef int most_seq_ids
    cdef int highest_pos
    cdef bint busy
    cdef object __weakref__

    cdef int check(self) except -1
    cdef int enter(self) except -1
    cdef void leave(self) noexcept
    cdef void reset(self) noexcept
    cdef void release(self) noexcept
    cdef int index(self, object i) except -1
    cdef int room(self) except -1
    cdef int note(self, int i, int seq_id, bint has_id) except -1
    cdef object row(self, object values)
