from ggml_backend cimport ggml_backend_dev_t
from libcpp.vector cimport vector
from llama cimport llama_model_kv_override, llama_model_params

from llama_cy.handle cimport ModelHandle


cdef class LoadParams:
    cdef llama_model_params c
    cdef vector[llama_model_kv_override] overrides
    cdef vector[float] split
    cdef vector[ggml_backend_dev_t] devices
    cdef object given_overrides

    cdef int place(self, object device) except -1
    cdef int check(self, str name, bytes path, bint trusted) except -1
    cdef ModelHandle from_file(self, str name, object callback, bint trusted)
