// Which instruction sets this CPU and this system support, of those that something is chosen by. The compilers' own
// question, __builtin_cpu_supports, is answered by libgcc only.
#pragma once

#include <algorithm>
#include <cstddef>

#if defined(__x86_64__) || defined(_M_X64)
#define LLAMA_CY_X86_64 1
#ifdef _MSC_VER
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace llama_cy {

struct cpu_feature {
    const char * name;
    bool present;
};

template <std::size_t N> int copy_features(const cpu_feature (&all)[N], cpu_feature * out) {
    std::copy(all, all + N, out);
    return static_cast<int>(N);
}

#ifdef LLAMA_CY_X86_64

// The answers of the CPU, and the registers that the system saves when it changes threads.
class cpu_answers {
  public:
    cpu_answers() {
        ask(1, 0, one_);
        unsigned int seven[4];
        ask(7, 0, seven);
        ebx_ = seven[1];
        ecx_ = seven[2];
        edx_ = seven[3];
        if (seven[0] >= 1) {
            ask(7, 1, seven);
            later_ = seven[0];
        }
        const unsigned long long saved = bit(one_[2], 27) ? saved_registers() : 0;
        ymm_ = (saved & 0x6) == 0x6;
        zmm_ = (saved & 0xe6) == 0xe6;
        tiles_ = (saved & 0x60000) == 0x60000;
    }

    bool sse42() const { return bit(one_[2], 20); }
    bool avx() const { return ymm_ && bit(one_[2], 28); }
    bool f16c() const { return avx() && bit(one_[2], 29); }
    bool fma() const { return avx() && bit(one_[2], 12); }
    bool avx2() const { return avx() && bit(ebx_, 5); }
    bool bmi2() const { return bit(ebx_, 8); }
    bool avx512f() const { return zmm_ && avx2() && bit(ebx_, 16); }
    // Those behind avx512f, by their bits.
    bool avx512_ebx(int number) const { return avx512f() && bit(ebx_, number); }
    bool avx512_ecx(int number) const { return avx512f() && bit(ecx_, number); }
    bool avx512_bf16() const { return avx512f() && bit(later_, 5); }
    bool amx_tile() const { return tiles_ && bit(edx_, 24); }
    bool amx_int8() const { return amx_tile() && bit(edx_, 25); }

  private:
    static bool bit(unsigned int word, int number) { return (word >> number & 1) != 0; }

    static void ask(unsigned int leaf, unsigned int part, unsigned int (&out)[4]) {
#ifdef _MSC_VER
        int found[4], last[4];
        __cpuid(last, 0);
        __cpuidex(found, static_cast<int>(leaf), static_cast<int>(part));
        for (int i = 0; i < 4; i++) {
            out[i] = static_cast<unsigned int>(last[0]) >= leaf ? static_cast<unsigned int>(found[i]) : 0;
        }
#else
        out[0] = out[1] = out[2] = out[3] = 0;
        __get_cpuid_count(leaf, part, &out[0], &out[1], &out[2], &out[3]);
#endif
    }

    static unsigned long long saved_registers() {
#ifdef _MSC_VER
        return _xgetbv(0);
#else
        unsigned int low, high;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        return static_cast<unsigned long long>(high) << 32 | low;
#endif
    }

    unsigned int one_[4];
    unsigned int ebx_ = 0, ecx_ = 0, edx_ = 0, later_ = 0;
    bool ymm_ = false, zmm_ = false, tiles_ = false;
};

inline int cpu_features(cpu_feature * out) {
    const cpu_answers cpu;
    const cpu_feature all[] = {
        {"sse4.2", cpu.sse42()}, {"avx", cpu.avx()}, {"f16c", cpu.f16c()}, {"fma", cpu.fma()},
        {"avx2", cpu.avx2()}, {"bmi2", cpu.bmi2()}, {"avx512f", cpu.avx512f()}, {"avx512dq", cpu.avx512_ebx(17)},
        {"avx512cd", cpu.avx512_ebx(28)}, {"avx512bw", cpu.avx512_ebx(30)}, {"avx512vl", cpu.avx512_ebx(31)},
        {"avx512vbmi", cpu.avx512_ecx(1)}, {"avx512vnni", cpu.avx512_ecx(11)}, {"avx512bf16", cpu.avx512_bf16()},
        {"amx_tile", cpu.amx_tile()}, {"amx_int8", cpu.amx_int8()},
    };
    return copy_features(all, out);
}

#elif defined(__aarch64__) && defined(__linux__)

inline int cpu_features(cpu_feature * out) {
    const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
    const cpu_feature all[] = {
        {"dotprod", (first & HWCAP_ASIMDDP) != 0}, {"fp16", (first & HWCAP_ASIMDHP) != 0},
        {"sve", (first & HWCAP_SVE) != 0}, {"i8mm", (second & HWCAP2_I8MM) != 0},
    };
    return copy_features(all, out);
}

#else

inline int cpu_features(cpu_feature *) {
    return 0;
}

#endif

}  // namespace llama_cy
