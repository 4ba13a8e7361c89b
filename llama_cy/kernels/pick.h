// From a row of logits to a token: llama.cpp's own samplers see only those tokens that can still be chosen.
#pragma once

#include "llama_cy_api.h"
#include "plan.h"
#include "row.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

namespace llama_cy {

class token_picker {
  public:
    sampling_plan plan;

    token_picker() = default;
    // A copy is another sampler in the same state; what it works with is its own.
    token_picker(const token_picker & other) : plan(other.plan) {}
    token_picker & operator=(const token_picker & other) {
        plan = other.plan;
        return *this;
    }

    // Returns LLAMA_TOKEN_NULL when no sampler selected a token.
    llama_token pick(llama_sampler * sampler, const float * logits, int32_t n) {
        if (!plan.one_pass() || !survivors(logits, static_cast<size_t>(n))) {
            everything(logits, n);
        }
        llama_token_data_array array = {candidates_.data(), candidates_.size(), -1, false};
        llama_sampler_apply(sampler, &array);
        if (array.selected < 0 || array.selected >= (int64_t) array.size) {
            return LLAMA_TOKEN_NULL;
        }
        return array.data[array.selected].id;
    }

    void accept(llama_sampler * sampler, llama_token token) {
        llama_sampler_accept(sampler, token);
        plan.recent.push(token);
    }

    void reset(llama_sampler * sampler) {
        llama_sampler_reset(sampler);
        plan.recent.clear();
    }

  private:
    void everything(const float * logits, int32_t n) {
        candidates_.resize(static_cast<size_t>(n));
        bool sorts = true;
        for (llama_token id = 0; id < n; ++id) {
            candidates_[id] = llama_token_data{id, logits[id], 0.0f};
            sorts &= logits[id] < std::numeric_limits<float>::infinity();
        }
        // No order holds among NaNs, and what sorts them runs out of bounds.
        if (!sorts) {
            throw std::domain_error("the model computed NaN or infinity for a logit; there is nothing to choose among");
        }
    }

    // Gathers, in order, the tokens that the head of the chain may leave: those with a bias or a penalty, whatever comes
    // of it, and the highest of the others. The whole chain then makes of them what it makes of all.
    bool survivors(const float * logits, size_t n) {
        const sampler_step & cut = plan.cut();
        if (plan.recent.size() > sampling_plan::most_touched) {
            return false;
        }
        touch(n);
        const size_t wanted = cut.kind == STEP_TOP_K ? static_cast<size_t>(cut.count) : 1;
        const size_t rank = wanted + touched_.size();
        if (rank > 1 && rank > n / 16) {
            return false;
        }
        reader_.read(logits, n, rank);
        const float highest = reader_.highest();
        if (!reader_.ranks(rank) || !scale_holds(highest, static_cast<size_t>(cut.count))) {
            return false;
        }
        float threshold = reader_.threshold(rank);
        if (cut.kind == STEP_MIN_P) {
            threshold = min_p_threshold(touched_.empty() ? highest : highest_untouched(logits, threshold), cut.value);
        } else if (plan.scales()) {
            // Different logits may be the same after the division.
            threshold -= std::fabs(threshold) * 1e-5f;
        }
        // With -inf everything would stay.
        if (!(threshold > -std::numeric_limits<float>::infinity())) {
            return false;
        }
        size_t found;
        const int32_t * high = reader_.reach(threshold, found);
        if (cut.kind == STEP_MIN_P && found < static_cast<size_t>(cut.count) + touched_.size()) {
            return false;
        }
        merge(logits, high, found);
        return true;
    }

    void touch(size_t n) {
        touched_.clear();
        for (const int32_t token : plan.biased()) {
            if (static_cast<size_t>(token) < n) {
                touched_.push_back(token);
            }
        }
        for (const auto & entry : plan.recent.counts()) {
            if (static_cast<size_t>(entry.first) < n) {
                touched_.push_back(entry.first);
            }
        }
        std::sort(touched_.begin(), touched_.end());
        touched_.erase(std::unique(touched_.begin(), touched_.end()), touched_.end());
    }

    bool scale_holds(float highest, size_t sorted) const {
        const double scaled = std::fabs(highest) / (plan.temperature() > 0 ? plan.temperature() : 1);
        // Where logits overflow, they tie; and llama.cpp's sort of more than 128 takes very high ones for low.
        const bool may_sort = plan.cut().kind == STEP_TOP_K ? sorted > 128 : sorted > 1;
        return scaled < 1e37 && (!may_sort || scaled < 1e8);
    }

    float highest_untouched(const float * logits, float threshold) {
        size_t found;
        const int32_t * high = reader_.reach(threshold, found);
        float highest = -std::numeric_limits<float>::infinity();
        for (size_t i = 0; i < found; ++i) {
            if (!std::binary_search(touched_.begin(), touched_.end(), high[i])) {
                highest = std::max(highest, logits[high[i]]);
            }
        }
        return highest;
    }

    // A little lower than llama.cpp's own, which decides in the end.
    float min_p_threshold(float highest, float p) const {
        const double range = plan.temperature() * std::log(static_cast<double>(p));
        const double slack = (std::fabs(static_cast<double>(highest)) + std::fabs(range)) * 1e-5;
        const double threshold = highest + range - slack;
        return threshold > -3e38 ? static_cast<float>(threshold) : -std::numeric_limits<float>::infinity();
    }

    void merge(const float * logits, const int32_t * high, size_t found) {
        candidates_.clear();
        auto other = touched_.begin();
        for (size_t i = 0; i < found; ++i) {
            while (other != touched_.end() && *other < high[i]) {
                keep(logits, *other++);
            }
            if (other != touched_.end() && *other == high[i]) {
                ++other;
            }
            keep(logits, high[i]);
        }
        while (other != touched_.end()) {
            keep(logits, *other++);
        }
    }

    void keep(const float * logits, int32_t id) { candidates_.push_back(llama_token_data{id, logits[id], 0.0f}); }

    row_reader reader_;
    std::vector<llama_token_data> candidates_;
    std::vector<int32_t> touched_;
};

}  // namespace llama_cy
