"""The weights: what Model, Vocab, Context and the adapters share, freed when the last of them lets go."""

cimport cython
from llama cimport import_llama_cy, llama_model, llama_model_free, llama_supports_gpu_offload

from llama_cy.abort cimport device_lost
from llama_cy.adapter_gate cimport adapter_gate, adapter_gates
from llama_cy.lifetime cimport MODEL, born, check_exit, close_at_exit, died, generation, unused, use_gpu, used

from .errors import ClosedError

import_llama_cy()

cdef extern from *:
    """
    #include "kernels/adapter_gate.h"
    #include "kernels/system.h"
    static llama_cy::adapter_gates llama_cy_gates;
    static void llama_cy_hold_gates() { llama_cy_gates.hold(); }
    static void llama_cy_let_gates_go() { llama_cy_gates.let_go(); }
    static void llama_cy_renew_gates() { llama_cy_gates.renew(); }
    static void llama_cy_watch_gates() {
        llama_cy::watch_forks(llama_cy_hold_gates, llama_cy_let_gates_go, llama_cy_renew_gates);
    }
    """
    adapter_gates llama_cy_gates
    void llama_cy_watch_gates() noexcept

llama_cy_watch_gates()


# A collected cycle must not take `owner` away while contexts still compute with its weights.
@cython.no_gc_clear
@cython.final
cdef class ModelHandle:
    """Owner of one ``llama_model *``."""

    @staticmethod
    cdef ModelHandle own(llama_model * ptr):
        cdef ModelHandle handle = ModelHandle.__new__(ModelHandle)
        handle.ptr = ptr
        handle.generation = generation()
        handle.offloaded = handle.computed_on_gpu = llama_supports_gpu_offload()
        handle.spread = ()
        if handle.offloaded:
            use_gpu()
        born(MODEL, ptr)
        close_at_exit(handle, 1)
        return handle

    @staticmethod
    cdef ModelHandle borrow(llama_model * ptr, object owner):
        """Use weights that belong to `owner`, which is kept as long."""
        cdef ModelHandle handle = ModelHandle.__new__(ModelHandle)
        handle.ptr = ptr
        handle.generation = generation()
        handle.offloaded = handle.computed_on_gpu = llama_supports_gpu_offload()
        if handle.offloaded:
            use_gpu()
        handle.spread = ()
        handle.borrowed = True
        used(MODEL, ptr)
        handle.owner = owner
        close_at_exit(handle, 1)
        return handle

    cdef llama_model * alive(self) except NULL:
        if self.ptr is NULL:
            check_exit()
            raise ClosedError("the model is closed")
        return self.ptr

    cdef adapter_gate * gate(self) noexcept nogil:
        """What keeps those who change the model's adapters from those who read which ones there are."""
        return llama_cy_gates.of(self.ptr)

    cdef void release(self) noexcept:
        cdef llama_model * ptr = self.ptr
        self.ptr = NULL
        if ptr is not NULL and self.borrowed:
            unused(ptr)
        elif ptr is not NULL:
            died(MODEL, ptr)
            # A forked child would talk to a device that it does not have.
            if self.generation == generation():
                with nogil:
                    if not device_lost(self.offloaded):
                        llama_model_free(ptr)
        self.owner = None

    def _close_at_exit(self):
        self.release()

    def __dealloc__(self):
        self.release()
