// What looks at every logit of a row, in the widest vectors that the CPU has.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "cpu_features.h"

// GCC does not align the stack of Windows for wide vectors.
#if defined(__x86_64__) && (defined(__linux__) || (defined(_WIN32) && defined(__clang__)))
#define LLAMA_CY_WIDE 1
#else
#define LLAMA_CY_WIDE 0
#endif

#if defined(__GNUC__) && !defined(LLAMA_CY_PLAIN_VECTORS)
#define LLAMA_CY_INLINE inline __attribute__((always_inline))
#define LLAMA_CY_CHOICE(mask, one, other) ((mask) ? (one) : (other))
#define LLAMA_CY_PREFETCH(address) __builtin_prefetch(address)
#else
#include "plain_vector.h"
#define LLAMA_CY_INLINE inline
#define LLAMA_CY_CHOICE(mask, one, other) choice(mask, one, other)
#define LLAMA_CY_PREFETCH(address) static_cast<void>(address)
#endif

namespace llama_cy {
namespace simd {

template <int Bytes> struct types;
#if defined(__GNUC__) && !defined(LLAMA_CY_PLAIN_VECTORS)
// GCC forgets a size that depends on a template's argument.
#define LLAMA_CY_TYPES(bytes)                                                               \
    template <> struct types<bytes> {                                                       \
        typedef float f32 __attribute__((vector_size(bytes)));                              \
        typedef int32_t i32 __attribute__((vector_size(bytes)));                            \
        typedef float anywhere __attribute__((vector_size(bytes), aligned(4), may_alias));  \
    };
LLAMA_CY_TYPES(16)
LLAMA_CY_TYPES(32)
#else
template <int Bytes> struct types {
    using f32 = plain_vector<float, Bytes / sizeof(float)>;
    using i32 = plain_vector<int32_t, Bytes / sizeof(float)>;
    using anywhere = f32;
};
#endif

// Vectors go by reference: by value, the rules for calls would depend on the CPU.
template <int Bytes> struct vec {
    static constexpr size_t width = Bytes / sizeof(float);
    using f32 = typename types<Bytes>::f32;
    using i32 = typename types<Bytes>::i32;
    using anywhere = typename types<Bytes>::anywhere;

    static LLAMA_CY_INLINE const anywhere & load(const float * from) {
        return *reinterpret_cast<const anywhere *>(from);
    }

    static LLAMA_CY_INLINE void lift(f32 & top, const f32 & value) { top = LLAMA_CY_CHOICE(value > top, value, top); }

    static LLAMA_CY_INLINE float highest_of(const f32 & value) {
        if constexpr (Bytes > 16) {
            typename vec<Bytes / 2>::f32 halves[2];
            std::memcpy(halves, &value, Bytes);
            vec<Bytes / 2>::lift(halves[0], halves[1]);
            return vec<Bytes / 2>::highest_of(halves[0]);
        } else {
            const float left = value[0] > value[1] ? value[0] : value[1];
            const float right = value[2] > value[3] ? value[2] : value[3];
            return left > right ? left : right;
        }
    }

    static LLAMA_CY_INLINE bool any(const i32 & mask) {
        uint64_t words[Bytes / 8];
        std::memcpy(words, &mask, Bytes);
        uint64_t found = 0;
        for (const uint64_t word : words) {
            found |= word;
        }
        return found != 0;
    }
};

// So many floats are asked for before they are read: the hardware by itself starts anew with each page of memory.
constexpr size_t ahead = 4096;

// Writes the highest logit of each block; returns whether all are numbers below infinity.
template <int Bytes>
LLAMA_CY_INLINE bool block_maxima(const float * row, size_t n, size_t block, float * maxima) {
    using v = vec<Bytes>;
    const float infinity = std::numeric_limits<float>::infinity();
    typename v::i32 wrong{};
    const size_t n_whole = n / block * block;
    for (size_t at = 0; at < n_whole; at += block) {
        LLAMA_CY_PREFETCH(row + at + ahead);
        typename v::f32 top = v::load(row + at);
        typename v::f32 other = v::load(row + at + v::width);
        wrong = wrong | ~((top < infinity) & (other < infinity));
        for (size_t i = 2 * v::width; i < block; i += 2 * v::width) {
            LLAMA_CY_PREFETCH(row + at + i + ahead);
            const typename v::f32 one = v::load(row + at + i);
            const typename v::f32 two = v::load(row + at + i + v::width);
            v::lift(top, one);
            v::lift(other, two);
            wrong = wrong | ~((one < infinity) & (two < infinity));
        }
        v::lift(top, other);
        *maxima++ = v::highest_of(top);
    }
    bool numbers = !v::any(wrong);
    if (n_whole < n) {
        float top = -infinity;
        for (size_t i = n_whole; i < n; ++i) {
            numbers &= row[i] < infinity;
            top = row[i] > top ? row[i] : top;
        }
        *maxima = top;
    }
    return numbers;
}

// The lowest and the highest of some numbers.
template <int Bytes> LLAMA_CY_INLINE void extremes(const float * values, size_t n, float & lowest, float & highest) {
    using v = vec<Bytes>;
    lowest = highest = values[0];
    size_t at = 0;
    if (n >= v::width) {
        typename v::f32 top = v::load(values);
        typename v::f32 bottom = -top;
        for (; at + v::width <= n; at += v::width) {
            const typename v::f32 some = v::load(values + at);
            v::lift(top, some);
            v::lift(bottom, -some);
        }
        highest = v::highest_of(top);
        lowest = -v::highest_of(bottom);
    }
    for (; at < n; ++at) {
        highest = values[at] > highest ? values[at] : highest;
        lowest = values[at] < lowest ? values[at] : lowest;
    }
}

// How many values are not below the threshold.
template <int Bytes> LLAMA_CY_INLINE size_t count_from(const float * values, size_t n, float threshold) {
    using v = vec<Bytes>;
    typename v::i32 counts{};
    size_t at = 0;
    for (; at + v::width <= n; at += v::width) {
        // True is -1.
        counts = counts - (v::load(values + at) >= threshold);
    }
    size_t count = 0;
    for (size_t i = 0; i < v::width; ++i) {
        count += static_cast<size_t>(counts[i]);
    }
    for (; at < n; ++at) {
        count += values[at] >= threshold;
    }
    return count;
}

// Writes the indices of all logits that are not below the threshold, in order, and returns how many there are.
template <int Bytes>
LLAMA_CY_INLINE size_t pick_out(const float * row, size_t n, size_t block, const float * maxima, float threshold,
                                int32_t * indices) {
    using v = vec<Bytes>;
    constexpr size_t step = 2 * v::width;
    size_t found = 0;
    for (size_t begin = 0; begin < n; begin += block) {
        if (!(*maxima++ >= threshold)) {
            continue;
        }
        const size_t end = begin + block < n ? begin + block : n;
        size_t at = begin;
        for (; at + step <= end; at += step) {
            const auto one = v::load(row + at) >= threshold;
            const auto two = v::load(row + at + v::width) >= threshold;
            if (v::any(one | two)) {
                for (size_t i = at; i < at + step; ++i) {
                    indices[found] = static_cast<int32_t>(i);
                    found += row[i] >= threshold;
                }
            }
        }
        for (; at < end; ++at) {
            indices[found] = static_cast<int32_t>(at);
            found += row[at] >= threshold;
        }
    }
    return found;
}

// The sum of exp(logit - highest). Beyond -87 a float would be denormal, and counts for nothing beside exp(0).
template <int Bytes> LLAMA_CY_INLINE double sum_of_exp(const float * row, size_t n, float highest) {
    using v = vec<Bytes>;
    constexpr size_t part = 4096;
    double total = 0;
    size_t at = 0;
    while (at + v::width <= n) {
        typename v::f32 sum{};
        for (const size_t stop = at + part; at + v::width <= n && at < stop; at += v::width) {
            const typename v::f32 x = v::load(row + at) - highest;
            const typename v::i32 counts = x > -87.0f;
            typename v::f32 scaled = LLAMA_CY_CHOICE(counts, x, typename v::f32{}) * 1.44269504f;
            // Adding 1.5 * 2**23 rounds to a whole number, which is then in the lowest bits.
            const typename v::f32 shifted = scaled + 12582912.0f;
            const typename v::f32 whole = shifted - 12582912.0f;
            const typename v::f32 y = (scaled - whole) * 0.693147181f;
            typename v::f32 power = 1.0f + y * (1.0f + y * (0.5f + y * (0.166666667f + y * (0.0416666667f +
                                    y * (0.00833333333f + y * 0.00138888889f)))));
            typename v::i32 bits;
            std::memcpy(&bits, &shifted, Bytes);
            bits = bits << 23;
            typename v::i32 value;
            std::memcpy(&value, &power, Bytes);
            value = (value + bits) & counts;
            std::memcpy(&power, &value, Bytes);
            sum = sum + power;
        }
        for (size_t i = 0; i < v::width; ++i) {
            total += sum[i];
        }
    }
    for (; at < n; ++at) {
        total += std::exp(row[at] - highest);
    }
    return total;
}

// One function for each width, and the choice among them when the program runs.
#define LLAMA_CY_KERNEL(answer, name, parameters, arguments) \
    LLAMA_CY_WIDER(answer, name, parameters, arguments)      \
    inline answer name##_best parameters {                   \
        LLAMA_CY_CHOOSE(name, arguments)                     \
        return name<16> arguments;                           \
    }

#if LLAMA_CY_WIDE
#define LLAMA_CY_WIDER(answer, name, parameters, arguments)                                                 \
    __attribute__((target("avx2,fma"))) inline answer name##_wide parameters { return name<32> arguments; }
#define LLAMA_CY_CHOOSE(name, arguments) \
    if (width() == 32) {                 \
        return name##_wide arguments;    \
    }

// Bytes of the vectors in use; LLAMA_CY_VECTOR_BYTES=16 asks for less than the CPU has. Wider ones than 32 gain
// nothing: memory gives no more.
inline int width() {
    static const int found = [] {
        const char * asked = std::getenv("LLAMA_CY_VECTOR_BYTES");
        const cpu_answers cpu;
        return cpu.avx2() && cpu.fma() && (asked == nullptr || std::atoi(asked) != 16) ? 32 : 16;
    }();
    return found;
}
#else
#define LLAMA_CY_WIDER(answer, name, parameters, arguments)
#define LLAMA_CY_CHOOSE(name, arguments)
#endif

LLAMA_CY_KERNEL(bool, block_maxima, (const float * row, size_t n, size_t block, float * maxima),
                (row, n, block, maxima))
LLAMA_CY_KERNEL(size_t, pick_out,
                (const float * row, size_t n, size_t block, const float * maxima, float threshold, int32_t * indices),
                (row, n, block, maxima, threshold, indices))
LLAMA_CY_KERNEL(void, extremes, (const float * values, size_t n, float & lowest, float & highest),
                (values, n, lowest, highest))
LLAMA_CY_KERNEL(size_t, count_from, (const float * values, size_t n, float threshold), (values, n, threshold))
LLAMA_CY_KERNEL(double, sum_of_exp, (const float * row, size_t n, float highest), (row, n, highest))

}  // namespace simd
}  // namespace llama_cy
