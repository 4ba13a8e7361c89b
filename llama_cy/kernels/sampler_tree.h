// What is in a sampler: itself, or the samplers of a chain and of the chains in it.
#pragma once

#include "llama_cy_api.h"

#include <cstring>
#include <vector>

namespace llama_cy {

inline const char * sampler_name(const llama_sampler * sampler) {
    return sampler->iface != nullptr && sampler->iface->name != nullptr ? llama_sampler_name(sampler) : "";
}

// Each sampler that is no chain.
template <typename Visit> void each_sampler(llama_sampler * sampler, Visit visit) {
    if (llama_sampler_chain_get(sampler, -1) == nullptr) {
        visit(sampler);
        return;
    }
    for (int32_t i = 0; i < llama_sampler_chain_n(sampler); ++i) {
        each_sampler(llama_sampler_chain_get(sampler, i), visit);
    }
}

inline std::vector<llama_sampler *> find_grammars(llama_sampler * sampler) {
    std::vector<llama_sampler *> grammars;
    each_sampler(sampler, [&](llama_sampler * one) {
        if (std::strcmp(sampler_name(one), "grammar") == 0) {
            grammars.push_back(one);
        }
    });
    return grammars;
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

}  // namespace llama_cy
