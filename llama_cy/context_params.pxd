from llama cimport llama_context_params, llama_model


cdef class ContextParams:
    cdef llama_context_params c
    cdef int poll
    cdef bint given_ubatch

    cdef int fit(self, llama_model * weights, dict metadata) except -1
    cdef int check_sequences(self, llama_model * weights, dict metadata) except -1
    cdef int fit_ubatch(self, dict metadata, bint encodes) except -1
