from libc.stdint cimport uint32_t, uint64_t
from ggml cimport ggml_type


cdef class Array:
    cdef readonly uint64_t kind
    cdef readonly uint64_t n
    cdef readonly uint64_t start


cdef class TensorInfo:
    cdef readonly str name
    cdef readonly tuple dims
    cdef readonly ggml_type kind
    cdef readonly uint64_t offset
    cdef readonly uint64_t size


cdef class Header:
    cdef readonly str what
    cdef readonly str name
    cdef readonly dict values
    cdef readonly dict kinds
    cdef readonly dict tensors
    cdef readonly bytes data
    cdef readonly uint64_t size
    cdef readonly uint64_t alignment
    cdef readonly uint64_t data_start
    # Where the parser is, and in what.
    cdef uint64_t at
    cdef str place

    cdef const unsigned char * take(self, uint64_t n) except NULL
    cdef uint32_t word(self) except? 0xFFFF
    cdef uint64_t long_word(self) except? 0xFFFF
    cdef bytes text(self, uint64_t most)
    cdef int parse(self) except -1
    cdef int parse_value(self, uint64_t i) except -1
    cdef object parse_array(self, str key)
    cdef int skip_texts(self, uint64_t n) except -1
    cdef uint64_t find_alignment(self) except 0
    cdef int parse_tensor(self, uint64_t i) except -1
    cdef int check_places(self) except -1
