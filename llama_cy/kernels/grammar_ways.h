// All ways at once to read a text by a grammar: where they meet they are one, so that their number does not matter.
//
// Places of the grammar that wait for a character or a token lie on stacks of places to return to, and stacks with the
// same end share it (a graph-structured stack: Tomita, 1985). What a rule returns to is kept for all its callers at one
// character together, and a call that nothing comes behind returns to where its caller does. Sets of such places are
// states, numbered as they come up, and which follows which is remembered.
#pragma once

#include "grammar_rules.h"
#include "list_pool.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <unordered_set>
#include <utility>
#include <vector>

namespace llama_cy {

// Of one call, a few tenths of a second: the ways may become more with each character, if only by the square of their number.
constexpr size_t most_grammar_work = 5'000'000;

// Of a type that all modules share.
[[noreturn]] inline void throw_too_many_ways() {
    throw std::overflow_error("the text can be read by the grammar in too many ways; make it less ambiguous");
}

class grammar_ways {
  public:
    static constexpr int32_t nowhere = 0;

    explicit grammar_ways(std::shared_ptr<const grammar_rules> rules) : rules_(std::move(rules)), callee_(rules_->n_rules(), -1) {
        states_.number({});
        // Behind the root there is only the end.
        returns_.number({pack(the_end, 0)});
    }

    const std::shared_ptr<const grammar_rules> & rules() const { return rules_; }

    // Of what each call may cost; it throws beyond.
    void allow(size_t work) { work_left_ = work; }

    int32_t begin() {
        std::vector<uint64_t> work;
        push_alternates(work, rules_->root(), 0);
        return settle(work);
    }

    int32_t step(int32_t state, uint32_t char_class) {
        if (const int32_t * known = next_.find(state, char_class)) {
            return *known;
        }
        const uint32_t code_point = rules_->lowest(char_class);
        std::vector<uint64_t> work;
        for (const uint64_t place : states_[state]) {
            if (waits_for(place, GRAMMAR_CHAR) && rules_->set(element(place).value).has(code_point)) {
                work.push_back(place + one_place);
            }
        }
        spend(states_[state].size() / 16);
        const int32_t to = settle(work);
        next_.add(state, char_class, to);
        return to;
    }

    int32_t walk(int32_t state, const uint32_t * classes, size_t n) {
        for (size_t i = 0; i < n && state != nowhere; ++i) {
            state = step(state, classes[i]);
        }
        return state;
    }

    // The elements of a state that wait for a token.
    std::vector<grammar_element> tokens(int32_t state) const {
        std::vector<grammar_element> found;
        for (const uint64_t place : states_[state]) {
            if (waits_for_token(place)) {
                found.push_back(element(place));
            }
        }
        return found;
    }

    static bool matches(const grammar_element & element, uint32_t token) {
        return (element.value == token) == (element.kind == GRAMMAR_TOKEN);
    }

    int32_t step_token(int32_t state, uint32_t token) {
        std::vector<uint64_t> work;
        for (const uint64_t place : states_[state]) {
            if (waits_for_token(place) && matches(element(place), token)) {
                work.push_back(place + one_place);
            }
        }
        return settle(work);
    }

    int32_t both(int32_t a, int32_t b) {
        list_pool::list places = states_[a];
        places.insert(places.end(), states_[b].begin(), states_[b].end());
        return states_.number(sorted(std::move(places)));
    }

    bool may_end(int32_t state) const {
        const list_pool::list & places = states_[state];
        return !places.empty() && place_of(places.back()) == the_end;
    }

    bool may_go_on(int32_t state, partial_char partial) const {
        for (const uint64_t place : states_[state]) {
            if (waits_for(place, GRAMMAR_CHAR) && rules_->set(element(place).value).may_have(partial)) {
                return true;
            }
        }
        return false;
    }

    // Returns the state of this one in which another one of the same rules is in `state`.
    int32_t take_over(const grammar_ways & other, int32_t state) {
        std::vector<int32_t> numbers(other.returns_.n_lists(), -1);
        std::vector<int32_t> found;
        const auto visit = [&](const list_pool::list & places) {
            for (const uint64_t place : places) {
                const uint32_t link = link_of(place);
                if (numbers[link] < 0) {
                    numbers[link] = 0;
                    found.push_back(static_cast<int32_t>(link));
                }
            }
        };
        visit(other.states_[state]);
        for (size_t i = 0; i < found.size(); ++i) {
            visit(other.returns_[found[i]]);
        }
        // What one returns to was numbered before it.
        std::sort(found.begin(), found.end());
        const auto renumbered = [&](list_pool::list places) {
            for (uint64_t & place : places) {
                place = pack(place_of(place), static_cast<uint32_t>(numbers[link_of(place)]));
            }
            return sorted(std::move(places));
        };
        for (const int32_t link : found) {
            numbers[link] = link == 0 ? 0 : returns_.number(renumbered(other.returns_[link]));
        }
        return states_.number(renumbered(other.states_[state]));
    }

    // What is remembered, in numbers of eight bytes.
    size_t size() const { return states_.size() + returns_.size() + 4 * next_.size(); }

  private:
    // A place is an element, and the number of what it returns to.
    static constexpr uint32_t the_end = UINT32_MAX;
    static constexpr uint64_t one_place = uint64_t{1} << 32;
    // Of a rule that is called at this character, and whose callers are not known yet.
    static constexpr uint32_t called_now = uint32_t{1} << 31;

    struct called_rule {
        uint32_t rule;
        list_pool::list returns;
        // What those return to that end with it.
        std::vector<uint32_t> ends;
        int32_t number;
        bool entered;
    };

