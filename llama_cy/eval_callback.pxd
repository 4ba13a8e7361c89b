from libcpp cimport bool
from ggml cimport ggml_tensor

from llama_cy.atomic cimport atomic_bool
from llama_cy.computation cimport computation


cdef bool on_eval(ggml_tensor * tensor, bool ask, void * watch) noexcept nogil
cdef object values(const ggml_tensor * tensor)
cdef object described(const ggml_tensor * tensor, object data)


cdef class Watch:
    # The context's own, so that the computation ends where cancel() would end it.
    cdef atomic_bool * cancelled
    cdef computation * computing
    cdef bint stopped
    cdef object error

    cdef int join(self, atomic_bool * cancelled, computation * computing) except -1
    cdef bint wants(self, const ggml_tensor * tensor) except -1
    cdef bint take(self, const ggml_tensor * tensor) except -1
    cdef bool see(self, const ggml_tensor * tensor, bool ask) noexcept with gil
    cdef int resume(self) except -1


cdef class EvalCallback(Watch):
    cdef object function
    cdef object chosen


cdef str name_of(const ggml_tensor * tensor)
cdef object values(const ggml_tensor * tensor)
