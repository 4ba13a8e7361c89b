cdef extern from "kernels/adapter_gate.h" namespace "llama_cy" nogil:
    cdef cppclass adapter_gate:
        void begin_read()
        void end_read()
        void begin_change()
        void end_change()

    cdef cppclass adapter_gates:
        adapter_gate * of(const void * model)
