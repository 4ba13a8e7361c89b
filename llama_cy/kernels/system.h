// What each system does in its own way: POSIX and Windows. Nothing else in this folder includes their headers.
#pragma once

#include <cstddef>
#include <cstdio>
#include <new>
#include <string>

#ifdef _WIN32
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <fcntl.h>
#include <io.h>
#include <windows.h>
#else
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace llama_cy {

// Write bytes to descriptor 2; returns how many were taken, none or less where it fails.
inline long write_error(const char * text, size_t size) {
#ifdef _WIN32
    return _write(2, text, static_cast<unsigned int>(size));
#else
    return static_cast<long>(::write(2, text, size));
#endif
}

// A stream of C's own over what a descriptor has open, or NULL; fclose() leaves the descriptor as it is.
inline FILE * reopen(int descriptor) {
#ifdef _WIN32
    const int own = _dup(descriptor);
    // A descriptor may have been opened for text, whose ends of lines would be turned into others.
    FILE * file = own < 0 || _setmode(own, _O_BINARY) == -1 ? nullptr : _fdopen(own, "rb");
    if (file == nullptr && own >= 0) {
        _close(own);
    }
#else
    const int own = dup(descriptor);
    FILE * file = own < 0 ? nullptr : fdopen(own, "rb");
    if (file == nullptr && own >= 0) {
        close(own);
    }
#endif
    return file;
}

// The file of the program or library that an address lies in, such as that of a function's caller.
inline std::string file_of(const void * address) {
#ifdef _WIN32
    HMODULE module = nullptr;
    char path[1024];
    const DWORD how = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
    if (GetModuleHandleExA(how, static_cast<const char *>(address), &module) != 0) {
        const DWORD size = GetModuleFileNameA(module, path, sizeof(path));
        if (size > 0 && size < sizeof(path)) {
            return path;
        }
    }
#else
    Dl_info info;
    if (dladdr(address, &info) != 0 && info.dli_fname != nullptr) {
        return info.dli_fname;
    }
#endif
    return "code of no file";
}

// Have functions called before each fork, and after it in the parent and in the child; Windows knows none.
inline void watch_forks(void (*before)(), void (*in_parent)(), void (*in_child)()) {
#ifdef _WIN32
    (void) before, (void) in_parent, (void) in_child;
#else
    pthread_atfork(before, in_parent, in_child);
#endif
}

struct stack_bounds {
    const char * low = nullptr;
    const char * high = nullptr;
};

// Where the stack of this thread lies; nowhere if the system does not say.
inline stack_bounds find_stack() {
    stack_bounds stack;
#if defined(_WIN32)
    ULONG_PTR low, high;
    GetCurrentThreadStackLimits(&low, &high);
    stack = {reinterpret_cast<const char *>(low), reinterpret_cast<const char *>(high)};
#elif defined(__APPLE__)
    stack.high = static_cast<const char *>(pthread_get_stackaddr_np(pthread_self()));
    stack.low = stack.high - pthread_get_stacksize_np(pthread_self());
#else
    pthread_attr_t attributes;
    void * address = nullptr;
    size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &address, &size);
        pthread_attr_destroy(&attributes);
    }
    stack.low = static_cast<const char *>(address);
    stack.high = stack.low + size;
#endif
    return stack;
}

#ifdef _WIN32

struct thread_call {
    void (*function)(void *);
    void * data;

    static DWORD WINAPI run(void * self) {
        const thread_call & call = *static_cast<thread_call *>(self);
        call.function(call.data);
        return 0;
    }
};

// Call a function, which must not throw, on a thread with a stack of so many bytes, and wait for it. Memory is taken as
// it is used.
inline void call_on_stack(size_t size, void (*function)(void *), void * data) {
    thread_call call{function, data};
    HANDLE thread = CreateThread(nullptr, size, thread_call::run, &call, STACK_SIZE_PARAM_IS_A_RESERVATION, nullptr);
    if (thread == nullptr) {
        throw std::bad_alloc();
    }
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}

#else

struct thread_call {
    void (*function)(void *);
    void * data;

    static void * run(void * self) {
        const thread_call & call = *static_cast<thread_call *>(self);
        call.function(call.data);
        return nullptr;
    }
};

class stack_memory {
  public:
    explicit stack_memory(size_t wanted) {
        const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
        size_ = (wanted + 3 * page) / page * page;
        guard_ = page;
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
#ifdef MAP_STACK
        flags |= MAP_STACK;
#endif
        memory_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (memory_ == MAP_FAILED) {
            throw std::bad_alloc();
        }
        mprotect(memory_, guard_, PROT_NONE);
    }
    stack_memory(const stack_memory &) = delete;
    stack_memory & operator=(const stack_memory &) = delete;
    ~stack_memory() { munmap(memory_, size_); }

    void * begin() const { return static_cast<char *>(memory_) + guard_; }
    size_t size() const { return size_ - guard_; }

  private:
    void * memory_;
    size_t size_;
    size_t guard_;
};

// Call a function, which must not throw, on a thread with a stack of so many bytes, and wait for it. Memory is taken as
// it is used.
inline void call_on_stack(size_t size, void (*function)(void *), void * data) {
    const stack_memory stack(size);
    thread_call call{function, data};
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack.begin(), stack.size());
    // Signals are for threads that Python knows.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    const int failed = pthread_create(&thread, &attributes, thread_call::run, &call);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_attr_destroy(&attributes);
    if (failed != 0) {
        throw std::bad_alloc();
    }
    pthread_join(thread, nullptr);
}

#endif

}  // namespace llama_cy
