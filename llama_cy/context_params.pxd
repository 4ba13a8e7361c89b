from llama cimport llama_context_params, llama_model

from llama_cy.context_handle cimport ContextHandle
from llama_cy.eval_callback cimport Watch


cdef class ContextParams:
    cdef llama_context_params c
    cdef int poll
    cdef bint given_ubatch
    cdef bint given_flash_attn
    cdef Watch watch
    # The context whose memory it shares.
    cdef ContextHandle other

    cdef int look(self, object function, object chosen) except -1
    cdef int fit(self, llama_model * weights, dict metadata, bint offloaded) except -1
    cdef int choose_attention(self, llama_model * weights) except -1
    cdef int check_sequences(self, llama_model * weights, dict metadata) except -1
    cdef int fit_ubatch(self, dict metadata, bint encodes) except -1
