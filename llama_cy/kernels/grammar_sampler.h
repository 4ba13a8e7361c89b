// A sampler that leaves only tokens by which the text goes on as a grammar has it.
#pragma once

#include "llama_cy_api.h"
#include "grammar_text.h"
#include "grammar_trigger.h"
#include "grammar_ways.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace llama_cy {

// From so many candidates on the whole vocabulary is read once.
constexpr size_t many_candidates = 512;
// What is remembered may take so many numbers of eight bytes, or twice as many as the state needs of them.
constexpr size_t much_memory = 1'000'000;
constexpr size_t most_memory = 4'000'000;

class grammar_follower {
  public:
    grammar_follower(const llama_vocab * vocab, std::shared_ptr<const grammar_rules> rules,
                     std::shared_ptr<const grammar_trigger> trigger)
        : texts_(std::make_shared<vocabulary_texts>()), trigger_(std::move(trigger)), ways_(rules),
          reader_{vocab, std::move(rules), {}, {}, {}} {
        reset();
    }

    grammar_follower(const grammar_follower & other) : ways_(other.reader_.rules),
          reader_{other.reader_.vocab, other.reader_.rules, {}, {}, {}} {
        take_over(other);
    }
    grammar_follower & operator=(const grammar_follower &) = delete;

    void take_over(const grammar_follower & other) {
        std::string waited = other.waited_;
        std::vector<std::pair<llama_token, size_t>> held = other.held_;
        if (reader_.rules == other.reader_.rules && ways_.size() <= memory_bound_) {
            state_ = ways_.take_over(other.ways_, other.state_);
        } else {
            start_anew(other.ways_, other.state_, std::numeric_limits<size_t>::max());
        }
        reader_.vocab = other.reader_.vocab;
        reader_.rules = other.reader_.rules;
        texts_ = other.texts_;
        trigger_ = other.trigger_;
        waits_ = other.waits_;
        partial_ = other.partial_;
        waited_.swap(waited);
        held_.swap(held);
    }

    void reset() {
        ways_.allow(most_grammar_work);
        state_ = ways_.begin();
        partial_ = {};
        waits_ = trigger_ != nullptr;
        waited_.clear();
        held_.clear();
    }

    void apply(llama_token_data_array & candidates) {
        if (waits_) {
            return;
        }
        forget_unneeded();
        ways_.allow(most_grammar_work);
        const std::vector<grammar_element> tokens = ways_.tokens(state_);
        const bool read = candidates.size >= many_candidates && partial_.missing == 0;
        if (read) {
            texts_->read(reader_);
        }
        for (size_t i = 0; i < candidates.size; ++i) {
            llama_token_data & candidate = candidates.data[i];
            const vocabulary_texts::text text = read ? (*texts_)[candidate.id] : text_of(candidate.id);
            if (!allows(candidate.id, text, tokens)) {
                candidate.logit = -std::numeric_limits<float>::infinity();
            }
        }
    }

    void accept(llama_token token) {
        forget_unneeded();
        ways_.allow(most_grammar_work);
        if (waits_) {
            wait(token);
        } else if (!llama_vocab_is_eog(reader_.vocab, token)) {
            follow(token, reader_.spell(token));
        } else if (!may_end()) {
            throw std::runtime_error("the text may not end here");
        }
    }

  private:
    // Not behind a part of a character.
    bool may_end() const { return partial_.missing == 0 && ways_.may_end(state_); }

    // Of one token, until the next one is read.
    vocabulary_texts::text text_of(llama_token token) {
        const bool readable = reader_.read(token, partial_);
        const bool ends = llama_vocab_is_eog(reader_.vocab, token);
        return {reader_.classes.data(), reader_.classes.size(), reader_.partial, readable, ends};
    }

    bool allows(llama_token token, const vocabulary_texts::text & text, const std::vector<grammar_element> & tokens) {
        if (text.ends) {
            return may_end();
        }
        if (!text.readable) {
            return false;
        }
        if (text.n > 0) {
            for (const grammar_element & element : tokens) {
                if (grammar_ways::matches(element, static_cast<uint32_t>(token))) {
                    return true;
                }
            }
        }
        const int32_t state = ways_.walk(state_, text.classes, text.n);
        return state != grammar_ways::nowhere && (text.partial.missing == 0 || ways_.may_go_on(state, text.partial));
    }

