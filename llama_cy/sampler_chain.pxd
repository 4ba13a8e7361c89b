from llama_cy.sampler cimport Sampler


cdef class SamplerChain(Sampler):
    cdef list members

    cdef int refresh(self) except -1
    cdef int index(self, object i) except -1
