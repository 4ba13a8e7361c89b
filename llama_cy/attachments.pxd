from llama_cy.outputs cimport Outputs


cdef class Attachments(Outputs):
    pass