    // Goes on with a token, or the part of it in `bytes`.
    void follow(llama_token token, size_t n) {
        reader_.classes.clear();
        partial_char partial = partial_;
        int32_t state = grammar_ways::nowhere;
        if (read_classes(*reader_.rules, reader_.bytes.data(), n, partial, reader_.classes)) {
            state = ways_.walk(state_, reader_.classes.data(), reader_.classes.size());
            const int32_t by_token = ways_.step_token(state_, static_cast<uint32_t>(token));
            state = by_token == grammar_ways::nowhere ? state : ways_.both(state, by_token);
        }
        if (state == grammar_ways::nowhere) {
            throw std::runtime_error("no way goes on with token " + std::to_string(token));
        }
        state_ = state;
        partial_ = partial;
    }

    void wait(llama_token token) {
        const size_t n = reader_.spell(token);
        if (trigger_->is(token)) {
            waits_ = false;
            waited_.clear();
            held_.clear();
            follow(token, n);
            return;
        }
        held_.emplace_back(token, waited_.size());
        waited_.append(reader_.bytes.data(), n);
        const size_t from = trigger_->find(waited_);
        if (from == std::string::npos) {
            return;
        }
        waits_ = false;
        for (size_t i = 0; i < held_.size(); ++i) {
            const size_t begin = std::max(held_[i].second, from);
            const size_t end = i + 1 < held_.size() ? held_[i + 1].second : waited_.size();
            if (begin < end) {
                reader_.bytes.assign(waited_, begin, end - begin);
                follow(held_[i].first, end - begin);
            }
        }
        waited_.clear();
        held_.clear();
    }

    // Of what is remembered, what the state does not lead back to.
    void forget_unneeded() {
        if (ways_.size() > memory_bound_) {
            start_anew(ways_, state_, most_memory);
        }
    }

    // Remembers what a state leads back to, and nothing else.
    void start_anew(const grammar_ways & ways, int32_t state, size_t most) {
        grammar_ways fresh(ways.rules());
        state = fresh.take_over(ways, state);
        if (fresh.size() > most) {
            throw_too_many_ways();
        }
        ways_ = std::move(fresh);
        state_ = state;
        memory_bound_ = std::max(much_memory, 2 * ways_.size());
    }

    std::shared_ptr<vocabulary_texts> texts_;
    std::shared_ptr<const grammar_trigger> trigger_;
    grammar_ways ways_;
    token_reader reader_;
    int32_t state_ = grammar_ways::nowhere;
    partial_char partial_;
    size_t memory_bound_ = much_memory;
    // Whether it waits for its trigger, and what came meanwhile: the text, and where each token begins in it.
    bool waits_ = false;
    std::string waited_;
    std::vector<std::pair<llama_token, size_t>> held_;
};

inline grammar_follower & follower_of(const llama_sampler * sampler) {
    return *static_cast<grammar_follower *>(sampler->ctx);
}

inline const char * grammar_name(const llama_sampler *) {
    return "grammar";
}

inline void grammar_accept(llama_sampler * sampler, llama_token token) {
    follower_of(sampler).accept(token);
}

inline void grammar_apply(llama_sampler * sampler, llama_token_data_array * candidates) {
    follower_of(sampler).apply(*candidates);
}

inline void grammar_reset(llama_sampler * sampler) {
    follower_of(sampler).reset();
}

inline void grammar_free(llama_sampler * sampler) {
    delete &follower_of(sampler);
}

inline void grammar_copy(const llama_sampler * from, llama_sampler * to) {
    follower_of(to).take_over(follower_of(from));
}

inline llama_sampler * grammar_clone(const llama_sampler * sampler);

inline llama_sampler_i grammar_table = {
    grammar_name, grammar_accept, grammar_apply, grammar_reset, grammar_clone, grammar_free,
    nullptr, nullptr, nullptr, nullptr, nullptr, grammar_copy,
};

inline llama_sampler * own_grammar(std::unique_ptr<grammar_follower> follower) {
    llama_sampler * sampler = llama_sampler_init(&grammar_table, follower.get());
    follower.release();
    return sampler;
}

inline llama_sampler * grammar_clone(const llama_sampler * sampler) {
    return own_grammar(std::make_unique<grammar_follower>(follower_of(sampler)));
}

inline llama_sampler * init_grammar(const llama_vocab * vocab, std::shared_ptr<const grammar_rules> rules) {
    return own_grammar(std::make_unique<grammar_follower>(vocab, std::move(rules), nullptr));
}

inline llama_sampler * init_lazy_grammar(const llama_vocab * vocab, std::shared_ptr<const grammar_rules> rules,
                                         const std::vector<std::string> & patterns,
                                         const std::vector<llama_token> & tokens, size_t states) {
    auto trigger = std::make_shared<const grammar_trigger>(patterns, tokens, states);
    return own_grammar(std::make_unique<grammar_follower>(vocab, std::move(rules), std::move(trigger)));
}

}  // namespace llama_cy
