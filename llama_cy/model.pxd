from llama_cy.model_facts cimport ModelFacts
from llama_cy.vocab cimport Vocab


cdef class Model(ModelFacts):
    cdef Vocab own_vocab
    cdef readonly str path
    cdef object __weakref__
