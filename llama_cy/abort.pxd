cdef enum Scope:
    GUARD_NONE
    GUARD_GRAPH
    GUARD_CALL

cdef void guard(int scope) noexcept nogil
cdef void unguard() noexcept nogil
cdef bint device_lost() noexcept nogil
cdef bint guarded() noexcept nogil
