// The bytes of tokens as a grammar reads them: classes of characters, and what there is of the last one.
#pragma once

#include "llama_cy_api.h"
#include "grammar_rules.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace llama_cy {

// Whether a byte may follow the first one of a character, of whose value there are as yet these bits: neither too long for
// its value, nor a surrogate, nor beyond Unicode (the Unicode Standard, table 3-7).
inline bool may_follow(partial_char first, uint32_t byte) {
    if (first.missing == 2 && first.value < 0x10) {
        return first.value == 0 ? byte >= 0xA0 : first.value != 0xD || byte < 0xA0;
    }
    if (first.missing == 3) {
        return first.value == 0 ? byte >= 0x90 : first.value != 4 || byte < 0x90;
    }
    return true;
}

// Appends the classes of what is complete, behind the bytes of a character that came before. Returns whether the bytes may
// be a part of a text in UTF-8 at all.
inline bool read_classes(const grammar_rules & rules, const char * bytes, size_t n, partial_char & partial,
                         std::vector<uint32_t> & classes) {
    for (size_t i = 0; i < n; ++i) {
        const uint32_t byte = static_cast<uint8_t>(bytes[i]);
        if (partial.missing > 0) {
            if (byte >> 6 != 2 || !may_follow(partial, byte)) {
                return false;
            }
            partial.value = partial.value << 6 | (byte & 0x3F);
            --partial.missing;
        } else {
            if (byte == 0 || (byte >= 0x80 && byte < 0xC2) || byte > 0xF4) {
                return false;
            }
            partial.missing = byte < 0x80 ? 0 : byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
            partial.value = partial.missing == 0 ? byte : byte & (0x3Fu >> partial.missing);
        }
        if (partial.missing == 0) {
            classes.push_back(rules.class_of(partial.value));
        }
    }
    return true;
}

struct token_reader {
    const llama_vocab * vocab;
    std::shared_ptr<const grammar_rules> rules;
    std::string bytes;
    std::vector<uint32_t> classes;
    partial_char partial;

    // Returns the size of the token's text in `bytes`.
    size_t spell(llama_token token) {
        bytes.resize(bytes.capacity());
        int32_t n = llama_token_to_piece(vocab, token, &bytes[0], static_cast<int32_t>(bytes.size()), 0, true);
        if (n < 0) {
            bytes.resize(static_cast<size_t>(-n));
            n = llama_token_to_piece(vocab, token, &bytes[0], static_cast<int32_t>(bytes.size()), 0, true);
        }
        return n < 0 ? 0 : static_cast<size_t>(n);
    }

    // What a token adds to the bytes of a character that came before; whether it is a text that goes on with them.
    bool read(llama_token token, partial_char before) {
        const size_t n = spell(token);
        classes.clear();
        partial = before;
        return n > 0 && read_classes(*rules, bytes.data(), n, partial, classes);
    }
};

// The texts of a whole vocabulary behind a complete character, read once for all samplers of one grammar.
class vocabulary_texts {
  public:
    struct text {
        const uint32_t * classes;
        size_t n;
        partial_char partial;
        bool readable;
        // Whether the token is no text but the end of all.
        bool ends;
    };

    void read(const token_reader & like) {
        std::lock_guard<std::mutex> lock(mutex_);
        if (!texts_.empty()) {
            return;
        }
        token_reader reader{like.vocab, like.rules, {}, {}, {}};
        std::vector<stretch> texts;
        classes_.clear();
        for (llama_token token = 0; token < llama_vocab_n_tokens(like.vocab); ++token) {
            const bool readable = reader.read(token, {});
            const uint32_t begin = static_cast<uint32_t>(classes_.size());
            texts.push_back({begin, reader.partial, readable, llama_vocab_is_eog(like.vocab, token)});
            classes_.insert(classes_.end(), reader.classes.begin(), reader.classes.end());
        }
        texts.push_back({static_cast<uint32_t>(classes_.size()), {}, false, false});
        texts_ = std::move(texts);
    }

    text operator[](llama_token token) const {
        const stretch & next = texts_.at(static_cast<size_t>(token) + 1);
        const stretch & found = texts_.at(static_cast<size_t>(token));
        return {classes_.data() + found.begin, next.begin - found.begin, found.partial, found.readable, found.ends};
    }

  private:
    struct stretch {
        uint32_t begin;
        partial_char partial;
        bool readable;
        bool ends;
    };

    std::mutex mutex_;
    std::vector<stretch> texts_;
    std::vector<uint32_t> classes_;
};

}  // namespace llama_cy
