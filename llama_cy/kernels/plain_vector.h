// Vectors for a compiler that has none of its own, such as MSVC: what simd.h asks of GCC's, element by element.
#pragma once

#include <cstddef>
#include <cstdint>

namespace llama_cy {
namespace simd {

template <typename T, size_t N> struct plain_vector {
    T at[N];

    T & operator[](size_t i) { return at[i]; }
    const T & operator[](size_t i) const { return at[i]; }

    template <typename Call> static plain_vector each(Call call) {
        plain_vector made;
        for (size_t i = 0; i < N; ++i) {
            made.at[i] = call(i);
        }
        return made;
    }
};

// Between two vectors, and with the same number for each element.
#define LLAMA_CY_OPERATOR(op)                                                                                  \
    template <typename T, size_t N>                                                                            \
    inline plain_vector<T, N> operator op(const plain_vector<T, N> & a, const plain_vector<T, N> & b) {        \
        return plain_vector<T, N>::each([&](size_t i) { return static_cast<T>(a[i] op b[i]); });               \
    }                                                                                                          \
    template <typename T, size_t N> inline plain_vector<T, N> operator op(const plain_vector<T, N> & a, T b) { \
        return plain_vector<T, N>::each([&](size_t i) { return static_cast<T>(a[i] op b); });                  \
    }                                                                                                          \
    template <typename T, size_t N> inline plain_vector<T, N> operator op(T a, const plain_vector<T, N> & b) { \
        return plain_vector<T, N>::each([&](size_t i) { return static_cast<T>(a op b[i]); });                  \
    }

// A comparison gives all bits or none.
#define LLAMA_CY_COMPARISON(op)                                                                                       \
    template <size_t N>                                                                                               \
    inline plain_vector<int32_t, N> operator op(const plain_vector<float, N> & a, const plain_vector<float, N> & b) { \
        return plain_vector<int32_t, N>::each([&](size_t i) { return a[i] op b[i] ? -1 : 0; });                       \
    }                                                                                                                 \
    template <size_t N> inline plain_vector<int32_t, N> operator op(const plain_vector<float, N> & a, float b) {      \
        return plain_vector<int32_t, N>::each([&](size_t i) { return a[i] op b ? -1 : 0; });                          \
    }

LLAMA_CY_OPERATOR(+)
LLAMA_CY_OPERATOR(-)
LLAMA_CY_OPERATOR(*)
LLAMA_CY_OPERATOR(&)
LLAMA_CY_OPERATOR(|)
LLAMA_CY_COMPARISON(<)
LLAMA_CY_COMPARISON(>)
LLAMA_CY_COMPARISON(>=)

template <size_t N> inline plain_vector<float, N> operator-(const plain_vector<float, N> & a) {
    return plain_vector<float, N>::each([&](size_t i) { return -a[i]; });
}

template <size_t N> inline plain_vector<int32_t, N> operator~(const plain_vector<int32_t, N> & a) {
    return plain_vector<int32_t, N>::each([&](size_t i) { return ~a[i]; });
}

template <size_t N> inline plain_vector<int32_t, N> operator<<(const plain_vector<int32_t, N> & a, int bits) {
    return plain_vector<int32_t, N>::each(
        [&](size_t i) { return static_cast<int32_t>(static_cast<uint32_t>(a[i]) << bits); });
}

template <size_t N>
inline plain_vector<float, N> choice(const plain_vector<int32_t, N> & mask, const plain_vector<float, N> & one,
                                     const plain_vector<float, N> & other) {
    return plain_vector<float, N>::each([&](size_t i) { return mask[i] != 0 ? one[i] : other[i]; });
}

}  // namespace simd
}  // namespace llama_cy
