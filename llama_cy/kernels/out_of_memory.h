// llama.cpp looks at few of its allocations. One that fails is an exception where the stack can be unwound; the linker puts
// these functions in the place of the C library's for everything that is linked statically here.
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <new>
#include <stdexcept>

#include "ggml.h"

namespace llama_cy {

// Defined by the module `abort`: whether this thread can unwind.
inline bool (*can_unwind)() = nullptr;

// Buffers are larger, and their failure is one that ggml foresees and explains.
constexpr size_t least_buffer = size_t(1) << 20;
constexpr size_t least_reserve = 4096;

// Within ggml's planning of a graph, which frees before it allocates: a pointer that was freed must become null there, which
// asserts look for, before anything throws.
inline thread_local bool planning = false;
// Within the making of a tensor context, whose predecessor ggml may have freed already and would free again. It is small.
inline thread_local bool making_context = false;

class scope {
  public:
    explicit scope(bool & within) : within_(within), before_(within) { within = true; }
    scope(const scope &) = delete;
    scope & operator=(const scope &) = delete;
    ~scope() { within_ = before_; }

  private:
    bool & within_;
    bool before_;
};

// ggml's table of tensors, which is not in its public headers.
struct hash_set {
    size_t size;
    void * used;
    void * keys;
};

inline void * no_memory(bool checked = false) {
    if (checked) {
        return nullptr;
    }
    if (can_unwind != nullptr && can_unwind()) {
        throw std::bad_alloc();
    }
    return nullptr;
}

}  // namespace llama_cy

#ifdef LLAMA_CY_WRAP_MALLOC
extern "C" void * __real_malloc(size_t size);

namespace llama_cy {

// What is put aside for the allocations that must not fail.
inline void * take_reserve(size_t size) {
    static std::mutex mutex;
    static void * reserve = __real_malloc(least_reserve);
    const std::lock_guard<std::mutex> lock(mutex);
    free(reserve);
    void * block = __real_malloc(size);
    reserve = __real_malloc(least_reserve);
    return block;
}

}  // namespace llama_cy

extern "C" {

void * __real_calloc(size_t n, size_t size);
void * __real_realloc(void * block, size_t size);
int __real_posix_memalign(void ** block, size_t alignment, size_t size);

void * __wrap_malloc(size_t size) {
    void * block = __real_malloc(size);
    if (block == nullptr && llama_cy::making_context) {
        block = llama_cy::take_reserve(size);
    }
    return block != nullptr || size == 0 ? block : llama_cy::no_memory(llama_cy::planning);
}

void * __wrap_calloc(size_t n, size_t size) {
    void * block = __real_calloc(n, size);
    // One alone is a block of the plan, for which no assert looks.
    return block != nullptr || n == 0 || size == 0 ? block : llama_cy::no_memory(llama_cy::planning && n > 1);
}

void * __wrap_realloc(void * block, size_t size) {
    void * moved = __real_realloc(block, size);
    return moved != nullptr || size == 0 ? moved : llama_cy::no_memory();
}

size_t __real_fread(void * data, size_t size, size_t n, FILE * file);

// llama.cpp reads what is left of a file, asks for nothing at its end, and takes what was in memory for what it read: counts
// without bounds, among others.
size_t __wrap_fread(void * data, size_t size, size_t n, FILE * file) {
    if (size == 0 && n == 1) {
        throw std::runtime_error("unexpectedly reached end of file");
    }
    return __real_fread(data, size, n, file);
}

int __wrap_posix_memalign(void ** block, size_t alignment, size_t size) {
    const int failed = __real_posix_memalign(block, alignment, size);
    if (failed == ENOMEM && size < llama_cy::least_buffer) {
        llama_cy::no_memory();
    }
    return failed;
}

ggml_context * __real_ggml_init(ggml_init_params params);
void __real_ggml_hash_set_free(llama_cy::hash_set * set);
bool __real_ggml_gallocr_reserve_n(void * allocator, void * graph, const int * nodes, const int * leafs);
void __real_ggml_gallocr_reserve_n_size(void * allocator, void * graph, const int * nodes, const int * leafs, size_t * sizes);

ggml_context * __wrap_ggml_init(ggml_init_params params) {
    const llama_cy::scope scope(llama_cy::making_context);
    return __real_ggml_init(params);
}

void __wrap_ggml_hash_set_free(llama_cy::hash_set * set) {
    __real_ggml_hash_set_free(set);
    set->used = set->keys = nullptr;
}

bool __wrap_ggml_gallocr_reserve_n(void * allocator, void * graph, const int * nodes, const int * leafs) {
    const llama_cy::scope scope(llama_cy::planning);
    return __real_ggml_gallocr_reserve_n(allocator, graph, nodes, leafs);
}

void __wrap_ggml_gallocr_reserve_n_size(
    void * allocator, void * graph, const int * nodes, const int * leafs, size_t * sizes) {
    const llama_cy::scope scope(llama_cy::planning);
    __real_ggml_gallocr_reserve_n_size(allocator, graph, nodes, leafs, sizes);
}

}
#endif
