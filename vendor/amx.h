// Included before every C++ file of llama.cpp.
// GCC before 14 (and before 12.4 and 13.3) reads 8 of the 64 bytes at ldtilecfg's operand, so it drops the stores to the
// others: ggml's first product by AMX ended the process. https://gcc.gnu.org/bugzilla/show_bug.cgi?id=114098
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 14
// This header alone: all of immintrin.h takes each file a quarter of a second.
#define _IMMINTRIN_H_INCLUDED
#include <amxtileintrin.h>
#undef _IMMINTRIN_H_INCLUDED
#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg\t%X0" ::"m"(*(const char(*)[64])(config)))
#endif
