from libcpp.vector cimport vector
from llama cimport llama_token

from llama_cy.decoder cimport Decoder


cdef class PrefixKeeper(Decoder):
    # The logits behind the last prompt, and whether a fresh run gives the very bits.
    cdef vector[float] kept_logits
    cdef bint kept_exact

    cdef int keep_prefix(self, const vector[llama_token] & prompt, bint exact) except -1
    cdef int decode_prompt(self, vector[llama_token] & prompt, int reused) except -1
    cdef int keep_logits(self, bint exact) except -1
