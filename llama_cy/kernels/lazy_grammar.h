// A grammar that waits for patterns, searched on a stack that holds the search: it recurses for each character.
#pragma once

#include "llama_cy_api.h"
#include "deep_stack.h"
#include "sample_error.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace llama_cy {

// At most what std::regex was seen to take for a state it visits, twice; and for a character of a pattern it reads.
constexpr size_t stack_per_state = 320;
constexpr size_t stack_per_pattern_character = 4096;

struct lazy_grammar {
    llama_sampler * inner;
    const llama_vocab * vocab;
    // Of the longest pattern, counting what it repeats.
    size_t states;
    // Of all patterns.
    size_t pattern_bytes;
    std::vector<llama_token> triggers;
    size_t searched;
    bool triggered;
};

inline lazy_grammar & lazy_of(const llama_sampler * sampler) {
    return *static_cast<lazy_grammar *>(sampler->ctx);
}

template <typename Work> void search_deep(size_t bytes, Work work) {
    try {
        on_deep_stack(bytes, std::move(work));
    } catch (const std::bad_alloc &) {
        const std::string what = "there is no memory for a stack of " + std::to_string(bytes / (1024 * 1024)) +
            " MiB, which a search for the trigger of the grammar may need";
        throw sample_error(SAMPLE_THREW, what.c_str());
    }
}

inline const char * lazy_name(const llama_sampler * sampler) {
    return llama_sampler_name(lazy_of(sampler).inner);
}

inline void lazy_accept(llama_sampler * sampler, llama_token token) {
    lazy_grammar & lazy = lazy_of(sampler);
    if (lazy.triggered) {
        llama_sampler_accept(lazy.inner, token);
        return;
    }
    for (const llama_token trigger : lazy.triggers) {
        lazy.triggered |= trigger == token;
    }
    const int32_t size = llama_token_to_piece(lazy.vocab, token, nullptr, 0, 0, true);
    const size_t text = lazy.searched + static_cast<size_t>(size < 0 ? -size : 0);
    search_deep((text + 1) * lazy.states * stack_per_state, [&] { llama_sampler_accept(lazy.inner, token); });
    lazy.searched = text;
}

inline void lazy_apply(llama_sampler * sampler, llama_token_data_array * candidates) {
    llama_sampler_apply(lazy_of(sampler).inner, candidates);
}

// The patterns are read again.
inline void lazy_reset(llama_sampler * sampler) {
    lazy_grammar & lazy = lazy_of(sampler);
    search_deep(lazy.pattern_bytes * stack_per_pattern_character, [&] { llama_sampler_reset(lazy.inner); });
    lazy.searched = 0;
    lazy.triggered = false;
}

inline void lazy_free(llama_sampler * sampler) {
    lazy_grammar * lazy = &lazy_of(sampler);
    llama_sampler_free(lazy->inner);
    delete lazy;
}

inline llama_sampler * lazy_clone(const llama_sampler * sampler);

inline llama_sampler_i lazy_table = {
    lazy_name, lazy_accept, lazy_apply, lazy_reset, lazy_clone, lazy_free,
    nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
};

inline llama_sampler * lazy_clone(const llama_sampler * sampler) {
    const lazy_grammar & lazy = lazy_of(sampler);
    llama_sampler * inner = nullptr;
    search_deep(lazy.pattern_bytes * stack_per_pattern_character, [&] { inner = llama_sampler_clone(lazy.inner); });
    lazy_grammar * twin = new lazy_grammar(lazy);
    twin->inner = inner;
    return llama_sampler_init(&lazy_table, twin);
}

// NULL where llama.cpp refuses the grammar.
inline llama_sampler * init_lazy_grammar(const llama_vocab * vocab, const char * grammar, const char * root,
                                         std::vector<const char *> & patterns, const std::vector<llama_token> & tokens,
                                         size_t states, size_t pattern_bytes) {
    llama_sampler * inner = nullptr;
    search_deep(pattern_bytes * stack_per_pattern_character, [&] {
        inner = llama_sampler_init_grammar_lazy_patterns(vocab, grammar, root, patterns.data(), patterns.size(),
                                                         tokens.data(), tokens.size());
    });
    if (inner == nullptr) {
        return nullptr;
    }
    return llama_sampler_init(&lazy_table, new lazy_grammar{inner, vocab, states, pattern_bytes, tokens, 0, false});
}

}  // namespace llama_cy
