"""The weights: what Model, Vocab, Context and the adapters share, freed when the last of them lets go."""

cimport cython
from llama cimport import_llama_cy, llama_model, llama_model_free

from llama_cy.lifetime cimport MODEL, born, check_exit, close_at_exit, died

from .errors import ClosedError

import_llama_cy()


@cython.final
cdef class ModelHandle:
    """Owner of one ``llama_model *``."""

    @staticmethod
    cdef ModelHandle own(llama_model * ptr):
        cdef ModelHandle handle = ModelHandle.__new__(ModelHandle)
        handle.ptr = ptr
        born(MODEL)
        close_at_exit(handle, 1)
        return handle

    cdef llama_model * alive(self) except NULL:
        if self.ptr is NULL:
            check_exit()
            raise ClosedError("the model is closed")
        return self.ptr

    def _close_at_exit(self):
        cdef llama_model * ptr = self.ptr
        self.ptr = NULL
        if ptr is not NULL:
            with nogil:
                llama_model_free(ptr)
            died(MODEL)

    def __dealloc__(self):
        if self.ptr is not NULL:
            with nogil:
                llama_model_free(self.ptr)
            self.ptr = NULL
            died(MODEL)
