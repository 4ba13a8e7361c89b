"""Count native objects, and close the living ones before the process's static destructors run."""

import atexit
import os
import time
import weakref

from libc.stdint cimport int64_t
from libcpp cimport bool
from llama cimport import_llama_cy, llama_backend_init

from llama_cy.abort cimport GUARD_CALL, guard, unguard

import_llama_cy()

cdef extern from *:
    """
    #include <atomic>
    #include <cstdio>
    #include <cstdlib>
    #include "kernels/owners.h"
    #include "kernels/system.h"
    #ifdef LLAMA_CY_DEBUG
    // `_llama` keeps the list, and looks at it where something is freed through the table.
    static const llama_cy::owners * llama_cy_owners;
    static void llama_cy_find_owners() {
        llama_cy_owners = static_cast<llama_cy::owners *>(PyCapsule_Import("llama_cy._llama._owners", 0));
    }
    static void llama_cy_add_owner(int kind, const void * ptr) {
        static const char * const names[] = {"Model", "Context", "Sampler", "Batch", "Threadpool", "LoraAdapter"};
        llama_cy_owners->add(ptr, names[kind]);
    }
    static void llama_cy_remove_owner(const void * ptr) { llama_cy_owners->remove(ptr); }
    #else
    static void llama_cy_find_owners() {}
    static void llama_cy_add_owner(int, const void *) {}
    static void llama_cy_remove_owner(const void *) {}
    #endif
    // How many forks lie between this process and the one that imported the module.
    static std::atomic<int> llama_cy_generation;
    static std::atomic<bool> llama_cy_gpu_used;
    static void llama_cy_use_gpu() { llama_cy_gpu_used = true; }
    #ifdef __GLIBC__
    static void llama_cy_skip_drivers(int status, void *) {
        fflush(nullptr);
        _exit(status);
    }
    #endif
    static void llama_cy_forked() {
        llama_cy_generation++;
    #ifdef __GLIBC__
        // CUDA's driver crashes at the exit of a child that inherited it. What Python has to do at exit is done by then.
        if (llama_cy_gpu_used) {
            on_exit(llama_cy_skip_drivers, nullptr);
        }
    #endif
    }
    static void llama_cy_watch_forks() { llama_cy::watch_forks(nullptr, nullptr, llama_cy_forked); }
    static int llama_cy_current_generation() { return llama_cy_generation; }

    static std::atomic<int64_t> llama_cy_live[8];
    static void llama_cy_count(int kind, int64_t change) { llama_cy_live[kind] += change; }
    static int64_t llama_cy_living(int kind) { return llama_cy_live[kind]; }

    static std::atomic<bool> llama_cy_exit_began;
    static unsigned long llama_cy_exit_thread;
    static void llama_cy_begin_exit() {
        llama_cy_exit_thread = PyThread_get_thread_ident();
        llama_cy_exit_began = true;
    }
    static bool llama_cy_exiting() { return llama_cy_exit_began; }
    static bool llama_cy_in_exit_thread() { return PyThread_get_thread_ident() == llama_cy_exit_thread; }
    """
    void llama_cy_find_owners() except *
    void llama_cy_add_owner(int kind, const void * ptr) noexcept nogil
    void llama_cy_remove_owner(const void * ptr) noexcept nogil
    void llama_cy_use_gpu() noexcept nogil
    void llama_cy_count(int kind, int64_t change) noexcept nogil
    int64_t llama_cy_living(int kind) noexcept nogil
    void llama_cy_begin_exit() noexcept
    bool llama_cy_exiting() noexcept nogil
    void llama_cy_watch_forks() noexcept
    int llama_cy_current_generation() noexcept nogil
    bool llama_cy_in_exit_thread() noexcept nogil

llama_cy_find_owners()
llama_cy_watch_forks()

# How long the exit waits for threads to come out of llama.cpp.
EXIT_SECONDS = 2.0


cdef void born(Kind kind, const void * ptr) noexcept nogil:
    """Count an object, and remember whose it is where that is asked for."""
    llama_cy_count(kind, 1)
    used(kind, ptr)


cdef void died(Kind kind, const void * ptr) noexcept nogil:
    """Forget an object, before it is freed."""
    llama_cy_count(kind, -1)
    unused(ptr)


cdef void used(Kind kind, const void * ptr) noexcept nogil:
    llama_cy_add_owner(kind, ptr)


cdef void unused(const void * ptr) noexcept nogil:
    llama_cy_remove_owner(ptr)


def live_objects():
    """Count the native objects that are alive.

    Returns
    -------
    dict of str to int
        Keys ``model``, ``context``, ``sampler``, ``batch``, ``threadpool``, ``adapter``.
    """
    names = ("model", "context", "sampler", "batch", "threadpool", "adapter")
    return {name: llama_cy_living(kind) for kind, name in enumerate(names)}


cdef void use_gpu() noexcept nogil:
    """Remember that this process has a GPU's driver, which its children inherit."""
    llama_cy_use_gpu()


cdef int generation() noexcept nogil:
    """Tell the processes apart that forks make of one: what has threads belongs to the one that made it."""
    return llama_cy_current_generation()


cdef bint exiting() noexcept nogil:
    return llama_cy_exiting()


cdef int check_exit() except -1:
    """End a daemon thread that comes back to llama.cpp while the interpreter exits, without a traceback."""
    if llama_cy_exiting() and not llama_cy_in_exit_thread():
        raise SystemExit
    return 0


cdef int working = 0


cdef int enter_native() except -1:
    """Keep the weights alive through an exit, for a thread that releases the GIL without holding a context.

    An assert that fails until :func:`leave_native` is an exception.
    """
    global working
    check_exit()
    working += 1
    guard(GUARD_CALL)
    return 0


cdef void leave_native() noexcept:
    global working
    unguard()
    working -= 1


cdef void begin_free() noexcept:
    """Keep the weights alive through an exit, for a thread that frees what refers to them."""
    global working
    working += 1


cdef void end_free() noexcept:
    global working
    working -= 1


cpdef int start_backends() except -1:
    """Find the backends of the build; the first time that starts the drivers of GPUs. Wraps ``llama_backend_init``."""
    enter_native()
    try:
        with nogil:
            llama_backend_init()
    finally:
        leave_native()
    return 0


def _forget_threads():
    # Those that were working stayed behind.
    global working
    working = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


# Contexts (order 0) go before the weights they use (order 1).
_open = (weakref.WeakSet(), weakref.WeakSet())


cpdef void close_at_exit(object owner, int order):
    """Remember an object, weakly, whose ``_close_at_exit`` runs at interpreter exit; lower orders first."""
    _open[order].add(owner)


@atexit.register
def _close_all():
    # Metal and CUDA free their devices in static destructors and abort if a context outlives them.
    llama_cy_begin_exit()
    contexts, models = _open
    for context in list(contexts):
        context._close_at_exit()
    deadline = time.monotonic() + EXIT_SECONDS
    while working and time.monotonic() < deadline:
        time.sleep(0.001)
    # A thread that did not come out in time may still read the weights.
    if working == 0 and llama_cy_living(CONTEXT) == 0:
        for model in list(models):
            model._close_at_exit()
