# distutils: language = c++
"""Loops that go on from a context beside ours: the one in C, and ours without its guards."""

from libc.stdint cimport int32_t, int64_t
from libcpp cimport bool
from libcpp.vector cimport vector
from llama cimport import_llama_cy, llama_context, llama_sampler, llama_token, llama_vocab

from llama_cy.context cimport Context
from llama_cy.sampler cimport Sampler
from llama_cy.sampler_handle cimport token_picker

import_llama_cy()

cdef extern from *:
    """
    #include "kernels/pick.h"
    #include <chrono>
    #include <stdexcept>
    #include <string>
    #include <vector>
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

    // As in loop.cpp. It reads the clock itself: calling it from Python is no part of it.
    struct c_loop {
        llama_context * context = nullptr;
        llama_sampler * chain = nullptr;
        const llama_vocab * vocab = nullptr;
        bool wants_text = false;
        std::vector<llama_token> tokens;
        std::string text;

        int64_t turn(int n) {
            using clock = std::chrono::steady_clock;
            char piece[256];
            const auto begin = clock::now();
            for (int i = 0; i < n; i++) {
                llama_token token = llama_sampler_sample(chain, context, -1);
                tokens.push_back(token);
                if (wants_text) {
                    const int length = llama_token_to_piece(vocab, token, piece, sizeof piece, 0, false);
                    if (length < 0) {
                        throw std::runtime_error("the piece is too long");
                    }
                    text.append(piece, length);
                }
                if (llama_decode(context, llama_batch_get_one(&token, 1)) != 0) {
                    throw std::runtime_error("a token can't be decoded");
                }
            }
            return std::chrono::duration_cast<std::chrono::nanoseconds>(clock::now() - begin).count();
        }
    };
    """
    llama_token unguarded_turn(llama_context *, llama_sampler *, token_picker &, int32_t) nogil

    cdef cppclass c_loop:
        llama_context * context
        llama_sampler * chain
        const llama_vocab * vocab
        bool wants_text
        int64_t turn(int n) except + nogil
        vector[llama_token] tokens


cdef class CLoop:
    """The loop in C: ``llama_sampler_sample``, ``llama_decode`` and, if wanted, ``llama_token_to_piece``."""

    cdef Context context
    cdef Sampler sampler
    cdef c_loop loop

    def __cinit__(self, Context context, Sampler sampler, bint wants_text):
        self.context, self.sampler = context, sampler
        self.loop.context, self.loop.chain = context.ptr, sampler.ptr
        self.loop.vocab, self.loop.wants_text = context.own_vocab.ptr, wants_text

    def turn(self, int n):
        """Generate so many tokens, and return the nanoseconds they took."""
        cdef int64_t nanoseconds
        with nogil:
            nanoseconds = self.loop.turn(n)
        return nanoseconds

    def last(self, size_t n):
        """Return the last tokens."""
        cdef size_t i
        return [self.loop.tokens[self.loop.tokens.size() - n + i] for i in range(n)]


cdef class UnguardedLoop:
    """Our loop with the same choice and the same decode, by whoever calls, whatever the objects are in."""

    cdef Context context
    cdef Sampler sampler

    def __cinit__(self, Context context, Sampler sampler):
        self.context, self.sampler = context, sampler

    def __iter__(self):
        return self

    def __next__(self):
        cdef llama_token token
        with nogil:
            token = unguarded_turn(self.context.ptr, self.sampler.ptr, self.sampler.picker, self.context.n_vocab)
        return token
