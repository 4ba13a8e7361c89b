from llama_cy.attachments cimport Attachments


cdef class Context(Attachments):
    cdef str signature
