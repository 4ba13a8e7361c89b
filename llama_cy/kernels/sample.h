// From a row of logits to a token through llama.cpp's own samplers, without its asserts.
#pragma once

#include "llama_cy_api.h"

#include <limits>
#include <stdexcept>
#include <vector>

namespace llama_cy {

// Returns LLAMA_TOKEN_NULL when no sampler of the chain selected a token.
inline llama_token sample_row(llama_sampler * sampler, const float * logits, int32_t n_vocab,
                              std::vector<llama_token_data> & candidates) {
    candidates.resize(n_vocab);
    bool sorts = true;
    for (llama_token id = 0; id < n_vocab; ++id) {
        candidates[id] = llama_token_data{id, logits[id], 0.0f};
        sorts &= logits[id] < std::numeric_limits<float>::infinity();
    }
    // No order holds among NaNs, and what sorts them runs out of bounds.
    if (!sorts) {
        throw std::domain_error("the model computed NaN or infinity for a logit; there is nothing to choose among");
    }
    llama_token_data_array array = {candidates.data(), candidates.size(), -1, false};
    llama_sampler_apply(sampler, &array);
    if (array.selected < 0 || array.selected >= (int64_t) array.size) {
        return LLAMA_TOKEN_NULL;
    }
    return array.data[array.selected].id;
}

}  // namespace llama_cy
