// Work that recurses once for each character runs on a stack as large as its text, where that of the thread is too small.
#pragma once

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <new>

namespace llama_cy {

// Defined by the module: how far a thread can unwind is said by each for itself.
inline void (*guard_thread)(int) = nullptr;
inline void (*unguard_thread)() = nullptr;

// What the work needs whatever its text, with room for a guard page that the bounds may count.
constexpr size_t stack_base = 256 * 1024;

// How many bytes of this thread's stack are left; none where it runs on one that the system does not know.
inline size_t stack_left() {
    static thread_local const char * low = nullptr;
    static thread_local const char * high = nullptr;
    const char here = 0;
    if (high == nullptr) {
#ifdef __APPLE__
        high = static_cast<const char *>(pthread_get_stackaddr_np(pthread_self()));
        low = high - pthread_get_stacksize_np(pthread_self());
#else
        pthread_attr_t attributes;
        void * address = nullptr;
        size_t size = 0;
        if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
            pthread_attr_getstack(&attributes, &address, &size);
            pthread_attr_destroy(&attributes);
        }
        low = static_cast<const char *>(address);
        high = low + size;
#endif
    }
    const char * at = &here;
    return at > low && at < high ? static_cast<size_t>(at - low) : 0;
}

template <typename Work> struct deep_work {
    Work & work;
    std::exception_ptr thrown;

    static void * run(void * self) {
        deep_work & deep = *static_cast<deep_work *>(self);
        if (guard_thread != nullptr) {
            guard_thread(2);
        }
        try {
            deep.work();
        } catch (...) {
            deep.thrown = std::current_exception();
        }
        if (unguard_thread != nullptr) {
            unguard_thread();
        }
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

// Run `work` where so many bytes of stack are left; what it throws comes out of here. Memory is taken as it is used.
template <typename Work> void on_deep_stack(size_t bytes, Work work) {
    if (bytes > std::numeric_limits<size_t>::max() - 2 * stack_base) {
        throw std::bad_alloc();
    }
    bytes += stack_base;
    if (stack_left() > bytes) {
        work();
        return;
    }
    const stack_memory stack(bytes);
    deep_work<Work> deep{work, nullptr};
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack.begin(), stack.size());
    // Signals are for threads that Python knows.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    const int failed = pthread_create(&thread, &attributes, deep_work<Work>::run, &deep);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_attr_destroy(&attributes);
    if (failed != 0) {
        throw std::bad_alloc();
    }
    pthread_join(thread, nullptr);
    if (deep.thrown) {
        std::rethrow_exception(deep.thrown);
    }
}

}  // namespace llama_cy
