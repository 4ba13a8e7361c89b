"""What this CPU can do, asked before any of llama.cpp is loaded: this module links and calls nothing of it."""

cdef extern from "kernels/cpu_features.h" namespace "llama_cy":
    struct cpu_feature:
        const char * name
        bint present
    int cpu_features(cpu_feature * out) nogil


def features():
    """Return the instruction sets that this CPU and this system support, of those that matter here.

    Returns
    -------
    frozenset of str
        As compilers call them: ``avx2``, ``avx512f``, ``dotprod``; empty where nothing is chosen by them.
    """
    cdef cpu_feature found[32]
    cdef int n = cpu_features(found)
    return frozenset(found[i].name.decode() for i in range(n) if found[i].present)
