from libcpp cimport bool

cdef extern from "<atomic>" namespace "std" nogil:
    cdef cppclass atomic_bool:
        bool load()
        void store(bool)
