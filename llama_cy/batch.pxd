from libc.stdint cimport int8_t
from libcpp.vector cimport vector
from llama cimport llama_batch, llama_pos, llama_seq_id, llama_token


cdef class Batch:
    cdef llama_batch c
    cdef readonly int n_tokens_max
    cdef readonly int n_seq_max
    cdef llama_token highest_token
    cdef llama_pos highest_pos
    cdef int n_outputs
    cdef int most_seq_ids
    cdef bint busy
    # One block of sequences once they are shown as an array, and what C had in its place.
    cdef vector[llama_seq_id] seq_ids
    cdef vector[llama_seq_id *] own_seq_id
    # Views in use, and whether values are there that nobody checked.
    cdef int exports
    cdef bint touched
    # What a decode reads: `c`, or these copies while there are views.
    cdef llama_batch work
    cdef vector[llama_token] copied_token
    cdef vector[llama_pos] copied_pos
    cdef vector[int8_t] copied_logits
    cdef vector[llama_seq_id] copied_seq_ids
    cdef vector[llama_seq_id *] copied_seq_id
    cdef object __weakref__

    cdef int check(self) except -1
    cdef int enter(self) except -1
    cdef void leave(self) noexcept
    cdef int put(self, tuple arrays) except -1
    cdef int gather(self) except -1
    cdef int prepare(self) except -1
    cdef int survey(self) except -1
    cdef void reset(self) noexcept
    cdef void forget(self) noexcept
    cdef void release(self) noexcept
