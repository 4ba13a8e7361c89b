# distutils: language = c++
"""Loops that go on from a context beside ours: the one in C, and ours without its guards."""

from libc.stdint cimport int32_t
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
    #include <stdexcept>
    #include <string>
    #include <vector>
    static llama_token unguarded_turn(
            llama_context * context, llama_sampler * sampler, llama_cy::token_picker & picker, int32_t n,
            std::vector<llama_token> & tokens) {
        llama_token token = picker.pick(sampler, llama_get_logits_ith(context, -1), n);
        llama_sampler_accept(sampler, token);
        picker.plan.recent.push(token);
        llama_batch batch = {};
        batch.n_tokens = 1;
        batch.token = &token;
        llama_decode(context, batch);
        tokens.push_back(token);
        return token;
    }

    // As in loop.cpp.
    struct c_loop {
        llama_context * context = nullptr;
        llama_sampler * chain = nullptr;
        const llama_vocab * vocab = nullptr;
        bool wants_text = false;
        std::vector<llama_token> tokens;
        std::string text;

        void turn(int n) {
            char piece[256];
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
        }
    };
    """
    llama_token unguarded_turn(llama_context *, llama_sampler *, token_picker &, int32_t, vector[llama_token] &) nogil

    cdef cppclass c_loop:
        llama_context * context
        llama_sampler * chain
        const llama_vocab * vocab
        bool wants_text
        void turn(int n) except + nogil
        vector[llama_token] tokens


cdef class CLoop:
    """The loop in C: ``llama_sampler_sample``, ``llama_decode`` and, if wanted, ``llama_token_to_piece``."""

    cdef Context context
    cdef Sampler sampler
    cdef c_loop loop
    cdef int n

    def __cinit__(self, Context context, Sampler sampler, int n, bint wants_text):
        self.context, self.sampler, self.n = context, sampler, n
        self.loop.context, self.loop.chain = context.ptr, sampler.ptr
        self.loop.vocab, self.loop.wants_text = context.own_vocab.ptr, wants_text

    def turn(self):
        """Generate `n` tokens."""
        with nogil:
            self.loop.turn(self.n)

    @property
    def tokens(self):
        """All tokens so far."""
        cdef llama_token token
        return [token for token in self.loop.tokens]


cdef class UnguardedLoop:
    """Our loop with the same choice and the same decode, by whoever calls, whatever the objects are in."""

    cdef Context context
    cdef Sampler sampler
    cdef vector[llama_token] produced

    def __cinit__(self, Context context, Sampler sampler):
        self.context, self.sampler = context, sampler

    def __iter__(self):
        return self

    def __next__(self):
        cdef llama_token token
        with nogil:
            token = unguarded_turn(self.context.ptr, self.sampler.ptr, self.sampler.picker, self.context.n_vocab, self.produced)
        return token

    @property
    def tokens(self):
        """All tokens so far."""
        cdef llama_token token
        return [token for token in self.produced]
