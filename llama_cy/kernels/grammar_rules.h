// The rules of a grammar, and the code points that it can't tell apart.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace llama_cy {

enum grammar_kind : uint8_t {
    GRAMMAR_END,
    GRAMMAR_ALTERNATE,
    GRAMMAR_RULE,
    GRAMMAR_CHAR,
    GRAMMAR_TOKEN,
    GRAMMAR_OTHER_TOKEN,
};

struct grammar_element {
    grammar_kind kind;
    // The number of a rule, of a set of characters, or of a token.
    uint32_t value;
};

// The bits of a character so far, and how many bytes are missing.
struct partial_char {
    uint32_t value = 0;
    int missing = 0;
};

struct char_set {
    bool negated;
    std::vector<std::pair<uint32_t, uint32_t>> ranges;

    bool meets(uint32_t low, uint32_t high) const {
        for (const auto & range : ranges) {
            if (low <= range.second && range.first <= high) {
                return true;
            }
        }
        return false;
    }

    bool has(uint32_t code_point) const { return meets(code_point, code_point) != negated; }

    // As llama.cpp has it: a character that some completions of are excluded is excluded.
    bool may_have(partial_char partial) const {
        if (partial.missing == 1 && partial.value < 2) {
            return false;
        }
        uint32_t low = partial.value << (partial.missing * 6);
        const uint32_t high = low | ((1u << (partial.missing * 6)) - 1);
        if (low == 0 && partial.missing > 1) {
            // Shorter ones have shorter spellings.
            low = partial.missing == 2 ? 1u << 11 : 1u << 16;
        }
        return meets(low, high) != negated;
    }
};

class grammar_rules {
  public:
    void add_set(bool negated) { sets_.push_back({negated, {}}); }
    void add_range(uint32_t low, uint32_t high) { sets_.back().ranges.emplace_back(low, high); }

    void begin_rule(bool can_be_empty) {
        begins_.push_back(static_cast<uint32_t>(elements_.size()));
        can_be_empty_.push_back(can_be_empty);
    }
    void add(grammar_kind kind, uint32_t value) { elements_.push_back({kind, value}); }

    void finish(uint32_t root) {
        root_ = root;
        lowest_ = {0};
        for (const char_set & set : sets_) {
            for (const auto & range : set.ranges) {
                lowest_.push_back(range.first);
                if (range.second != UINT32_MAX) {
                    lowest_.push_back(range.second + 1);
                }
            }
        }
        std::sort(lowest_.begin(), lowest_.end());
        lowest_.erase(std::unique(lowest_.begin(), lowest_.end()), lowest_.end());
        for (uint32_t code_point = 0; code_point < ascii_.size(); ++code_point) {
            ascii_[code_point] = search(code_point);
        }
    }

    uint32_t root() const { return root_; }
    size_t n_rules() const { return begins_.size(); }
    uint32_t begin(uint32_t rule) const { return begins_[rule]; }
    bool can_be_empty(uint32_t rule) const { return can_be_empty_[rule]; }
    const grammar_element & operator[](uint32_t at) const { return elements_[at]; }
    bool ends(uint32_t at) const { return elements_[at].kind <= GRAMMAR_ALTERNATE; }
    const char_set & set(uint32_t number) const { return sets_[number]; }

    // Each set has all code points of a class, or none of them.
    uint32_t class_of(uint32_t code_point) const {
        return code_point < ascii_.size() ? ascii_[code_point] : search(code_point);
    }
    uint32_t lowest(uint32_t char_class) const { return lowest_[char_class]; }

  private:
    uint32_t search(uint32_t code_point) const {
        return static_cast<uint32_t>(std::upper_bound(lowest_.begin(), lowest_.end(), code_point) - lowest_.begin() - 1);
    }

    std::vector<grammar_element> elements_;
    std::vector<uint32_t> begins_;
    std::vector<bool> can_be_empty_;
    std::vector<char_set> sets_;
    std::vector<uint32_t> lowest_;
    std::array<uint32_t, 128> ascii_;
    uint32_t root_ = 0;
};

}  // namespace llama_cy
