from libcpp.string cimport string
from libcpp.vector cimport vector
from llama cimport llama_sampler, llama_token, llama_token_data

from llama_cy.handle cimport ModelHandle


cdef void keep_failure(object error)
cdef bint has_failed()
cdef int raise_failure() except -1


cdef class SamplerHandle:
    cdef llama_sampler * ptr
    # The weights whose vocabulary C looks into.
    cdef ModelHandle handle
    # What else C code refers to.
    cdef object kept
    # How many tokens it is made for; 0 for any number.
    cdef int n_vocab
    cdef bint moved
    cdef bint busy
    # Whether a grammar took what it does not allow, so that only a reset helps.
    cdef bint lost
    cdef vector[llama_sampler *] grammars
    cdef vector[llama_token_data] candidates
    cdef string thrown
    cdef object __weakref__

    cdef llama_sampler * alive(self) except NULL
    cdef int enter(self) except -1
    cdef void leave(self) noexcept
    cdef int own(self, llama_sampler * ptr) except -1
    cdef int resemble(self, SamplerHandle other) except -1
    cdef int owned(self, llama_sampler * ptr) except -1
    cdef void release(self) noexcept
    cdef void forget(self) noexcept
    cdef int fits(self, int n_vocab) except -1
    cdef llama_token choose(self, const float * logits, int n_vocab) except? -1 nogil
    cdef int take(self, llama_token token) except -1 nogil
    cdef int restart(self) except -1
    cdef int failed(self, int code, llama_token token) except -1
