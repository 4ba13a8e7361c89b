// Prints what the kernels over rows of logits come to; compiled with the compiler's vectors, and with plain ones.
#include "simd.h"

#include <algorithm>
#include <cstdio>
#include <vector>

int main() {
    namespace simd = llama_cy::simd;
    unsigned int state = 1;
    const auto next = [&] {
        state = state * 1664525u + 1013904223u;
        return static_cast<float>(static_cast<int>(state >> 8) % 4000) / 100.0f - 20.0f;
    };
    for (const size_t n : {1u, 15u, 64u, 257u, 5000u, 32003u}) {
        std::vector<float> row(n);
        std::generate(row.begin(), row.end(), next);
        if (n > 100) {
            row[7] = -std::numeric_limits<float>::infinity();
        }
        for (const bool wrong : {false, true}) {
            if (wrong) {
                row[n / 2] = std::numeric_limits<float>::quiet_NaN();
            }
            std::vector<float> maxima((n + 63) / 64);
            std::vector<int32_t> found(n);
            const bool numbers = simd::block_maxima_best(row.data(), n, 64, maxima.data());
            const float top = *std::max_element(maxima.begin(), maxima.end());
            const size_t count = simd::pick_out_best(row.data(), n, 64, maxima.data(), top - 1, found.data());
            unsigned long long sum = 0;
            for (size_t i = 0; i < count; i++) {
                sum = sum * 31 + static_cast<unsigned int>(found[i]);
            }
            float lowest, highest;
            simd::extremes_best(maxima.data(), maxima.size(), lowest, highest);
            std::printf("%zu %d %.9g %zu %llu %.4f %.9g %.9g %zu\n", n, numbers, static_cast<double>(top), count, sum,
                        wrong ? 0.0 : simd::sum_of_exp_best(row.data(), n, top), static_cast<double>(lowest),
                        static_cast<double>(highest), simd::count_from_best(row.data(), n, 0.0f));
        }
    }
}
