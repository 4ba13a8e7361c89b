cdef enum Scope:
    GUARD_NONE
    GUARD_GRAPH
    GUARD_CALL

cdef void guard(int scope) noexcept nogil
cdef void unguard() noexcept nogil
cdef int check_devices(bint wanted) except -1
cdef bint device_lost(bint offloaded) noexcept nogil
cdef bint guarded() noexcept nogil
