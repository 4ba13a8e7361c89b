// From a row of logits to a token: llama.cpp's own samplers see only those tokens that can still be chosen.
#pragma once

#include "llama_cy_api.h"
#include "plan.h"
#include "row.h"
#include "sample_error.h"
#include "sampler_tree.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace llama_cy {

class token_picker {
  public:
    sampling_plan plan;
    // Those that may refuse a token, and whether one is beyond repair.
    std::vector<llama_sampler *> grammars;
    bool lost = false;

    token_picker() = default;
    // A copy is another sampler in the same state; what it works with is its own.
    token_picker(const token_picker & other) : plan(other.plan), lost(other.lost) {}
    token_picker & operator=(const token_picker &) = delete;

    // Become as another one, or stay as it is where there is no memory for that.
    void resemble(const token_picker & other) {
        sampling_plan fresh = other.plan;
        plan = std::move(fresh);
        lost = other.lost;
    }

    void find_grammars(llama_sampler * sampler) { grammars = llama_cy::find_grammars(sampler); }

    // Returns LLAMA_TOKEN_NULL when no sampler selected a token.
    llama_token pick(llama_sampler * sampler, const float * logits, int32_t n) {
        if (lost) {
            throw sample_error(SAMPLE_LOST, "a grammar took what it does not allow; reset() the sampler");
        }
        if (!plan.one_pass() || !survivors(logits, static_cast<size_t>(n))) {
            everything(logits, n);
        }
        llama_token_data_array array = {candidates_.data(), candidates_.size(), -1, false};
        llama_sampler_apply(sampler, &array);
        if (array.selected < 0 || array.selected >= (int64_t) array.size) {
            return LLAMA_TOKEN_NULL;
        }
        const llama_token_data & selected = array.data[array.selected];
        if (selected.logit == -std::numeric_limits<float>::infinity()) {
            throw sample_error(SAMPLE_NOTHING_LEFT, grammars.empty() ? "the samplers rule out every token"
                : "the grammar allows none of the tokens that the other samplers leave");
        }
        return selected.id;
    }

    // A grammar that accepts what it does not allow is beyond repair, so it is asked first.
    void check(llama_token token) const {
        for (llama_sampler * grammar : grammars) {
            llama_token_data candidate = {token, 0.0f, 0.0f};
            llama_token_data_array array = {&candidate, 1, -1, false};
            llama_sampler_apply(grammar, &array);
            if (candidate.logit == -std::numeric_limits<float>::infinity()) {
                const std::string what = "the grammar does not allow token " + std::to_string(token) + " here";
                throw sample_error(SAMPLE_REFUSED, what.c_str());
            }
        }
    }

    void accept(llama_sampler * sampler, llama_token token) {
        check(token);
        try {
            llama_sampler_accept(sampler, token);
        } catch (const sample_error &) {
            lost = true;
            throw;
        } catch (const std::overflow_error &) {
            lost = true;
            throw;
        } catch (const std::exception & error) {
            if (grammars.empty()) {
                throw;
            }
            lost = true;
            const std::string what = "the grammar does not allow what triggered it; reset() the sampler: ";
            throw sample_error(SAMPLE_LOST, (what + error.what()).c_str());
        }
        plan.recent.push(token);
    }

    void reset(llama_sampler * sampler) {
        llama_sampler_reset(sampler);
        plan.recent.clear();
        lost = false;
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

inline sample_code choose(token_picker & picker, llama_sampler * sampler, const float * logits, int32_t n,
                          llama_token & token, std::string & thrown) {
    return sample_caught(thrown, [&] {
        token = picker.pick(sampler, logits, n);
        if (token == LLAMA_TOKEN_NULL) {
            throw sample_error(SAMPLE_UNSELECTED, "no sampler selected a token; end the chain with greedy() or dist()");
        }
    });
}

inline sample_code take(token_picker & picker, llama_sampler * sampler, llama_token token, std::string & thrown) {
    return sample_caught(thrown, [&] { picker.accept(sampler, token); });
}

}  // namespace llama_cy
