from libcpp.vector cimport vector
from llama cimport llama_token

from llama_cy.decoder cimport Decoder


cdef class PrefixKeeper(Decoder):
    # The logits behind the last prompt, and whether a fresh run gives the very bits.
    cdef vector[float] kept_logits
    cdef bint kept_exact

    # What the caller of a loop that decodes ahead has seen: so many positions, the last token, or the logits if none.
    cdef int seen_past
    cdef llama_token seen_token
    cdef vector[float] seen_logits

    cdef int keep_prefix(self, const vector[llama_token] & prompt, bint exact) except -1
    cdef int decode_prompt(self, vector[llama_token] & prompt, int reused) except -1
    cdef int keep_logits(self, bint exact) except -1
    cdef void disown_loops(self) noexcept
    cdef int see(self, llama_token last) except -1
    cdef void saw(self, llama_token token) noexcept nogil
