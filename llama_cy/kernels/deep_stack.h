// Work that recurses once for each character runs on a stack as large as its text, where that of the thread is too small.
#pragma once

#include "system.h"

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
    static thread_local const stack_bounds stack = find_stack();
    const char here = 0;
    const char * at = &here;
    return at > stack.low && at < stack.high ? static_cast<size_t>(at - stack.low) : 0;
}

template <typename Work> struct deep_work {
    Work & work;
    std::exception_ptr thrown;

    static void run(void * self) {
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
    }
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
    deep_work<Work> deep{work, nullptr};
    call_on_stack(bytes, deep_work<Work>::run, &deep);
    if (deep.thrown) {
        std::rethrow_exception(deep.thrown);
    }
}

}  // namespace llama_cy
