"""The engine room: the only module linked with llama.cpp. It publishes the function table."""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint64_t
from libcpp cimport bool
from libcpp.string cimport string

cdef extern from *:
    """
    #define LLAMA_CY_DEFINE_TABLE
    #include "llama_cy_api.h"
    #include "kernels/accounting.h"
    #include "kernels/log_queue.h"
    #include "kernels/out_of_memory.h"
    #include "kernels/owners.h"
    #include "kernels/system.h"
    #include "kernels/terminate.h"
    """
    struct llama_cy_table:
        pass
    const llama_cy_table * published_table "llama_cy::published_table" ()
    const char * LLAMA_CY_LLAMA_CPP_COMMIT
    const char * LLAMA_CY_BUILD_OPTIONS
    int LLAMA_CY_ABI

    const char * llama_print_system_info() except + nogil

    cppclass log_line "llama_cy::log_line":
        unsigned long thread
        int level
        string text

    cppclass log_queue "llama_cy::log_queue":
        bool pop(log_line &) except +
        uint64_t take_dropped()

    log_queue & the_log_queue "llama_cy::the_log_queue" ()
    void read_log "llama_cy::read_log" (bool (*see)(void *, const char *) noexcept, void * data)

    struct accounting "llama_cy::accounting":
        pass
    accounting own_accounting "llama_cy::own_accounting"
    struct owners "llama_cy::owners":
        pass
    owners own_owners "llama_cy::own_owners"
    bool (*can_unwind "llama_cy::can_unwind")() noexcept nogil
    ctypedef void (*words_function "llama_cy::words_function")(const char * message) noexcept
    void install_terminate "llama_cy::install_terminate" (words_function words) nogil


cdef extern from *:
    """
    static void install_log_queue() {
        llama_log_set(llama_cy::log_queue::callback, &llama_cy::the_log_queue());
    }
    #ifndef _WIN32
    // ggml's lock around what it does once, for which its public headers have no function.
    extern "C" void ggml_critical_section_start(void);
    extern "C" void ggml_critical_section_end(void);
    // A child has none of the threads that could give these back. ggml may log while it holds its own, so that comes first.
    static void before_fork() {
        ggml_critical_section_start();
        llama_cy::the_log_queue().hold();
    #ifdef LLAMA_CY_DEBUG
        llama_cy::owners_mutex.lock();
    #endif
    }
    static void after_fork() {
    #ifdef LLAMA_CY_DEBUG
        llama_cy::owners_mutex.unlock();
    #endif
        llama_cy::the_log_queue().let_go();
        ggml_critical_section_end();
    }
    static void watch_forks() { llama_cy::watch_forks(before_fork, after_fork, after_fork); }
    #else
    static void watch_forks() {}
    #endif
    // The backends of an installed llama.cpp may be files of their own. Those of ours are there when they are asked for, not
    // before: the driver of a GPU takes its time, starts threads, and is of no use to the forks of a process that has it.
    static void find_backends() {
    #ifdef LLAMA_CY_INSTALLED
        llama_backend_init();
    #endif
    }
    """
    void install_log_queue() nogil
    void watch_forks()
    void find_backends() except + nogil


def drain_log():
    """Take all queued log lines.

    Returns
    -------
    list of tuple
        ``(thread ident, ggml log level, text)``, oldest first.
    """
    cdef log_line line
    lines = []
    while the_log_queue().pop(line):
        # Decoding the string itself would copy it, and nobody would catch what the copy throws.
        lines.append((line.thread, line.level, line.text.data()[:line.text.size()].decode("utf-8", "replace")))
    dropped = the_log_queue().take_dropped()
    if dropped:
        lines.append((0, 3, f"{dropped} log lines were dropped"))
    return lines


def llama_cpp_commit():
    """Return the llama.cpp commit that was compiled in, 40 hex digits."""
    return LLAMA_CY_LLAMA_CPP_COMMIT.decode()


def build_options():
    """Return the ggml build options, ``NAME=VALUE`` separated by blanks."""
    return LLAMA_CY_BUILD_OPTIONS.decode()


def system_info():
    """Return the CPU and device features in use. Wraps ``llama_print_system_info``."""
    return llama_print_system_info().decode()


# The log goes to the queue before anything can write to stderr.
install_log_queue()
watch_forks()
with nogil:
    find_backends()

abi = LLAMA_CY_ABI
_api = PyCapsule_New(<void *> published_table(), "llama_cy._llama._api", NULL)
# For our own modules only: what of llama.cpp is no part of its C API has no place in the table.
_accounting = PyCapsule_New(<void *> &own_accounting, "llama_cy._llama._accounting", NULL)
_owners = PyCapsule_New(<void *> &own_owners, "llama_cy._llama._owners", NULL)
_read_log = PyCapsule_New(<void *> &read_log, "llama_cy._llama._read_log", NULL)
_can_unwind = PyCapsule_New(<void *> &can_unwind, "llama_cy._llama._can_unwind", NULL)
_install_terminate = PyCapsule_New(<void *> install_terminate, "llama_cy._llama._install_terminate", NULL)
