from libc.stdint cimport int32_t

from llama_cy.decoder cimport Decoder


cdef class Context(Decoder):
    cdef str signature

    cdef int check_fresh(self) except -1
    cdef const float * row(self, int32_t i) except NULL
