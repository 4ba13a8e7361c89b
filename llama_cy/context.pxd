from llama_cy.outputs cimport Outputs


cdef class Context(Outputs):
    cdef str signature
