from llama cimport llama_model

from llama_cy.adapter_gate cimport adapter_gate


cdef class ModelHandle:
    cdef llama_model * ptr
    # Whether somebody else frees it, and who keeps it until then.
    cdef bint borrowed
    cdef object owner
    # Whether a GPU may have some of it, and whether one computes for it, which it also does with weights elsewhere.
    cdef bint offloaded
    cdef bint computed_on_gpu
    # Whether the CPU's kernels were free to rearrange its weights.
    cdef bint may_rearrange
    # Names of the devices over which each tensor is split.
    cdef tuple spread
    # What its file says under the name of its architecture.
    cdef dict hyperparameters
    # Of the process that loaded it.
    cdef int generation
    cdef object __weakref__

    cdef llama_model * alive(self) except NULL
    cdef adapter_gate * gate(self) noexcept nogil
    cdef void release(self) noexcept

    @staticmethod
    cdef ModelHandle own(llama_model * ptr)

    @staticmethod
    cdef ModelHandle borrow(llama_model * ptr, object owner)
