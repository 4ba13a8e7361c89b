// From a row of logits to a token through llama.cpp's own samplers, without its asserts.
#pragma once

#include "llama_cy_api.h"

#include <cmath>
#include <cstring>
#include <exception>
#include <limits>
#include <string>
#include <vector>

namespace llama_cy {

enum sample_code {
    SAMPLE_OK,
    // No sampler of the chain selected a token.
    SAMPLE_UNSELECTED,
    // All tokens have a logit of minus infinity.
    SAMPLE_NOTHING_LEFT,
    SAMPLE_NOT_FINITE,
    SAMPLE_REFUSED,
    SAMPLE_THREW,
};

template <typename Call> sample_code sample_caught(std::string & thrown, Call call) {
    try {
        return call();
    } catch (const std::exception & error) {
        thrown = error.what();
    } catch (...) {
        thrown = "an exception of no known type";
    }
    return SAMPLE_THREW;
}

inline sample_code selected(const llama_token_data_array & array, llama_token & token) {
    if (array.selected < 0 || array.selected >= (int64_t) array.size) {
        return SAMPLE_UNSELECTED;
    }
    const llama_token_data & found = array.data[array.selected];
    token = found.id;
    return found.logit == -std::numeric_limits<float>::infinity() ? SAMPLE_NOTHING_LEFT : SAMPLE_OK;
}

inline sample_code sample_row(llama_sampler * sampler, const float * logits, int32_t n_vocab,
                              std::vector<llama_token_data> & candidates, llama_token & token, std::string & thrown) {
    return sample_caught(thrown, [&] {
        candidates.resize(n_vocab);
        bool sorts = true;
        for (llama_token id = 0; id < n_vocab; ++id) {
            candidates[id] = llama_token_data{id, logits[id], 0.0f};
            sorts &= logits[id] < std::numeric_limits<float>::infinity();
        }
        // No order holds among NaNs, and what sorts them runs out of bounds.
        if (!sorts) {
            return SAMPLE_NOT_FINITE;
        }
        llama_token_data_array array = {candidates.data(), candidates.size(), -1, false};
        llama_sampler_apply(sampler, &array);
        return selected(array, token);
    });
}

inline const char * sampler_name(const llama_sampler * sampler) {
    return sampler->iface != nullptr && sampler->iface->name != nullptr ? llama_sampler_name(sampler) : "";
}

// Each sampler that is no chain, in chains too.
template <typename Visit> void each_sampler(llama_sampler * sampler, Visit visit) {
    if (llama_sampler_chain_get(sampler, -1) == nullptr) {
        visit(sampler);
        return;
    }
    for (int32_t i = 0; i < llama_sampler_chain_n(sampler); ++i) {
        each_sampler(llama_sampler_chain_get(sampler, i), visit);
    }
}

inline void find_grammars(llama_sampler * sampler, std::vector<llama_sampler *> & grammars) {
    grammars.clear();
    each_sampler(sampler, [&](llama_sampler * one) {
        if (std::strcmp(sampler_name(one), "grammar") == 0) {
            grammars.push_back(one);
        }
    });
}

// A clone of adaptive-p remembers what was selected but not among what, and would look it up all the same.
inline void forget_pending(llama_sampler * sampler) {
    each_sampler(sampler, [](llama_sampler * one) {
        if (std::strcmp(sampler_name(one), "adaptive-p") == 0) {
            llama_sampler_accept(one, -2);
        }
    });
}

inline bool can_clone(llama_sampler * sampler) {
    bool can = true;
    each_sampler(sampler, [&](llama_sampler * one) { can &= one->iface->clone != nullptr || one->ctx == nullptr; });
    return can;
}

inline bool same_kind(llama_sampler * a, llama_sampler * b) {
    if (a->iface != b->iface) {
        return false;
    }
    if (llama_sampler_chain_get(a, -1) == nullptr) {
        return true;
    }
    bool same = llama_sampler_chain_n(a) == llama_sampler_chain_n(b);
    for (int32_t i = 0; same && i < llama_sampler_chain_n(a); ++i) {
        same = same_kind(llama_sampler_chain_get(a, i), llama_sampler_chain_get(b, i));
    }
    return same;
}

// A grammar that accepts what it does not allow is beyond repair, so it is asked first.
inline sample_code accept_token(llama_sampler * sampler, const std::vector<llama_sampler *> & grammars, llama_token token,
                                std::string & thrown) {
    return sample_caught(thrown, [&] {
        for (llama_sampler * grammar : grammars) {
            llama_token_data candidate = {token, 0.0f, 0.0f};
            llama_token_data_array array = {&candidate, 1, -1, false};
            llama_sampler_apply(grammar, &array);
            if (candidate.logit == -std::numeric_limits<float>::infinity()) {
                return SAMPLE_REFUSED;
            }
        }
        llama_sampler_accept(sampler, token);
        return SAMPLE_OK;
    });
}

}  // namespace llama_cy
