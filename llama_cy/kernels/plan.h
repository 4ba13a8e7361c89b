// What the samplers of a chain do, as far as one pass over the logits must know.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace llama_cy {

enum step_kind { STEP_OTHER, STEP_NOTHING, STEP_BIAS, STEP_PENALTIES, STEP_TEMP, STEP_TOP_K, STEP_MIN_P, STEP_GREEDY };

struct sampler_step {
    step_kind kind = STEP_OTHER;
    std::string label;
    // k, min_keep or last_n.
    int64_t count = 0;
    // p or temperature.
    float value = 0;
    // The tokens with a bias.
    std::vector<int32_t> tokens;

    void name(const char * text) { label = text; }
};

// The tokens that penalties may know: as many of the last ones as the longest memory holds, or more.
class recent_tokens {
  public:
    void grow(size_t capacity) {
        std::rotate(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(oldest_), order_.end());
        oldest_ = 0;
        capacity_ += capacity;
    }

    void push(int32_t token) {
        if (capacity_ == 0) {
            return;
        }
        const auto count = counts_.emplace(token, 0).first;
        if (order_.size() < capacity_) {
            order_.push_back(token);
            ++count->second;
            return;
        }
        ++count->second;
        const auto oldest = counts_.find(order_[oldest_]);
        if (--oldest->second == 0) {
            counts_.erase(oldest);
        }
        order_[oldest_] = token;
        oldest_ = (oldest_ + 1) % capacity_;
    }

    void push(const recent_tokens & others) {
        for (size_t i = 0; i < others.order_.size(); ++i) {
            push(others.order_[(others.oldest_ + i) % others.order_.size()]);
        }
    }

    void clear() {
        order_.clear();
        oldest_ = 0;
        counts_.clear();
    }

    size_t size() const { return counts_.size(); }
    const std::unordered_map<int32_t, int> & counts() const { return counts_; }

  private:
    size_t capacity_ = 0;
    // A ring once it is full. Not a deque: its constructor takes memory, and nobody catches what a Cython class's members throw.
    std::vector<int32_t> order_;
    size_t oldest_ = 0;
    std::unordered_map<int32_t, int> counts_;
};

class sampling_plan {
  public:
    // More of them cost more than they save: each survivor is compared with each.
    static constexpr size_t most_touched = 256;

    void add(const sampler_step & step) {
        ++unfinished_;
        steps_.push_back(step);
        if (step.kind == STEP_PENALTIES) {
            recent.grow(static_cast<size_t>(step.count));
        }
        decide();
        --unfinished_;
    }

    void only(const sampler_step & step) {
        *this = sampling_plan();
        add(step);
    }

    // A chain that moves into another takes its history along, and stays one sampler.
    void add(const sampling_plan & other) {
        ++unfinished_;
        if (!other.distrusted_.empty()) {
            distrusted_ = other.distrusted_;
        }
        if (other.steps_.size() == 1) {
            add(other.steps_[0]);
            recent.push(other.recent);
        } else {
            add(sampler_step{STEP_OTHER, "chain", 0, 0, {}});
        }
        unfinished_ += other.unfinished_ - 1;
    }

    // What happens to the sampler is no longer known.
    void distrust(const std::string & why) {
        ++unfinished_;
        distrusted_ = why;
        decide();
        --unfinished_;
    }

    bool one_pass() const { return steps_.size() > 0 && reason_.empty() && unfinished_ == 0; }
    std::string reason() const {
        if (unfinished_ != 0) {
            return "there was no memory to note what the samplers do";
        }
        return steps_.empty() && distrusted_.empty() ? "the chain is empty" : reason_;
    }
    // The samplers up to this one are what the pass stands for.
    size_t head() const { return head_; }
    const std::vector<sampler_step> & steps() const { return steps_; }
    const sampler_step & cut() const { return steps_[head_ - 1]; }
    const std::vector<int32_t> & biased() const { return biased_; }
    // What logits are divided by before the cut; 0 where only the highest one stays.
    double temperature() const { return temperature_; }
    bool scales() const { return scales_; }

    recent_tokens recent;

  private:
    void decide() {
        head_ = 0;
        temperature_ = 1;
        scales_ = false;
        biased_.clear();
        reason_.clear();
        for (const sampler_step & step : steps_) {
            ++head_;
            switch (step.kind) {
                case STEP_NOTHING:
                case STEP_PENALTIES: break;
                case STEP_BIAS: biased_.insert(biased_.end(), step.tokens.begin(), step.tokens.end()); break;
                case STEP_TEMP:
                    scales_ = true;
                    temperature_ *= step.value > 0 ? step.value : 0;
                    break;
                case STEP_GREEDY:
                    // It leaves the whole vocabulary to what may come behind.
                    return finish(head_ == steps_.size() ? "" : step.label + " is not the last one");
                case STEP_TOP_K:
                case STEP_MIN_P: return finish("");
                case STEP_OTHER: return finish(step.label + " looks at the whole vocabulary");
            }
        }
        finish(steps_.empty() ? "the chain is empty" : "nothing in the chain leaves a few tokens only");
    }

    void finish(const std::string & reason) {
        reason_ = reason;
        if (biased_.size() > most_touched) {
            reason_ = std::to_string(biased_.size()) + " tokens have a bias, more than " + std::to_string(most_touched);
        }
        if (!distrusted_.empty()) {
            reason_ = distrusted_;
        }
    }

    std::vector<sampler_step> steps_;
    std::vector<int32_t> biased_;
    size_t head_ = 0;
    double temperature_ = 1;
    bool scales_ = false;
    // Changes that memory did not suffice for, after which only llama.cpp knows what the chain is.
    int unfinished_ = 0;
    std::string reason_;
    std::string distrusted_;
};

}  // namespace llama_cy
