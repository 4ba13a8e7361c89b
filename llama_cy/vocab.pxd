from libc.stdint cimport int32_t
from libcpp.vector cimport vector
from llama cimport llama_token, llama_vocab

from llama_cy.handle cimport ModelHandle


cdef class Vocab:
    cdef ModelHandle handle
    cdef const llama_vocab * ptr
    cdef readonly int n_tokens

    cdef int check(self) except -1
    cdef int check_texts(self) except -1
    cdef int check_special(self) except -1
    cdef llama_token token(self, object value) except? -2
    cdef int collect(self, object tokens, vector[llama_token] & out) except -1
    cdef bytes cleaned(self, vector[llama_token] & ids, bint remove_special, bint unparse_special)
    cdef bytes joined(self, const llama_token * ids, size_t count, bint special)
    cdef bytes piece(self, llama_token token, int32_t lstrip, bint special)

    @staticmethod
    cdef Vocab borrow(ModelHandle handle)
