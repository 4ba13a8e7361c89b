from llama_cy.sampler cimport Sampler


cdef class SamplerChain(Sampler):
    cdef list members
    cdef bint no_perf

    cdef int refresh(self) except -1
    cdef int index(self, object i) except -1
