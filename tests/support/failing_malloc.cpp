// Preloaded into a child: fails the n-th allocation that llama_cy, llama.cpp or the C++ library makes while armed, and knows
// how many of the blocks that llama_cy's own code allocated while armed are still there. Python's allocations are left alone.
#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <new>

extern "C" {
void * __libc_malloc(size_t);
void * __libc_calloc(size_t, size_t);
void * __libc_realloc(void *, size_t);
void * __libc_memalign(size_t, size_t);
void __libc_free(void *);
}

namespace {

struct Range {
    uintptr_t begin, end;
    // Of our own code, and not of llama.cpp's or the C++ library's.
    bool ours;
};
Range ranges[256];
int n_ranges;
std::atomic<bool> armed, watching;
std::atomic<long> seen, failing, failed;

// The blocks that were allocated while watching, by open addressing; never more than a quarter of the places.
constexpr size_t PLACES = 1 << 22;
std::atomic<uintptr_t> blocks[PLACES];
constexpr uintptr_t GONE = 1;
std::atomic<long> alive;

size_t place_of(uintptr_t block) {
    return (block >> 4) * 0x9E3779B97F4A7C15u % PLACES;
}

void remember(void * block) {
    for (size_t at = place_of(reinterpret_cast<uintptr_t>(block));; at = (at + 1) % PLACES) {
        uintptr_t there = blocks[at];
        if (there <= GONE && blocks[at].compare_exchange_strong(there, reinterpret_cast<uintptr_t>(block))) {
            alive++;
            return;
        }
    }
}

void forget(void * block) {
    if (!watching || block == nullptr) {
        return;
    }
    for (size_t at = place_of(reinterpret_cast<uintptr_t>(block)); blocks[at] != 0; at = (at + 1) % PLACES) {
        uintptr_t there = reinterpret_cast<uintptr_t>(block);
        if (blocks[at].compare_exchange_strong(there, GONE)) {
            alive--;
            return;
        }
    }
}

// The trace of the failure, for whoever looks into a death: set FAILING_MALLOC_TRACE.
bool tracing;

enum { IGNORED, COUNTED, REMEMBERED, FAILS };

int look(void * caller) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(caller);
    if (!armed) {
        return IGNORED;
    }
    for (int i = 0; i < n_ranges; i++) {
        if (ranges[i].begin <= at && at < ranges[i].end) {
            if (++seen != failing) {
                return ranges[i].ours ? REMEMBERED : COUNTED;
            }
            failed++;
            if (tracing) {
                armed = false;
                void * frames[40];
                backtrace_symbols_fd(frames, backtrace(frames, 40), 2);
                armed = true;
            }
            errno = ENOMEM;
            return FAILS;
        }
    }
    return IGNORED;
}

void * noted(int kind, void * block) {
    if (kind == REMEMBERED && block != nullptr) {
        remember(block);
    }
    return block;
}

void * allocate(size_t size, void * caller) {
    const int kind = look(caller);
    return kind == FAILS ? nullptr : noted(kind, __libc_malloc(size));
}

void * allocate_aligned(size_t alignment, size_t size, void * caller) {
    const int kind = look(caller);
    return kind == FAILS ? nullptr : noted(kind, __libc_memalign(alignment, size));
}

void * allocate_or_throw(size_t size, size_t alignment, void * caller) {
    void * block = alignment ? allocate_aligned(alignment, size, caller) : allocate(size ? size : 1, caller);
    if (block == nullptr) {
        throw std::bad_alloc();
    }
    return block;
}

int add(dl_phdr_info * info, size_t, void *) {
    // An extension module of ours, or the C++ library, which allocates for its strings and streams.
    if (strstr(info->dlpi_name, "/llama_cy/") == nullptr && strstr(info->dlpi_name, "libstdc++") == nullptr) {
        return 0;
    }
    for (int i = 0; i < info->dlpi_phnum && n_ranges < 256; i++) {
        const ElfW(Phdr) & header = info->dlpi_phdr[i];
        if (header.p_type == PT_LOAD && header.p_flags & PF_X) {
            const uintptr_t begin = info->dlpi_addr + header.p_vaddr;
            const bool ours = strstr(info->dlpi_name, "/llama_cy/") && !strstr(info->dlpi_name, "/_llama.");
            ranges[n_ranges++] = {begin, begin + header.p_memsz, ours};
        }
    }
    return 0;
}

}  // namespace

#define CALLER __builtin_return_address(0)

extern "C" {

// Fail the n-th allocation from now on; the 0-th is none.
void failing_malloc_arm(long n) {
    static void * warm[4];
    tracing = getenv("FAILING_MALLOC_TRACE") != nullptr;
    backtrace(warm, 4);
    n_ranges = 0;
    dl_iterate_phdr(add, nullptr);
    seen = failed = 0;
    failing = n;
    watching = true;
    armed = true;
}

// Return how many allocations there were, or minus that if one failed.
long failing_malloc_disarm() {
    armed = false;
    return failed ? -seen : long(seen);
}

long failing_malloc_alive() {
    return alive;
}

void * malloc(size_t size) {
    return allocate(size, CALLER);
}

void * calloc(size_t n, size_t size) {
    const int kind = look(CALLER);
    return kind == FAILS ? nullptr : noted(kind, __libc_calloc(n, size));
}

void * realloc(void * block, size_t size) {
    const int kind = look(CALLER);
    if (kind == FAILS) {
        return nullptr;
    }
    forget(block);
    return noted(kind, __libc_realloc(block, size));
}

int posix_memalign(void ** block, size_t alignment, size_t size) {
    *block = allocate_aligned(alignment, size, CALLER);
    return *block == nullptr ? ENOMEM : 0;
}

void * aligned_alloc(size_t alignment, size_t size) {
    return allocate_aligned(alignment, size, CALLER);
}

void free(void * block) {
    forget(block);
    __libc_free(block);
}
}

void * operator new(size_t size) {
    return allocate_or_throw(size, 0, CALLER);
}

void * operator new[](size_t size) {
    return allocate_or_throw(size, 0, CALLER);
}

void * operator new(size_t size, std::align_val_t alignment) {
    return allocate_or_throw(size, size_t(alignment), CALLER);
}

void * operator new[](size_t size, std::align_val_t alignment) {
    return allocate_or_throw(size, size_t(alignment), CALLER);
}

void * operator new(size_t size, const std::nothrow_t &) noexcept {
    return allocate(size ? size : 1, CALLER);
}

void * operator new[](size_t size, const std::nothrow_t &) noexcept {
    return allocate(size ? size : 1, CALLER);
}

void operator delete(void * block) noexcept { free(block); }
void operator delete[](void * block) noexcept { free(block); }
void operator delete(void * block, size_t) noexcept { free(block); }
void operator delete[](void * block, size_t) noexcept { free(block); }
void operator delete(void * block, std::align_val_t) noexcept { free(block); }
void operator delete[](void * block, std::align_val_t) noexcept { free(block); }
void operator delete(void * block, size_t, std::align_val_t) noexcept { free(block); }
void operator delete[](void * block, size_t, std::align_val_t) noexcept { free(block); }
void operator delete(void * block, const std::nothrow_t &) noexcept { free(block); }
void operator delete[](void * block, const std::nothrow_t &) noexcept { free(block); }
