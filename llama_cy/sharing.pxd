from llama_cy.context_params cimport ContextParams
from llama_cy.handle cimport ModelHandle


cdef int share(ContextParams settings, ModelHandle handle, str arch, dict params, int n_vocab) except -1
