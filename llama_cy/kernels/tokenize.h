// Tokenization on a stack that holds the regular expressions of the vocabulary.
#pragma once

#include "llama_cy_api.h"
#include "deep_stack.h"

#include <algorithm>
#include <cctype>
#include <vector>

namespace llama_cy {

// Three times what the hungriest of llama.cpp's pre-tokenizers was seen to take for a character, in a match that never ends.
constexpr size_t stack_per_character = 1024;

// The most characters that one match may span: what is blank and what is not take turns in no pattern more than once.
inline size_t longest_match(const char * text, size_t length) {
    size_t longest = 0, before = 0, run = 0;
    bool blank = false;
    for (size_t i = 0; i < length; ++i) {
        const bool is_blank = std::isspace(static_cast<unsigned char>(text[i])) != 0;
        if (is_blank != blank) {
            longest = std::max(longest, before + run);
            before = run;
            run = 0;
            blank = is_blank;
        }
        ++run;
    }
    return std::max(longest, before + run);
}

// Replaces `tokens`; returns how many there are, or INT32_MIN.
inline int32_t tokenize(const llama_vocab * vocab, const char * text, int32_t length, std::vector<llama_token> & tokens,
                        bool add_special, bool parse_special, bool expressions) {
    int32_t n = 0;
    const size_t stack = expressions ? static_cast<size_t>(length) * stack_per_character : 0;
    on_deep_stack(stack, [&] {
        tokens.resize(static_cast<size_t>(length) + 16);
        n = llama_tokenize(vocab, text, length, tokens.data(), static_cast<int32_t>(tokens.size()), add_special,
                           parse_special);
        if (n < 0 && n != INT32_MIN) {
            tokens.resize(static_cast<size_t>(-n));
            n = llama_tokenize(vocab, text, length, tokens.data(), -n, add_special, parse_special);
        }
    });
    return n;
}

}  // namespace llama_cy
