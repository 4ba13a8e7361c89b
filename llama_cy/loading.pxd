from ggml_backend cimport ggml_backend_dev_t
from libc.stdint cimport int64_t
from libcpp cimport bool
from libcpp.vector cimport vector
from llama cimport llama_model, llama_model_kv_override, llama_model_params, llama_model_tensor_buft_override

from llama_cy.handle cimport ModelHandle


cdef class LoadProgress:
    cdef object callback
    cdef object error
    cdef int64_t checked_us

    cdef bool report(self, float progress) noexcept with gil


cdef class LoadParams:
    cdef llama_model_params c
    cdef vector[llama_model_kv_override] overrides
    cdef vector[float] split
    cdef vector[llama_model_tensor_buft_override] buft_overrides
    cdef list patterns
    cdef vector[ggml_backend_dev_t] devices
    cdef object given_overrides
    cdef dict hyperparameters
    cdef tuple spread

    cdef int place(self, object device) except -1
    cdef int add_buft_overrides(self, object overrides) except -1
    cdef int try_first(self, object path) except -1
    cdef object look(self, file, str name, start)
    cdef int look_at_all(self, list headers) except -1
    cdef LoadProgress begin(self, object callback)
    cdef ModelHandle end(self, llama_model * ptr, object error, str name)
    cdef ModelHandle from_file(self, str name, object callback, bint trusted)
    cdef ModelHandle from_splits(self, list names, object callback, bint trusted)
    cdef ModelHandle from_descriptor(self, int fd, object position, str name, object callback, bint trusted)


cdef int fill_overrides(object overrides, vector[llama_model_kv_override] & out) except -1
