from libc.stdint cimport int32_t, int64_t, uint64_t
from libcpp cimport bool as c_bool
from libcpp.pair cimport pair
from libcpp.string cimport string
from libcpp.vector cimport vector
from llama cimport llama_context, llama_cy_raise, llama_sampler, llama_token, llama_vocab

from llama_cy.atomic cimport atomic_bool
from llama_cy.computation cimport computation
from llama_cy.context cimport Context
from llama_cy.context_handle cimport decoding_ahead
from llama_cy.sampler cimport Sampler
from llama_cy.sampler_handle cimport token_picker

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
        computation * computing
        const llama_vocab * vocab
        int32_t n_vocab
        vector[llama_token] stop_tokens
        c_bool ignore_eog
        int64_t left
        int64_t room
        int64_t n_best
        const float * kept
        const float * row() except +llama_cy_raise
        void take(loop_turn &, llama_token, const float *) except +llama_cy_raise


cdef enum Step:
    ENDED
    TOKEN
    LAST
    PENDING


cdef enum Reason:
    RUNNING
    STOP
    LENGTH
    EOG
    CANCELLED


cdef extern from "kernels/run_ahead.h" namespace "llama_cy" nogil:
    int SAMPLE_OK

    cdef cppclass ahead_turn:
        loop_turn turn
        int sampled
        string what
        c_bool last()

    cdef cppclass run_ahead(decoding_ahead):
        run_ahead(const turn_taker &, const token_picker &, const llama_sampler *, size_t, const atomic_bool &,
                  void (*)(int) noexcept nogil, int, void () noexcept nogil) except +llama_cy_raise
        c_bool next(ahead_turn &, int) except +llama_cy_raise
        void give(ahead_turn &, llama_sampler *, token_picker &) except +llama_cy_raise


cdef class TokenLoop:
    cdef readonly Context context
    cdef readonly Sampler sampler
    cdef vector[llama_token] prompt
    cdef vector[llama_token] produced
    cdef vector[token_logprob] probabilities
    cdef turn_taker taker
    cdef loop_turn turn
    # How many tokens to decode ahead, by which thread, and the turn that came from it last.
    cdef size_t n_ahead
    cdef run_ahead * runner
    cdef ahead_turn received
    # The uses of the sampler that the thread knows of.
    cdef uint64_t sampler_uses
    # Whether the context samples with the computation.
    cdef bint on_backend
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
    cdef int check_attached(self) except -1
    cdef int start(self) except -1
    cdef Step step(self) except? LAST nogil
    cdef Step note(self) except? LAST nogil
    cdef int run(self) except -1
    cdef void drop(self) noexcept
    cdef Step follow(self) except? LAST nogil
