// A function table for samplers whose work is done elsewhere.
#pragma once

#include "llama_cy_api.h"

#include <stdexcept>

namespace llama_cy {

// Defined by the module: does the work and keeps what goes wrong, in which case it returns false.
typedef bool (*apply_function)(llama_sampler *, llama_token_data_array *);
inline apply_function apply_in_python = nullptr;

// The samplers behind this one have no business with candidates that it did not finish.
inline void apply_or_throw(llama_sampler * sampler, llama_token_data_array * candidates) {
    if (!apply_in_python(sampler, candidates)) {
        throw std::runtime_error("a Python sampler raised");
    }
}

}  // namespace llama_cy
