"""What happens where an assert of llama.cpp fails all the same: an exception if the stack can be unwound, else last words.

Arguments and files are checked before C sees them; this is the second line behind those checks.
"""

from cpython.pycapsule cimport PyCapsule_Import
from ggml cimport ggml_set_abort_callback
from ggml_backend cimport (
    ggml_backend_dev_backend_reg,
    ggml_backend_dev_count,
    ggml_backend_dev_get,
    ggml_backend_dev_memory,
    ggml_backend_dev_t,
    ggml_backend_reg_name,
)
from libc.string cimport strcmp
from libcpp cimport bool
from llama cimport import_llama_cy

import faulthandler

from .errors import BackendError

import_llama_cy()

cdef extern from "kernels/abort_guard.h" namespace "llama_cy" nogil:
    void push_guard(int scope)
    void pop_guard()
    bint has_guard()
    ctypedef void (*dump_function)() noexcept
    dump_function dump_tracebacks
    void on_abort(const char * message) noexcept
    void last_words(const char * message) noexcept
    bint has_gpu_failed()
    bool can_unwind() noexcept

ctypedef bool (*unwind_function)() noexcept nogil
ctypedef void (*words_function)(const char * message) noexcept nogil
ctypedef void (*install_function)(words_function words) noexcept nogil


cdef void guard(int scope) noexcept nogil:
    """Say how far this thread can unwind until :func:`unguard`."""
    push_guard(scope)


cdef void unguard() noexcept nogil:
    pop_guard()


cdef bint guarded() noexcept nogil:
    """Whether code of ours waits in this thread for what it called."""
    return has_guard()


cdef bint device_lost(bint offloaded) noexcept nogil:
    """Whether a GPU does not answer any more; its driver then refuses to free what is on it.

    A GPU is asked if something is on it, or if one failed before: asking takes hold of it. Only one of ggml's CUDA backend
    always tells its memory while it works; built for AMD and Moore Threads that backend has names of its own.
    """
    cdef ggml_backend_dev_t device
    cdef const char * name
    cdef size_t i, free, total
    if offloaded or has_gpu_failed():
        for i in range(ggml_backend_dev_count()):
            device = ggml_backend_dev_get(i)
            name = ggml_backend_reg_name(ggml_backend_dev_backend_reg(device))
            if strcmp(name, "CUDA") == 0 or strcmp(name, "ROCm") == 0 or strcmp(name, "MUSA") == 0:
                free = total = 0
                ggml_backend_dev_memory(device, &free, &total)
                if total == 0:
                    return True
    return False


cdef int check_devices(bint wanted) except -1:
    """Refuse to begin something with a GPU that is lost: what would be made half could not be freed."""
    if wanted and device_lost(True):
        raise BackendError("a GPU of this process failed and does not answer any more; only another process can use it")
    return 0


cdef void dump() noexcept with gil:
    # All threads: the one that called llama.cpp waits in C while a thread of ggml's runs this.
    faulthandler.dump_traceback(file=2, all_threads=True)


dump_tracebacks = dump
# For the C++ runtime that llama.cpp has, which is everybody's unless it is linked into each module.
(<install_function> PyCapsule_Import("llama_cy._llama._install_terminate", 0))(last_words)
ggml_set_abort_callback(on_abort)
# The engine room asks it where an allocation of llama.cpp fails.
(<unwind_function *> PyCapsule_Import("llama_cy._llama._can_unwind", 0))[0] = can_unwind
