// A token of a row that a backend sampled, wholly or in part.
#pragma once

#include "pick.h"

#include <cmath>
#include <cstring>

namespace llama_cy {

inline sample_code sample_on_backend(token_picker & picker, llama_sampler * sampler, llama_context * context, int32_t row,
                                     llama_token & token, std::string & thrown) {
    const sample_code code = sample_caught(thrown, [&] {
        if (picker.lost) {
            throw sample_error(SAMPLE_LOST, "a grammar took what it does not allow; reset() the sampler");
        }
        const float * logits = llama_get_sampled_logits_ith(context, row);
        const uint32_t n = logits == nullptr ? 0 : llama_get_sampled_logits_count_ith(context, row);
        for (uint32_t i = 0; i < n; ++i) {
            if (!(logits[i] < std::numeric_limits<float>::infinity())) {
                throw std::domain_error("the model computed NaN or infinity for a logit; there is nothing to choose among");
            }
        }
        token = llama_sampler_sample(sampler, context, row);
        picker.plan.recent.push(token);
    });
    // It accepts what it chose, and asserts that something was selected.
    if (code == SAMPLE_THREW && thrown.find("selected") != std::string::npos) {
        thrown = "no sampler selected a token; end the chain with greedy() or dist()";
        return SAMPLE_UNSELECTED;
    }
    if ((code == SAMPLE_THREW || code == SAMPLE_AMBIGUOUS) && !picker.grammars.empty()) {
        picker.lost = true;
        return SAMPLE_LOST;
    }
    return code;
}

}  // namespace llama_cy
