from libcpp cimport bool
from libcpp.vector cimport vector
from llama cimport llama_sampler, llama_token, llama_token_data

from llama_cy.handle cimport ModelHandle

cdef extern from "kernels/sample.h" nogil:
    llama_token sample_row "llama_cy::sample_row" (
        llama_sampler * sampler, const float * logits, int n_vocab, vector[llama_token_data] & candidates,
    ) except +


cdef class Sampler:
    cdef llama_sampler * ptr
    cdef ModelHandle handle
    cdef bint moved
    cdef bint busy
    cdef vector[llama_token_data] candidates
    cdef object __weakref__

    cdef llama_sampler * alive(self) except NULL
    cdef int enter(self) except -1
    cdef void leave(self) noexcept
    cdef int own(self, llama_sampler * ptr) except -1
    cdef void release(self) noexcept
    cdef void forget(self) noexcept
