// Which objects of llama.cpp's belong to a living object of ours: a debug build asks before anything is freed through the
// table. Only `_llama` holds the list; `lifetime` writes it.
#pragma once

#include <cstdint>

namespace llama_cy {

// What crosses from `_llama` to `lifetime` in a capsule.
struct owners {
    void (*add)(const void * ptr, const char * owner);
    void (*remove)(const void * ptr);
};

}  // namespace llama_cy

#if defined(LLAMA_CY_DEFINE_TABLE) && defined(LLAMA_CY_DEBUG)

#include "llama_cy_api.h"
#include "system.h"

#include <cstdio>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>

#ifdef _MSC_VER
#include <intrin.h>
#define LLAMA_CY_CALLER _ReturnAddress()
#else
#define LLAMA_CY_CALLER __builtin_return_address(0)
#endif

namespace llama_cy {

struct owned_by {
    const char * owner;
    // Several objects may borrow the same weights.
    int users;
};

inline std::mutex owners_mutex;

inline std::unordered_map<const void *, owned_by> & owned() {
    static auto * all = new std::unordered_map<const void *, owned_by>;
    return *all;
}

inline void add_owner(const void * ptr, const char * owner) {
    const std::lock_guard<std::mutex> lock(owners_mutex);
    owned().emplace(ptr, owned_by{owner, 0}).first->second.users++;
}

inline void remove_owner(const void * ptr) {
    const std::lock_guard<std::mutex> lock(owners_mutex);
    const auto found = owned().find(ptr);
    if (found != owned().end() && --found->second.users == 0) {
        owned().erase(found);
    }
}

// A C++ exception, which Cython turns into one of Python's; where nobody catches it, the process ends with its words.
inline void check_owner(const void * ptr, const char * function, const void * caller) {
    const char * owner = nullptr;
    {
        const std::lock_guard<std::mutex> lock(owners_mutex);
        const auto found = owned().find(ptr);
        owner = found == owned().end() ? nullptr : found->second.owner;
    }
    if (owner != nullptr) {
        char at[32];
        std::snprintf(at, sizeof(at), "%p", const_cast<void *>(ptr));
        throw std::logic_error(std::string(function) + "(" + at + ") was called by " + file_of(caller) + " on what a living " +
                               owner + " of llama_cy owns, which frees it; let go of the capsule instead, or close the object");
    }
}

#define LLAMA_CY_CHECKED(function, type, address)              \
    inline void checked_##function(type it) {                  \
        check_owner(address, #function, LLAMA_CY_CALLER);      \
        function(it);                                          \
    }

LLAMA_CY_CHECKED(llama_model_free, llama_model *, it)
LLAMA_CY_CHECKED(llama_free, llama_context *, it)
LLAMA_CY_CHECKED(llama_sampler_free, llama_sampler *, it)
LLAMA_CY_CHECKED(llama_adapter_lora_free, llama_adapter_lora *, it)
LLAMA_CY_CHECKED(llama_batch_free, llama_batch, it.pos)
LLAMA_CY_CHECKED(llama_batch_ext_free, llama_batch_ext *, it)
LLAMA_CY_CHECKED(ggml_threadpool_free, ggml_threadpool *, it)

inline llama_cy_table checked_table() {
    llama_cy_table table = llama_cy_own_table;
#define LLAMA_CY_CHECK_IN(function) table.function = checked_##function
    LLAMA_CY_CHECK_IN(llama_model_free);
    LLAMA_CY_CHECK_IN(llama_free);
    LLAMA_CY_CHECK_IN(llama_sampler_free);
    LLAMA_CY_CHECK_IN(llama_adapter_lora_free);
    LLAMA_CY_CHECK_IN(llama_batch_free);
    LLAMA_CY_CHECK_IN(llama_batch_ext_free);
    LLAMA_CY_CHECK_IN(ggml_threadpool_free);
#undef LLAMA_CY_CHECK_IN
    return table;
}

inline const llama_cy_table * published_table() {
    static const llama_cy_table table = checked_table();
    return &table;
}

inline owners own_owners = {add_owner, remove_owner};

}  // namespace llama_cy

#elif defined(LLAMA_CY_DEFINE_TABLE)

namespace llama_cy {

inline const llama_cy_table * published_table() {
    return &llama_cy_own_table;
}

// Nobody asks.
inline owners own_owners = {[](const void *, const char *) {}, [](const void *) {}};

}  // namespace llama_cy

#endif
