from libc.stdio cimport FILE


cdef bint check_file(FILE * file, str name, dict metadata) except -1
