from llama cimport llama_model

from llama_cy.handle cimport ModelHandle


cdef class ModelFacts:
    cdef ModelHandle handle
    cdef readonly bint vocab_only

    cdef llama_model * ptr(self) except NULL
    cdef bint has_layers(self) except -1
