// One pass over a row of logits, and the few of them that are worth a second look.
#pragma once

#include "simd.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

namespace llama_cy {

class row_reader {
  public:
    row_reader() = default;
    // What it works with is its own.
    row_reader(const row_reader &) {}
    row_reader & operator=(const row_reader &) { return *this; }

    // Looks at every logit, in blocks of a size that suits the search for the `rank` highest.
    void read(const float * row, size_t n, size_t rank) {
        row_ = row;
        n_ = n;
        block_ = rank * 4 <= n / 256 ? 256 : 32;
        maxima_.resize((n + block_ - 1) / block_);
        // No order holds among NaNs, and what sorts them runs out of bounds.
        if (!simd::block_maxima_best(row, n, block_, maxima_.data())) {
            throw std::domain_error("the model computed NaN or infinity for a logit; there is nothing to choose among");
        }
    }

    float highest() const { return *std::max_element(maxima_.begin(), maxima_.end()); }

    // Whether threshold() can tell.
    bool ranks(size_t rank) const { return rank <= maxima_.size(); }

    // A value that at least `rank` logits reach: so many blocks hold one.
    float threshold(size_t rank) {
        if (rank == 1) {
            return highest();
        }
        sorted_ = maxima_;
        std::nth_element(sorted_.begin(), sorted_.begin() + (rank - 1), sorted_.end(), std::greater<float>());
        return sorted_[rank - 1];
    }

    // The indices of all that reach a threshold, in order.
    const int32_t * reach(float threshold, size_t & found) {
        if (room_ < n_) {
            indices_.reset(new int32_t[n_]);
            room_ = n_;
        }
        found = simd::pick_out_best(row_, n_, block_, maxima_.data(), threshold, indices_.get());
        return indices_.get();
    }

  private:
    const float * row_ = nullptr;
    size_t n_ = 0;
    size_t block_ = 0;
    std::vector<float> maxima_;
    std::vector<float> sorted_;
    // Not a vector, which would write zeros to all of it.
    std::unique_ptr<int32_t[]> indices_;
    size_t room_ = 0;
};

}  // namespace llama_cy
