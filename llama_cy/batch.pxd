from llama cimport llama_batch, llama_pos, llama_token


cdef class Batch:
    cdef llama_batch c
    cdef readonly int n_tokens_max
    cdef readonly int n_seq_max
    cdef llama_token highest_token
    cdef llama_pos highest_pos
    cdef int n_outputs
    cdef int most_seq_ids
    cdef bint busy
    cdef object __weakref__

    cdef int check(self) except -1
    cdef int enter(self) except -1
    cdef void leave(self) noexcept
    cdef void reset(self) noexcept
    cdef void release(self) noexcept
