// Where a tensor lies, and whether ggml gives it back from there.
#pragma once

#include "llama_cy_api.h"

namespace llama_cy {

// A view's own is not always told.
inline ggml_backend_buffer_t buffer_of(const ggml_tensor * tensor) {
    return tensor->view_src == nullptr ? tensor->buffer : tensor->view_src->buffer;
}

// For its kernels the CPU rearranges weights in some buffers of its own (CPU_REPACK, AMX, CPU_KLEIDIAI). There is no way
// back, and who asks for one calls a null pointer.
inline bool readable(ggml_backend_buffer_t buffer) {
    const ggml_backend_buffer_type_t type = ggml_backend_buffer_get_type(buffer);
    const ggml_backend_dev_t device = ggml_backend_buft_get_device(type);
    return device == nullptr || ggml_backend_buft_is_host(type) ||
           ggml_backend_dev_type(device) != GGML_BACKEND_DEVICE_TYPE_CPU;
}

}  // namespace llama_cy
