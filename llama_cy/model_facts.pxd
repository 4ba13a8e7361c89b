from llama cimport llama_model

from llama_cy.handle cimport ModelHandle


cdef class ModelFacts:
    cdef ModelHandle handle

    cdef llama_model * ptr(self) except NULL
