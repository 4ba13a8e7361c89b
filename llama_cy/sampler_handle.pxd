from libc.stdint cimport int32_t, int64_t, uint64_t
from libcpp cimport bool
from libcpp.string cimport string
from libcpp.vector cimport vector
from llama cimport llama_context, llama_sampler, llama_token

from llama_cy.handle cimport ModelHandle

cdef extern from "kernels/plan.h" namespace "llama_cy" nogil:
    cdef enum step_kind:
        STEP_OTHER
        STEP_NOTHING
        STEP_BIAS
        STEP_PENALTIES
        STEP_TEMP
        STEP_TOP_K
        STEP_MIN_P
        STEP_GREEDY

    cdef cppclass sampler_step:
        step_kind kind
        string label
        int64_t count
        float value
        vector[int32_t] tokens
        void name(const char *) except +

    cdef cppclass sampling_plan:
        void add(const sampler_step &) except +
        void only(const sampler_step &) except +
        void add(const sampling_plan &) except +
        void distrust(const string &) except +
        bool one_pass()
        string reason() except +
        size_t head()
        const vector[sampler_step] & steps()

cdef extern from "kernels/pick.h" namespace "llama_cy" nogil:
    cdef cppclass token_picker:
        sampling_plan plan
        vector[llama_sampler *] grammars
        bool lost
        void resemble(const token_picker &) except +
        void find_grammars(llama_sampler *) except +
        void reset(llama_sampler *) except +


cdef class SamplerHandle:
    cdef llama_sampler * ptr
    # The weights whose vocabulary C looks into.
    cdef ModelHandle handle
    # What else C code refers to.
    cdef object kept
    # How many tokens it is made for; 0 for any number.
    cdef int n_vocab
    # How many chains are around the innermost sampler in it.
    cdef int depth
    # Whether code of others runs in it, which may be Python.
    cdef bint custom
    # The context that samples with it on the backend.
    cdef void * user
    cdef bint moved
    cdef bint busy
    # Counts its users, so that a loop that samples ahead notices others.
    cdef uint64_t uses
    # What its samplers do, the tokens that they remember, and what choosing one works with.
    cdef token_picker picker
    cdef string thrown
    cdef object __weakref__

    cdef llama_sampler * alive(self) except NULL
    cdef int enter(self) except -1
    cdef int enter_for(self, void * context) except -1
    cdef void leave(self) noexcept
    cdef int own(self, llama_sampler * ptr) except -1
    cdef int remember(self, sampler_step & step) except -1
    cdef bint composed(self) noexcept
    cdef int resemble(self, SamplerHandle other) except -1
    cdef int owned(self, llama_sampler * ptr) except -1
    cdef void release(self) noexcept
    cdef void forget(self) noexcept
    cdef int fits(self, int n_vocab) except -1
    cdef llama_token choose(self, const float * logits, int32_t n_vocab) except? -1 nogil
    cdef llama_token choose_sampled(self, llama_context * context, int32_t row) except? -1 nogil
    cdef int take(self, llama_token token) except -1 nogil
    cdef int restart(self) except -1
    cdef int failed(self, int code, bytes what) except -1
