from libc.stdint cimport int32_t
from libcpp.vector cimport vector
from llama cimport llama_token

from llama_cy.handle cimport ModelHandle
from llama_cy.vocab_facts cimport VocabFacts


cdef class Vocab(VocabFacts):
    cdef int check_special(self) except -1
    cdef int collect(self, object tokens, vector[llama_token] & out) except -1
    cdef bytes cleaned(self, vector[llama_token] & ids, bint remove_special, bint unparse_special)
    cdef bytes joined(self, const llama_token * ids, size_t count, bint special)
    cdef bytes piece(self, llama_token token, int32_t lstrip, bint special)

    @staticmethod
    cdef Vocab borrow(ModelHandle handle)
