from ggml cimport ggml_threadpool, ggml_threadpool_params


cdef class Threadpool:
    cdef ggml_threadpool * ptr
    cdef ggml_threadpool_params params
    cdef readonly int n_threads
    cdef readonly tuple cpumask
    cdef object user
    # Of the process that has the threads.
    cdef int generation

    cdef int create(self) except -1
    cdef int serve(self, object context) except -1
