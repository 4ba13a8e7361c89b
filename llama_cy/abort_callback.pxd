from libc.stdint cimport int64_t
from libcpp cimport bool

from llama_cy.atomic cimport atomic_bool
from llama_cy.computation cimport computation


cdef bool on_abort(void * callback) noexcept nogil


cdef class AbortCallback:
    # The context's own flag, which this one sets too.
    cdef atomic_bool * cancelled
    cdef computation * computing
    cdef object function
    cdef int64_t interval_us
    cdef int64_t due_us
    cdef bint stopped
    cdef object error

    cdef bool ask(self) noexcept with gil
    cdef int resume(self) except -1
