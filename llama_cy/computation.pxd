from libcpp cimport bool

from llama_cy.adapter_gate cimport adapter_gate

cdef extern from "kernels/computation.h" namespace "llama_cy" nogil:
    cdef cppclass computation:
        bool due
        void join(adapter_gate * gate)
        void begin() except +
        void has_read()
        void end(bool computed)
        # For callbacks, through which it is thrown.
        void check_fork() noexcept
