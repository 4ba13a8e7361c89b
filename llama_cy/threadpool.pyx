"""Threads that stay alive between decodes and sleep when idle."""

cimport cython
from ggml cimport ggml_threadpool_params, ggml_threadpool_params_default
from ggml_cpu cimport ggml_threadpool_free, ggml_threadpool_new
from llama cimport import_llama_cy

from llama_cy.lifetime cimport THREADPOOL, born, died

import os
import weakref

from .checks import integer

import_llama_cy()

MAX_THREADS = 512


@cython.final
cdef class Threadpool:
    """A persistent pool of CPU threads. Wraps ``ggml_threadpool_new``.

    Without one, llama.cpp starts and ends its threads for every decode. A pool serves one open context.

    Parameters
    ----------
    n_threads : int
        In ``[1, 512]``; the calling thread is one of them.
    poll : int
        How long an idle thread spins before it sleeps, 0 (not at all) to 100.
    """

    def __cinit__(self, n_threads, *, poll=50):
        cdef ggml_threadpool_params params
        self.n_threads = integer("n_threads", n_threads, 1, MAX_THREADS)
        params = ggml_threadpool_params_default(self.n_threads)
        params.poll = integer("poll", poll, 0, 100)
        with nogil:
            self.ptr = ggml_threadpool_new(&params)
        if self.ptr is NULL:
            raise MemoryError(f"a pool of {self.n_threads} threads could not be created")
        born(THREADPOOL)

    cdef int serve(self, object context) except -1:
        """Two contexts would give one pool two computations at once, which corrupts it."""
        user = None if self.user is None else self.user()
        if user is not None and user is not context and user:
            raise ValueError(f"the pool already serves another context: {user!r}")
        self.user = weakref.ref(context)
        return 0

    def __dealloc__(self):
        if self.ptr is not NULL:
            with nogil:
                ggml_threadpool_free(self.ptr)
            self.ptr = NULL
            died(THREADPOOL)

    def __repr__(self):
        return f"<Threadpool of {self.n_threads} threads>"


def _cgroup_cpus():
    """Read the CPU quota of this process's control group, in CPUs, or None without one."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        return None if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return None


def _physical_cores(cpus):
    """Count the cores behind these logical CPUs; hyperthreads of one core gain nothing here."""
    cores = set()
    for cpu in cpus:
        try:
            with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as file:
                cores.add(file.read())
        except OSError:
            return len(cpus)
    return len(cores)


def default_n_threads():
    """Return the number of physical cores that this process may use, container limits included."""
    if hasattr(os, "sched_getaffinity"):
        count = _physical_cores(os.sched_getaffinity(0))
    else:
        count = _performance_cores() or os.cpu_count() or 1
    return max(1, min(count, _cgroup_cpus() or count, MAX_THREADS))


def _performance_cores():
    """Ask macOS for its performance cores, None elsewhere; efficiency cores would hold the others up."""
    import ctypes

    value, size = ctypes.c_int(0), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    try:
        failed = ctypes.CDLL(None).sysctlbyname(
            b"hw.perflevel0.physicalcpu", ctypes.byref(value), ctypes.byref(size), None, 0
        )
    except (AttributeError, OSError):
        return None
    return None if failed else value.value
