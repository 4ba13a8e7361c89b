from libc.stdint cimport uint8_t
from llama cimport llama_token


cdef class Snapshot:
    # Head, tokens and what llama.cpp gave, behind each other.
    cdef bytes data
    # Whether the head has its checksum already.
    cdef bint sealed
    cdef int c_seq_id
    cdef readonly bint partial
    cdef int first
    cdef int last
    cdef int n_tokens
    cdef bytes origin
    # What the context keeps on the device for it, while it does.
    cdef object device
    # Which context made it; None after a way through bytes.
    cdef object maker

    cdef const uint8_t * body(self, size_t * size) noexcept
    cdef const llama_token * tokens_at(self) noexcept
    cdef int seal(self) except -1

    @staticmethod
    cdef Snapshot make(bytes origin, int seq_id, bint partial, int first, int last, bytes tokens, size_t size)
