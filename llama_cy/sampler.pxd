from libc.stdint cimport int32_t, int64_t
from libcpp cimport bool
from libcpp.string cimport string
from libcpp.vector cimport vector
from llama cimport LLAMA_TOKEN_NULL, llama_sampler, llama_token

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

    cdef cppclass sampling_plan:
        void add(const sampler_step &) except +
        void only(const sampler_step &) except +
        void add(const sampling_plan &) except +
        void distrust(const string &) except +
        bool one_pass()
        const string & reason()
        size_t head()
        const vector[sampler_step] & steps()

cdef extern from "kernels/pick.h" namespace "llama_cy" nogil:
    cdef cppclass token_picker:
        sampling_plan plan
        llama_token pick(llama_sampler *, const float *, int32_t) except +
        void accept(llama_sampler *, llama_token) except +
        void reset(llama_sampler *) except +


cdef class Sampler:
    cdef llama_sampler * ptr
    cdef ModelHandle handle
    cdef bint moved
    cdef bint busy
    # What its samplers do, the tokens that they remember, and what choosing one works with.
    cdef token_picker picker
    cdef object __weakref__

    cdef llama_sampler * alive(self) except NULL
    cdef int enter(self) except -1
    cdef void leave(self) noexcept
    cdef int own(self, llama_sampler * ptr) except -1
    cdef int remember(self, sampler_step step) except -1
    cdef bint composed(self) noexcept
    cdef llama_token choose(self, const float * logits, int32_t n) except? LLAMA_TOKEN_NULL nogil
    cdef void release(self) noexcept
    cdef void forget(self) noexcept
