from ggml cimport ggml_threadpool


cdef class Threadpool:
    cdef ggml_threadpool * ptr
    cdef readonly int n_threads
    cdef object user

    cdef int serve(self, object context) except -1
