from llama cimport llama_token, llama_vocab

from llama_cy.handle cimport ModelHandle


cdef class VocabFacts:
    cdef ModelHandle handle
    cdef const llama_vocab * ptr
    cdef readonly int n_tokens

    cdef int check(self) except -1
    cdef int check_texts(self) except -1
    cdef llama_token token(self, object value) except? -2
