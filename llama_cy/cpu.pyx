"""What this CPU can do, asked before any of llama.cpp is loaded: this module links and calls nothing of it."""

cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__linux__)
    #define LLAMA_CY_HAS(feature) { feature, __builtin_cpu_supports(feature) }
    struct llama_cy_feature { const char * name; int present; };
    static int llama_cy_features(llama_cy_feature * out) {
        __builtin_cpu_init();
        const llama_cy_feature all[] = {
            LLAMA_CY_HAS("sse4.2"), LLAMA_CY_HAS("avx"), LLAMA_CY_HAS("f16c"), LLAMA_CY_HAS("fma"),
            LLAMA_CY_HAS("avx2"), LLAMA_CY_HAS("bmi2"), LLAMA_CY_HAS("avx512f"), LLAMA_CY_HAS("avx512cd"),
            LLAMA_CY_HAS("avx512vl"), LLAMA_CY_HAS("avx512dq"), LLAMA_CY_HAS("avx512bw"),
            LLAMA_CY_HAS("avx512vbmi"), LLAMA_CY_HAS("avx512vnni"), LLAMA_CY_HAS("avx512bf16"),
        };
        int n = 0;
        for (const auto & feature : all) { out[n++] = feature; }
        return n;
    }
    #elif defined(__aarch64__) && defined(__linux__)
    #include <sys/auxv.h>
    #include <asm/hwcap.h>
    struct llama_cy_feature { const char * name; int present; };
    static int llama_cy_features(llama_cy_feature * out) {
        const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
        const llama_cy_feature all[] = {
            { "dotprod", (first & HWCAP_ASIMDDP) != 0 }, { "fp16", (first & HWCAP_ASIMDHP) != 0 },
            { "sve", (first & HWCAP_SVE) != 0 }, { "i8mm", (second & HWCAP2_I8MM) != 0 },
        };
        int n = 0;
        for (const auto & feature : all) { out[n++] = feature; }
        return n;
    }
    #else
    struct llama_cy_feature { const char * name; int present; };
    static int llama_cy_features(llama_cy_feature *) { return 0; }
    #endif
    """
    struct llama_cy_feature:
        const char * name
        int present
    int llama_cy_features(llama_cy_feature * out) nogil


def features():
    """Return the instruction sets that this CPU and this system support, of those that matter here.

    Returns
    -------
    frozenset of str
        As compilers call them: ``avx2``, ``avx512f``, ``dotprod``; empty where nothing is chosen by them.
    """
    cdef llama_cy_feature found[32]
    cdef int n = llama_cy_features(found)
    return frozenset(found[i].name.decode() for i in range(n) if found[i].present)
