cdef int n_failures

cdef void keep_failure(object error)
cdef void tell_failure(object error, object where) noexcept
cdef bint has_failed()
cdef void tell_kept(object where) noexcept
cdef int raise_failure() except -1