    static uint64_t pack(uint32_t place, uint32_t link) { return static_cast<uint64_t>(place) << 32 | link; }
    static uint32_t place_of(uint64_t packed) { return static_cast<uint32_t>(packed >> 32); }
    static uint32_t link_of(uint64_t packed) { return static_cast<uint32_t>(packed); }

    static list_pool::list sorted(list_pool::list && items) {
        std::sort(items.begin(), items.end());
        items.erase(std::unique(items.begin(), items.end()), items.end());
        items.shrink_to_fit();
        return std::move(items);
    }

    const grammar_element & element(uint64_t packed) const { return (*rules_)[place_of(packed)]; }
    bool waits_for(uint64_t packed, grammar_kind kind) const {
        return place_of(packed) != the_end && element(packed).kind == kind;
    }
    bool waits_for_token(uint64_t packed) const {
        return waits_for(packed, GRAMMAR_TOKEN) || waits_for(packed, GRAMMAR_OTHER_TOKEN);
    }

    void spend(size_t work) {
        if (work > work_left_) {
            throw_too_many_ways();
        }
        work_left_ -= work;
    }

    void push_alternates(std::vector<uint64_t> & work, uint32_t rule, uint32_t link) const {
        uint32_t at = rules_->begin(rule);
        while (true) {
            work.push_back(pack(at, link));
            while (!rules_->ends(at)) {
                ++at;
            }
            if ((*rules_)[at].kind == GRAMMAR_END) {
                return;
            }
            ++at;
        }
    }

    // From places that may be anywhere to the state of all places that wait.
    int32_t settle(std::vector<uint64_t> & work) {
        forget_calls();
        std::unordered_set<uint64_t> seen;
        list_pool::list waiting;
        while (!work.empty()) {
            const uint64_t packed = work.back();
            work.pop_back();
            if (!seen.insert(packed).second) {
                continue;
            }
            spend(1);
            const uint32_t place = place_of(packed);
            const uint32_t link = link_of(packed);
            if (place == the_end) {
                waiting.push_back(packed);
            } else if (rules_->ends(place)) {
                // That a rule called now can be empty was taken care of where it was called.
                if (!(link & called_now)) {
                    const list_pool::list & returns = returns_[link];
                    spend(returns.size());
                    work.insert(work.end(), returns.begin(), returns.end());
                }
            } else if ((*rules_)[place].kind == GRAMMAR_RULE) {
                call(work, (*rules_)[place].value, place + 1, link);
            } else {
                waiting.push_back(packed);
            }
        }
        for (uint64_t & packed : waiting) {
            if (link_of(packed) & called_now) {
                packed = pack(place_of(packed), static_cast<uint32_t>(number(link_of(packed) & ~called_now)));
            }
        }
        return states_.number(sorted(std::move(waiting)));
    }

    void call(std::vector<uint64_t> & work, uint32_t rule, uint32_t behind, uint32_t link) {
        int32_t & callee = callee_[rule];
        if (callee < 0) {
            calls_.push_back({rule, {}, {}, -1, false});
            callee = static_cast<int32_t>(calls_.size() - 1);
            push_alternates(work, rule, called_now | static_cast<uint32_t>(callee));
        }
        called_rule & called = calls_[callee];
        if (!rules_->ends(behind)) {
            called.returns.push_back(pack(behind, link));
        } else {
            called.ends.push_back(link);
        }
        if (rules_->can_be_empty(rule)) {
            work.push_back(pack(behind, link));
        }
    }

    void forget_calls() {
        for (const called_rule & called : calls_) {
            callee_[called.rule] = -1;
        }
        calls_.clear();
    }

    // Numbers what a rule called now returns to, and first what that returns to. No rule begins with itself and goes on
    // behind, so none waits for itself.
    int32_t number(uint32_t first) {
        std::vector<uint32_t> path = {first};
        while (!path.empty()) {
            called_rule & called = calls_[path.back()];
            if (called.number >= 0) {
                path.pop_back();
            } else if (!called.entered) {
                called.entered = true;
                gather(path.back());
                for (const uint64_t packed : called.returns) {
                    if (link_of(packed) & called_now) {
                        path.push_back(link_of(packed) & ~called_now);
                    }
                }
            } else {
                path.pop_back();
                for (uint64_t & packed : called.returns) {
                    if (link_of(packed) & called_now) {
                        const int32_t known = calls_[link_of(packed) & ~called_now].number;
                        if (known < 0) {
                            throw std::logic_error("a rule begins with itself");
                        }
                        packed = pack(place_of(packed), static_cast<uint32_t>(known));
                    }
                }
                called.number = returns_.number(sorted(list_pool::list(called.returns)));
            }
        }
        return calls_[first].number;
    }

    // Adds what the rules return to that end with this one.
    void gather(uint32_t first) {
        std::vector<uint32_t> found = calls_[first].ends;
        std::unordered_set<uint32_t> seen = {called_now | first};
        list_pool::list gathered = calls_[first].returns;
        while (!found.empty()) {
            const uint32_t link = found.back();
            found.pop_back();
            if (!seen.insert(link).second) {
                continue;
            }
            const list_pool::list & returns = link & called_now ? calls_[link & ~called_now].returns : returns_[link];
            spend(returns.size() + 1);
            gathered.insert(gathered.end(), returns.begin(), returns.end());
            if (link & called_now) {
                const std::vector<uint32_t> & ends = calls_[link & ~called_now].ends;
                found.insert(found.end(), ends.begin(), ends.end());
            }
        }
        calls_[first].returns = sorted(std::move(gathered));
    }

    std::shared_ptr<const grammar_rules> rules_;
    list_pool states_;
    list_pool returns_;
    transition_table next_;
    // Of one character, and which of them stands for a rule.
    std::vector<called_rule> calls_;
    std::vector<int32_t> callee_;
    size_t work_left_ = most_grammar_work;
};

}  // namespace llama_cy
