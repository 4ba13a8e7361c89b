from llama cimport llama_model


cdef class ModelHandle:
    cdef llama_model * ptr
    cdef object __weakref__

    cdef llama_model * alive(self) except NULL

    @staticmethod
    cdef ModelHandle own(llama_model * ptr)
