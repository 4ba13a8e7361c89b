// One pass over a row of logits, and the few of them that are worth a second look.
#pragma once

#include "simd.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
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
        simd::extremes_best(maxima_.data(), maxima_.size(), lowest_, highest_);
    }

    float highest() const { return highest_; }

    // Whether threshold() can tell.
    bool ranks(size_t rank) const { return rank <= maxima_.size(); }

    // A value that at least `rank` logits reach, and few more: so many blocks hold one.
    float threshold(size_t rank) const {
        if (rank == 1) {
            return highest_;
        }
        // Halving is faster than to sort: nothing in it depends on how a comparison ends but where the next one looks.
        uint32_t low = ordinal(lowest_), high = ordinal(highest_);
        const size_t enough = rank + rank / 8;
        while (high - low > 1) {
            const uint32_t middle = low + (high - low) / 2;
            const size_t count = simd::count_from_best(maxima_.data(), maxima_.size(), value(middle));
            (count < rank ? high : low) = middle;
            if (count >= rank && count <= enough) {
                break;
            }
        }
        return value(low);
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
    // Whole numbers in the order of the floats, without NaN.
    static uint32_t ordinal(float x) {
        uint32_t bits;
        std::memcpy(&bits, &x, sizeof(bits));
        return bits >> 31 ? ~bits : bits | 0x80000000u;
    }

    static float value(uint32_t ordinal) {
        const uint32_t bits = ordinal >> 31 ? ordinal & 0x7fffffffu : ~ordinal;
        float x;
        std::memcpy(&x, &bits, sizeof(x));
        return x;
    }

    const float * row_ = nullptr;
    size_t n_ = 0;
    size_t block_ = 0;
    // The highest logit of each block, and the lowest and the highest of these.
    std::vector<float> maxima_;
    float lowest_ = 0;
    float highest_ = 0;
    // Not a vector, which would write zeros to all of it.
    std::unique_ptr<int32_t[]> indices_;
    size_t room_ = 0;
};

}  // namespace llama_cy
