from libc.stdint cimport int64_t
from libcpp.vector cimport vector
from llama cimport llama_token

from llama_cy.context cimport Context
from llama_cy.sampler cimport Sampler


cdef enum Step:
    ENDED
    TOKEN
    LAST


cdef enum Reason:
    RUNNING
    STOP
    LENGTH
    EOG
    CANCELLED


cdef class TokenLoop:
    cdef readonly Context context
    cdef readonly Sampler sampler
    cdef vector[llama_token] prompt
    cdef vector[llama_token] produced
    cdef vector[llama_token] stop_tokens
    cdef int64_t max_tokens
    cdef bint ignore_eog
    cdef bint fresh
    cdef bint reuse
    cdef bint exact
    cdef readonly int reused
    cdef bint started
    cdef readonly bint closed
    cdef bint running
    cdef Reason reason
    cdef int past
    cdef int room
    cdef unsigned long long epoch
    cdef int64_t prompt_us
    cdef int64_t loop_us

    cdef int enter(self) except -1
    cdef void leave(self) noexcept
    cdef int check_idle(self) except -1
    cdef int start(self) except -1
    cdef Step step(self) except? LAST nogil
    cdef int decoded(self, int code) except -1
