# distutils: language = c++
"""Makes asserts of llama.cpp fail, on threads that can unwind and on threads that can't."""

from gguf cimport gguf_context, gguf_free, gguf_get_key, gguf_init_empty
from libcpp.string cimport string
from llama cimport import_llama_cy

from llama_cy.abort cimport guard, unguard

import_llama_cy()

cdef extern from "kernels/abort_guard.h" namespace "llama_cy":
    string backend_of(const char * message)

cdef extern from *:
    """
    #include <atomic>
    #include <chrono>
    #include <stdexcept>
    #include <thread>
    static void on_a_thread(void (*function)()) { std::thread(function).join(); }
    static void throws() { throw std::runtime_error("thrown on a thread"); }
    static std::atomic<bool> kept;
    static void keep_the_gil() {
        std::thread([] {
            PyGILState_Ensure();
            kept = true;
            std::this_thread::sleep_for(std::chrono::hours(1));
        }).detach();
        while (!kept) {
            std::this_thread::yield();
        }
    }
    """
    void on_a_thread(void (*function)() noexcept) nogil
    void throws() noexcept nogil
    void keep_the_gil() nogil


cdef int ask() except -1 nogil:
    # There is no fifth key; it asserts that there is.
    cdef gguf_context * empty = gguf_init_empty()
    try:
        gguf_get_key(empty, 5)
    finally:
        gguf_free(empty)
    return 0


cdef void ask_unguarded() noexcept nogil:
    gguf_get_key(gguf_init_empty(), 5)


def fail(int scope, bint release):
    """Fail an assert with the thread guarded as given, and say how it is guarded inside of another guard."""
    guard(1 - scope % 2)
    guard(scope)
    try:
        if release:
            with nogil:
                ask()
        else:
            ask()
    finally:
        unguard()
        unguard()


def fail_on_a_thread(int scope):
    """Fail an assert on another thread than the guarded one."""
    guard(scope)
    with nogil:
        on_a_thread(ask_unguarded)
    unguard()


def fail_behind_a_thread_that_keeps_the_gil():
    """Fail an assert that can't be told of in Python."""
    with nogil:
        keep_the_gil()
        ask()


def throw_on_a_thread():
    """Let an exception leave a thread."""
    with nogil:
        on_a_thread(throws)


def backend(bytes message):
    """Tell which backend an assert with this message is taken for one of."""
    return backend_of(message).decode()
