from llama cimport llama_model

from llama_cy.handle cimport ModelHandle
from llama_cy.vocab cimport Vocab


cdef class Model:
    cdef ModelHandle handle
    cdef Vocab own_vocab
    cdef readonly str path
    cdef readonly bint vocab_only
    cdef object __weakref__

    cdef llama_model * ptr(self) except NULL
    cdef bint has_layers(self) except -1
