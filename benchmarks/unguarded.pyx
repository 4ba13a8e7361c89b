# distutils: language = c++
"""The token loop without its guards: the same choice and the same decode, by whoever calls, whatever the objects are in."""

from libc.stdint cimport int32_t, int64_t
from llama cimport import_llama_cy, llama_context, llama_sampler, llama_token

from llama_cy.context cimport Context
from llama_cy.sampler cimport Sampler
from llama_cy.sampler_handle cimport token_picker

import_llama_cy()

cdef extern from *:
    """
    #include "kernels/pick.h"
    static llama_token unguarded_turn(
            llama_context * context, llama_sampler * sampler, llama_cy::token_picker & picker, int32_t n) {
        llama_token token = picker.pick(sampler, llama_get_logits_ith(context, -1), n);
        llama_sampler_accept(sampler, token);
        picker.plan.recent.push(token);
        llama_batch batch = {};
        batch.n_tokens = 1;
        batch.token = &token;
        llama_decode(context, batch);
        return token;
    }
    """
    llama_token unguarded_turn(llama_context *, llama_sampler *, token_picker &, int32_t) nogil


cdef class UnguardedLoop:
    """So many tokens after those that the context holds, as ids."""

    cdef Context context
    cdef Sampler sampler
    cdef int64_t left

    def __cinit__(self, Context context, Sampler sampler, int64_t n):
        self.context, self.sampler, self.left = context, sampler, n

    def __iter__(self):
        return self

    def __next__(self):
        cdef llama_token token
        if self.left == 0:
            raise StopIteration
        self.left -= 1
        with nogil:
            token = unguarded_turn(self.context.ptr, self.sampler.ptr, self.sampler.picker, self.context.n_vocab)
        return token
