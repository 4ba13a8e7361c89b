from libc.stdint cimport uint32_t
from llama cimport llama_token

from llama_cy.context cimport Context
from llama_cy.snapshot cimport Snapshot


cdef class State:
    cdef Context context

    cdef bytes origin(self, bint whole)
    cdef bint plain(self)
    cdef bytes known_tokens(self, int seq_id)
    cdef Snapshot copy(self, int seq_id, uint32_t flags)
    cdef bint read(self, Snapshot snapshot, int seq_id, uint32_t flags) except *
    cdef bint device_has_room(self, int seq_id, size_t tensors)
    cdef int check_still(self) except -1
    cdef int check_start(self, Snapshot snapshot) except -1
    cdef bint may_fail(self, Snapshot snapshot)
    cdef int undo(self, Snapshot before, int seq_id) except -1
    cdef bint begins_with(self, Snapshot snapshot, int seq_id)
    cdef int remember(self, const llama_token * tokens, size_t n, int seq_id) except -1
