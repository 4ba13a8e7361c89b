from libc.stdint cimport int32_t

from llama_cy.prefix cimport PrefixKeeper


cdef class Outputs(PrefixKeeper):
    cdef int check_fresh(self) except -1
    cdef int check_logits(self) except -1
    cdef int check_embeddings(self, bint pooled) except -1
    cdef int embed(self, bint value) except -1
    cdef bint sampled_rows(self, int32_t i) except -1
    cdef const float * row(self, int32_t i) except NULL
