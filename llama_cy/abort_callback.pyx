"""A Python function that may end a computation while it runs."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libcpp cimport bool
from llama cimport import_llama_cy, llama_time_us

from llama_cy.lifetime cimport exiting

from .checks import real

import_llama_cy()


cdef bool on_abort(void * callback) noexcept nogil:
    (<AbortCallback> callback).computing.has_read()
    # ggml asks between any two operations; most of the time the answer is one read.
    if (<AbortCallback> callback).cancelled.load() or exiting():
        return True
    # The clock may have begun a moment ago, with the machine.
    if llama_time_us() < (<AbortCallback> callback).due_us:
        return False
    cdef bool ends = (<AbortCallback> callback).ask()
    (<AbortCallback> callback).computing.check_fork()
    return ends


@cython.final
cdef class AbortCallback:
    """What the C callback needs to ask a Python function."""

    def __init__(self, function, interval):
        if not callable(function):
            raise TypeError(f"the abort callback must be callable or None, not {type(function).__name__}")
        self.function = function
        self.interval_us = <int64_t> (real("interval", interval, 0, 1e6) * 1e6)

    cdef bool ask(self) noexcept with gil:
        try:
            PyErr_CheckSignals()
            if not self.function():
                return False
        except BaseException as error:
            self.error = error
            self.stopped = True
        finally:
            # The time that the function itself takes does not count.
            self.due_us = llama_time_us() + self.interval_us
        # The next computation asks again at once.
        self.due_us = 0
        self.cancelled.store(True)
        return True

    cdef int resume(self) except -1:
        """Be ready for the next computation, and raise what ended this one."""
        error, self.error = self.error, None
        self.stopped = False
        if error is not None:
            self.cancelled.store(False)
            raise error
        return 0
