from llama_cy.sampler_handle cimport SamplerHandle


cdef class Sampler(SamplerHandle):
    pass
