cdef enum Kind:
    MODEL
    CONTEXT
    SAMPLER
    BATCH
    THREADPOOL
    ADAPTER
    N_KINDS

cdef void born(Kind kind, const void * ptr) noexcept nogil
cdef void died(Kind kind, const void * ptr) noexcept nogil
cdef void used(Kind kind, const void * ptr) noexcept nogil
cdef void unused(const void * ptr) noexcept nogil
cpdef void close_at_exit(object owner, int order)
cdef bint exiting() noexcept nogil
cdef int check_exit() except -1
cdef void use_gpu() noexcept nogil
cdef int generation() noexcept nogil
cdef int enter_native() except -1
cdef void leave_native() noexcept
cpdef int start_backends() except -1
cdef void begin_free() noexcept
cdef void end_free() noexcept
