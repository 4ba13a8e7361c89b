// What a lazy grammar waits for: a token, or a pattern, searched on a stack that holds the search.
#pragma once

#include "llama_cy_api.h"
#include "deep_stack.h"
#include "sample_error.h"

#include <algorithm>
#include <cstddef>
#include <new>
#include <regex>
#include <string>
#include <utility>
#include <vector>

namespace llama_cy {

// At most what std::regex was seen to take for a state it visits, twice; and for a character of a pattern it reads.
constexpr size_t stack_per_state = 320;
constexpr size_t stack_per_pattern_character = 4096;

template <typename Work> void search_deep(size_t bytes, Work work) {
    try {
        on_deep_stack(bytes, std::move(work));
    } catch (const std::bad_alloc &) {
        const std::string what = "there is no memory for a stack of " + std::to_string(bytes / (1024 * 1024)) +
            " MiB, which a search for the trigger of the grammar may need";
        throw sample_error(SAMPLE_THREW, what.c_str());
    }
}

class grammar_trigger {
  public:
    // `states` is of the longest pattern, counting what it repeats.
    grammar_trigger(const std::vector<std::string> & patterns, std::vector<llama_token> tokens, size_t states)
        : tokens_(std::move(tokens)), states_(states) {
        size_t size = 0;
        for (const std::string & pattern : patterns) {
            size += pattern.size();
        }
        search_deep(size * stack_per_pattern_character, [&] {
            for (const std::string & pattern : patterns) {
                const bool whole = !pattern.empty() && pattern.front() == '^' && pattern.back() == '$';
                patterns_.push_back({std::regex(pattern), whole});
            }
        });
    }

    bool is(llama_token token) const { return std::find(tokens_.begin(), tokens_.end(), token) != tokens_.end(); }

    // Where the grammar begins in a text: at the first group that matched something, or else at the match.
    size_t find(const std::string & text) const {
        size_t found = std::string::npos;
        search_deep((text.size() + 1) * states_ * stack_per_state, [&] {
            for (const auto & pattern : patterns_) {
                std::smatch match;
                if ((pattern.second && std::regex_match(text, match, pattern.first)) ||
                    std::regex_search(text, match, pattern.first)) {
                    found = begin(match);
                    return;
                }
            }
        });
        return found;
    }

  private:
    static size_t begin(const std::smatch & match) {
        for (size_t i = 1; i < match.size(); ++i) {
            if (match.length(i) > 0) {
                return static_cast<size_t>(match.position(i));
            }
        }
        return static_cast<size_t>(match.position(0));
    }

    std::vector<std::pair<std::regex, bool>> patterns_;
    std::vector<llama_token> tokens_;
    size_t states_;
};

}  // namespace llama_cy
