from llama cimport llama_adapter_lora

from llama_cy.handle cimport ModelHandle


cdef class AdapterHandle:
    cdef llama_adapter_lora * ptr
    cdef ModelHandle handle

    cdef llama_adapter_lora * alive(self) except NULL


cdef class LoraAdapter:
    cdef AdapterHandle handle
    cdef readonly str path
    cdef readonly object model
    cdef object __weakref__

    cdef llama_adapter_lora * ptr(self) except NULL
