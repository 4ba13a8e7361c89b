// Lists of numbers, each kept once, and what follows from two numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

namespace llama_cy {

inline uint64_t scramble(uint64_t number) {
    number = (number ^ (number >> 32)) * 0x9E3779B97F4A7C15u;
    return number ^ (number >> 29);
}

class list_pool {
  public:
    using list = std::vector<uint64_t>;

    // Equal lists have one number.
    int32_t number(list && items) {
        const auto found = numbers_.emplace(std::move(items), static_cast<int32_t>(lists_.size()));
        if (found.second) {
            try {
                lists_.push_back(&found.first->first);
            } catch (...) {
                numbers_.erase(found.first);
                throw;
            }
            size_ += found.first->first.size() + 8;
        }
        return found.first->second;
    }

    const list & operator[](int32_t number) const { return *lists_[number]; }
    size_t n_lists() const { return lists_.size(); }
    // What is kept, in numbers of eight bytes.
    size_t size() const { return size_; }

  private:
    struct list_hash {
        size_t operator()(const list & items) const {
            uint64_t hash = items.size();
            for (const uint64_t item : items) {
                hash = scramble(hash + item);
            }
            return static_cast<size_t>(hash);
        }
    };

    std::unordered_map<list, int32_t, list_hash> numbers_;
    std::vector<const list *> lists_;
    size_t size_ = 0;
};

// Asked for each character of each candidate, so it is flat.
class transition_table {
  public:
    transition_table() : slots_(64) {}

    const int32_t * find(uint32_t from, uint32_t by) const {
        const uint64_t key = key_of(from, by);
        for (size_t at = place_of(key);; ++at) {
            const slot & found = slots_[at & mask_];
            if (found.key == key) {
                return &found.to;
            }
            if (found.key == 0) {
                return nullptr;
            }
        }
    }

    void add(uint32_t from, uint32_t by, int32_t to) {
        if (2 * (size_ + 1) > slots_.size()) {
            std::vector<slot> old(2 * slots_.size());
            slots_.swap(old);
            mask_ = slots_.size() - 1;
            for (const slot & one : old) {
                if (one.key != 0) {
                    put(one);
                }
            }
        }
        put({key_of(from, by), to});
        ++size_;
    }

    size_t size() const { return size_; }

  private:
    struct slot {
        uint64_t key = 0;
        int32_t to = 0;
        slot() = default;
        slot(uint64_t key, int32_t to) : key(key), to(to) {}
    };

    static uint64_t key_of(uint32_t from, uint32_t by) { return (static_cast<uint64_t>(from) << 32 | by) + 1; }
    static size_t place_of(uint64_t key) { return static_cast<size_t>((key * 0x9E3779B97F4A7C15u) >> 32); }

    void put(const slot & one) {
        size_t at = place_of(one.key);
        while (slots_[at & mask_].key != 0) {
            ++at;
        }
        slots_[at & mask_] = one;
    }

    std::vector<slot> slots_;
    size_t mask_ = 63;
    size_t size_ = 0;
};

}  // namespace llama_cy
