from llama_cy.sampler cimport Sampler


cdef class SamplerChain(Sampler):
    cdef list members
