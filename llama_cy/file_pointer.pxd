from libc.stdio cimport FILE


cdef extern from "kernels/system.h" namespace "llama_cy":
    FILE * reopen(int descriptor)


cdef inline FILE * file_pointer(int fd) except NULL:
    """Open a descriptor of C's own, which fclose() closes."""
    cdef FILE * file = reopen(fd)
    if file is NULL:
        raise OSError(f"descriptor {fd} can't be read")
    return file
