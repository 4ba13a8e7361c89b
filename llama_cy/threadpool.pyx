"""Threads that stay alive between decodes and sleep when idle."""

cimport cython
from ggml cimport ggml_sched_priority, ggml_threadpool_params_default
from ggml_cpu cimport ggml_threadpool_free, ggml_threadpool_new
from llama cimport import_llama_cy

from llama_cy.lifetime cimport THREADPOOL, born, died, enter_native, generation, leave_native

import os
import sys
import threading
import weakref

from .checks import choice, each, flag, integer
from .enums import SchedPriority
from .errors import BackendError

import_llama_cy()

MAX_THREADS = 512
# What ggml asks the system for, by priority.
FIFO = {SchedPriority.MEDIUM: 40, SchedPriority.HIGH: 80, SchedPriority.REALTIME: 90}

cdef extern from *:
    """
    #include <condition_variable>
    #include <exception>
    #include <mutex>
    #include <thread>
    #include <vector>
    // Whether the system would start so many threads; ggml asserts that it does.
    static bool llama_cy_can_start(int n) {
        std::mutex mutex;
        std::condition_variable changed;
        bool done = false, started = true;
        std::vector<std::thread> threads;
        try {
            for (int i = 0; i < n; i++) {
                threads.emplace_back([&] {
                    std::unique_lock<std::mutex> lock(mutex);
                    changed.wait(lock, [&] { return done; });
                });
            }
        } catch (const std::exception &) {
            started = false;
        }
        {
            std::lock_guard<std::mutex> lock(mutex);
            done = true;
        }
        changed.notify_all();
        for (auto & thread : threads) {
            thread.join();
        }
        return started;
    }
    """
    bint llama_cy_can_start(int n) nogil


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
    cpumask : iterable of int, optional
        Numbers of the CPUs that the threads of the pool may run on; all that the process may use, unless given. Linux
        only.
    strict_cpu : bool
        Give each thread one CPU of `cpumask`, in turn.
    prio : SchedPriority or str
        ``"low"``, ``"normal"``, or ``"medium"``, ``"high"``, ``"realtime"``, which a system allows to few.

    Attributes
    ----------
    n_threads : int
    poll : int
    cpumask : tuple of int
        Empty where none was given.
    strict_cpu : bool
    prio : SchedPriority

    Raises
    ------
    BackendError
        The system can't start so many threads, or bind threads to CPUs, or refuses the priority.

    Notes
    -----
    The thread that decodes belongs to the application: it keeps its own CPUs and priority.
    """

    def __cinit__(self, n_threads, *, poll=50, cpumask=None, strict_cpu=False, prio="normal"):
        self.n_threads = integer("n_threads", n_threads, 1, MAX_THREADS)
        self.params = ggml_threadpool_params_default(self.n_threads)
        self.params.poll = integer("poll", poll, 0, 100)
        self.params.strict_cpu = flag("strict_cpu", strict_cpu)
        self.params.prio = <ggml_sched_priority> <int> choice("prio", SchedPriority, prio)
        self.cpumask = () if cpumask is None else cpus_of(cpumask)
        if self.params.strict_cpu and not self.cpumask:
            raise ValueError("strict_cpu is True and there is no cpumask: CPUs to give to the threads are expected with it")
        for cpu in self.cpumask:
            self.params.cpumask[<int> cpu] = True
        if not llama_cy_can_start(self.n_threads - 1):
            raise BackendError(f"the system can't start a pool of {self.n_threads} threads")
        if self.cpumask or self.params.prio != SchedPriority.NORMAL:
            in_a_thread(create, self)
        else:
            self.create()
        if self.ptr is NULL:
            raise MemoryError(f"a pool of {self.n_threads} threads could not be created")
        self.generation = generation()
        born(THREADPOOL, self.ptr)

    cdef int create(self) except -1:
        check_priority(self.prio)
        enter_native()
        try:
            with nogil:
                self.ptr = ggml_threadpool_new(&self.params)
        finally:
            leave_native()
        return 0

    @property
    def poll(self):
        return self.params.poll

    @property
    def strict_cpu(self):
        return self.params.strict_cpu

    @property
    def prio(self):
        return SchedPriority(<int> self.params.prio)

    cdef int serve(self, object context) except -1:
        """Two contexts would give one pool two computations at once, which corrupts it."""
        if self.generation != generation():
            raise BackendError("the pool was made before this process was forked, and its threads stayed in the other one")
        user = None if self.user is None else self.user()
        if user is not None and user is not context and user:
            raise ValueError(f"the pool already serves another context: {user!r}")
        self.user = weakref.ref(context)
        return 0

    def __dealloc__(self):
        if self.ptr is not NULL:
            died(THREADPOOL, self.ptr)
            # In a forked child it would wait for threads that there are not.
            if self.generation == generation():
                with nogil:
                    ggml_threadpool_free(self.ptr)
            self.ptr = NULL

    def __repr__(self):
        return f"<Threadpool of {self.n_threads} threads>"


def create(Threadpool pool not None):
    """Start the threads of a pool that has none."""
    if pool.ptr is NULL:
        pool.create()


def in_a_thread(function, *arguments):
    """Call a function in a thread of its own: ggml gives the one that makes a pool the CPUs and priority of the pool."""
    errors = []

    def call():
        try:
            function(*arguments)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def cpus_of(cpumask):
    """Return the CPU numbers of a mask, all of which the process may use."""
    if not hasattr(os, "sched_getaffinity"):
        raise BackendError(f"ggml can't bind threads to CPUs on {sys.platform}")
    wanted = tuple(sorted({integer("cpumask", cpu, 0, MAX_THREADS - 1) for cpu in each("cpumask", cpumask)}))
    allowed = os.sched_getaffinity(0)
    if not wanted:
        raise ValueError("cpumask names no CPU")
    if not allowed.issuperset(wanted):
        raise ValueError(f"cpumask is {wanted}, and this process may use {tuple(sorted(allowed))}")
    return wanted


def check_priority(prio):
    """Try a priority on the thread that calls; ggml would write to stderr where the system refuses it."""
    if prio in FIFO and hasattr(os, "sched_setscheduler"):
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(FIFO[prio]))
        except OSError as error:
            raise BackendError(f"the system refuses threads of priority {prio.name.lower()}: {error.strerror}") from None


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
    if sys.platform != "darwin":
        return None
    import ctypes

    value, size = ctypes.c_int(0), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    try:
        failed = ctypes.CDLL(None).sysctlbyname(
            b"hw.perflevel0.physicalcpu", ctypes.byref(value), ctypes.byref(size), None, 0
        )
    except (AttributeError, OSError):
        return None
    return None if failed else value.value
