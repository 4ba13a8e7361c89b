// Who holds how many bytes, by llama.cpp's own books, which its C API does not show. Only `_llama` is linked with it.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "llama.h"

#if defined(__GNUC__) && defined(__ELF__)
// An installed llama.cpp may keep them to itself.
#define LLAMA_CY_WEAK __attribute__((weak))
#else
#define LLAMA_CY_WEAK
#endif

struct llama_memory_breakdown_data {
    size_t model;
    size_t context;
    size_t compute;
};
using llama_memory_breakdown = std::map<ggml_backend_buffer_type_t, llama_memory_breakdown_data>;

LLAMA_CY_WEAK llama_memory_breakdown llama_get_memory_breakdown(const llama_context * context);
LLAMA_CY_WEAK const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(
    const llama_model * model);

namespace llama_cy {

// What crosses to the other modules in a capsule.
struct accounting {
    // Give each weight of a model to `visit`; false if the library does not tell.
    bool (*each_tensor)(
        const llama_model * model, void (*visit)(void * data, const char * name, ggml_tensor * tensor), void * data);
    // Give the bytes of each buffer type to `visit`; false if the library does not tell.
    bool (*each_buffer)(
        const llama_context * context,
        void (*visit)(void * data, ggml_backend_buffer_type_t type, size_t model, size_t context, size_t compute),
        void * data);
};

#ifdef LLAMA_CY_DEFINE_TABLE

inline bool each_tensor(
    const llama_model * model, void (*visit)(void *, const char *, ggml_tensor *), void * data) {
    if (&llama_internal_get_tensor_map == nullptr) {
        return false;
    }
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(model)) {
        visit(data, name.c_str(), tensor);
    }
    return true;
}

inline bool each_buffer(
    const llama_context * context, void (*visit)(void *, ggml_backend_buffer_type_t, size_t, size_t, size_t),
    void * data) {
    if (&llama_get_memory_breakdown == nullptr) {
        return false;
    }
    for (const auto & [type, bytes] : llama_get_memory_breakdown(context)) {
        visit(data, type, bytes.model, bytes.context, bytes.compute);
    }
    return true;
}

inline accounting own_accounting = {each_tensor, each_buffer};

#endif

}  // namespace llama_cy
