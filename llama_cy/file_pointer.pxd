from libc.stdio cimport FILE
from posix.stdio cimport fdopen
from posix.unistd cimport close, dup


cdef inline FILE * file_pointer(int fd) except NULL:
    """Open a descriptor of C's own, which fclose() closes."""
    cdef int own = dup(fd)
    cdef FILE * file = fdopen(own, b"rb") if own >= 0 else NULL
    if file is NULL:
        if own >= 0:
            close(own)
        raise OSError(f"descriptor {fd} can't be read")
    return file
