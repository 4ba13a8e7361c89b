// Log probabilities of tokens from a row of logits, without a copy of it.
#pragma once

#include "row.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace llama_cy {

struct token_logprob {
    int32_t token = -1;
    float logprob = 0;
    // The most probable tokens, best first, and those with the lower id first where they tie.
    std::vector<std::pair<int32_t, float>> best;
};

class logprob_reader {
  public:
    token_logprob read(const float * row, size_t n, int32_t token, size_t n_best) {
        const size_t rank = std::max<size_t>(1, std::min(n_best, n));
        reader_.read(row, n, rank);
        const float highest = reader_.highest();
        token_logprob result;
        result.token = token;
        const bool possible = highest > -std::numeric_limits<float>::infinity();
        const double total = possible ? highest + std::log(simd::sum_of_exp_best(row, n, highest)) : 0;
        result.logprob = static_cast<float>(row[token] - total);
        if (n_best == 0) {
            return result;
        }
        size_t found;
        const float threshold =
            reader_.ranks(rank) ? reader_.threshold(rank) : -std::numeric_limits<float>::infinity();
        const int32_t * high = reader_.reach(threshold, found);
        order_.assign(high, high + found);
        std::partial_sort(order_.begin(), order_.begin() + rank, order_.end(), [row](int32_t a, int32_t b) {
            return row[a] != row[b] ? row[a] > row[b] : a < b;
        });
        for (size_t i = 0; i < rank; ++i) {
            result.best.emplace_back(order_[i], static_cast<float>(row[order_[i]] - total));
        }
        return result;
    }

  private:
    row_reader reader_;
    std::vector<int32_t> order_;
};

}  // namespace llama_cy
