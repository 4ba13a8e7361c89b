from libc.stdint cimport int32_t, int64_t
from libcpp cimport bool as c_bool
from libcpp.pair cimport pair
from libcpp.string cimport string
from libcpp.vector cimport vector
from llama cimport llama_context, llama_token, llama_vocab

from llama_cy.context cimport Context
from llama_cy.sampler cimport Sampler

cdef extern from "kernels/take_turn.h" namespace "llama_cy" nogil:
    cdef enum turn_kind:
        TURN_TOKEN
        TURN_LENGTH
        TURN_EOG
        TURN_STOP
        TURN_CANCELLED
        TURN_FAILED

    cdef cppclass token_logprob:
        int32_t token
        float logprob
        vector[pair[int32_t, float]] best

    cdef cppclass loop_turn:
        turn_kind kind
        llama_token token
        c_bool decoded
        int code
        string thrown
        token_logprob logprob

    cdef cppclass turn_taker:
        llama_context * context
        const llama_vocab * vocab
        int32_t n_vocab
        vector[llama_token] stop_tokens
        c_bool ignore_eog
        int64_t left
        int64_t room
        int64_t n_best
        const float * kept
        const float * row() except +
        void take(loop_turn &, llama_token, const float *) except +


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
    cdef vector[token_logprob] probabilities
    cdef turn_taker taker
    cdef loop_turn turn
    cdef bint fresh
    cdef bint reuse
    cdef bint exact
    cdef readonly int reused
    cdef bint started
    cdef readonly bint closed
    cdef bint running
    cdef Reason reason
    cdef unsigned long long epoch
    cdef int64_t prompt_us
    cdef int64_t loop_us

    cdef int enter(self) except -1
    cdef void leave(self) noexcept
    cdef int check_idle(self) except -1
    cdef int start(self) except -1
    cdef Step step(self) except? LAST nogil
    cdef Step note(self) except? LAST nogil
