"""What a Python sampler raised while C was calling it: kept for its thread until C has come back."""

from cpython.exc cimport PyErr_SetObject, PyErr_WriteUnraisable

from llama_cy.abort cimport guarded

from threading import get_ident

# By thread, and how many there are: the loop asks without the GIL.
cdef dict failures = {}
cdef int n_failures = 0


cdef void keep_failure(object error):
    """Keep the first exception of this thread until C has come back."""
    global n_failures
    if not guarded():
        # A thread of C's: nobody there could raise it.
        tell_failure(error, None)
        return
    failures.setdefault(get_ident(), error)
    n_failures = len(failures)


cdef void tell_failure(object error, object where) noexcept:
    """Hand an exception to ``sys.unraisablehook``."""
    PyErr_SetObject(type(error), error)
    PyErr_WriteUnraisable(where)


cdef bint has_failed():
    return n_failures and get_ident() in failures


cdef int raise_failure() except -1:
    """Raise what a Python sampler raised in this thread, if one did."""
    global n_failures
    error = failures.pop(get_ident(), None)
    n_failures = len(failures)
    if error is not None:
        raise error
    return 0


cdef void tell_kept(object where) noexcept:
    """Hand what is kept of this thread to ``sys.unraisablehook``: nobody is left to raise it."""
    if not has_failed():
        return
    try:
        raise_failure()
    except BaseException as error:
        tell_failure(error, where)
