/* What every binary has once: the CPU's level, and the little of C's library that kernels use. */
#include "tables.h"

#if defined(_WIN32) || defined(__APPLE__)
#include <string.h>
#else
__attribute__((visibility("hidden"))) void *memset(void *to, int value, size_t n) {
#if defined(__x86_64__)
    void *at = to;
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(n) : "a"(value) : "memory");
#elif defined(__wasm__)
    __asm__ volatile("local.get %0\nlocal.get %1\nlocal.get %2\nmemory.fill 0" : : "r"(to), "r"(value), "r"(n) : "memory");
#else
    for (char *at = to; n--;)
        *at++ = (char)value;
#endif
    return to;
}

__attribute__((visibility("hidden"))) void *memcpy(void *restrict to, const void *restrict from, size_t n) {
#if defined(__x86_64__)
    void *at = to;
    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(n) : : "memory");
#elif defined(__wasm__)
    __asm__ volatile("local.get %0\nlocal.get %1\nlocal.get %2\nmemory.copy 0, 0" : : "r"(to), "r"(from), "r"(n) : "memory");
#else
    const char *source = from;
    for (char *at = to; n--;)
        *at++ = *source++;
#endif
    return to;
}
#endif

#ifdef __x86_64__

/* With BFLOAT16 the first level is x86-64-v4 with AVX512-BF16. */
#ifdef BFLOAT16
enum { V4_BFLOAT16, V4, V3, V2, UNSUPPORTED };
#else
enum { V4, V3, V2, UNSUPPORTED };
#endif

static void cpuid(uint32_t leaf, uint32_t part, uint32_t r[4]) {
    __asm__("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(part));
}

/* The best level of this processor and its system. Source: x86-64 psABI, table of micro-architecture levels. */
static int best_level(void) {
    uint32_t top[4], one[4], seven[4] = {0}, extended[4] = {0}, low = 0, high;
    cpuid(0, 0, top);
    cpuid(1, 0, one);
    if (top[0] >= 7)
        cpuid(7, 0, seven);
    cpuid(0x80000001, 0, extended);
    /* cx16, popcnt, sse3, sse4.1, sse4.2, ssse3; lahf */
    const uint32_t v2 = 1u << 13 | 1u << 23 | 1u << 0 | 1u << 19 | 1u << 20 | 1u << 9;
    if ((one[2] & v2) != v2 || !(extended[2] & 1))
        return UNSUPPORTED;
    /* fma, movbe, osxsave, avx, f16c; bmi1, avx2, bmi2; lzcnt */
    const uint32_t v3 = 1u << 12 | 1u << 22 | 1u << 27 | 1u << 28 | 1u << 29, v3_7 = 1u << 3 | 1u << 5 | 1u << 8;
    if ((one[2] & v3) != v3 || (seven[1] & v3_7) != v3_7 || !(extended[2] & 1u << 5))
        return V2;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 6) != 6)
        return V2;
    /* avx512 f, dq, cd, bw, vl */
    const uint32_t v4 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;
    if ((seven[1] & v4) != v4 || (low & 0xe6) != 0xe6)
        return V3;
#ifdef BFLOAT16
    uint32_t more[4] = {0};
    if (seven[0] >= 1)
        cpuid(7, 1, more);
    if (more[0] & 1u << 5)
        return V4_BFLOAT16;
#endif
    return V4;
}

/* The number in the name of a level (5 with AVX512-BF16), and the level of a number: the best one if it has none. */
static inline int number_of(int level) {
    return V2 + 2 - level;
}

static int level_of(int number) {
    int best = best_level(), wanted = V2 + 2 - number;
    return number >= 2 && number <= V2 + 2 && wanted > best ? wanted : best;
}

#else

enum { ONLY, UNSUPPORTED };

static inline int number_of(int level) {
    return level + 1;
}

static int level_of(int number) {
    (void)number;
    return ONLY;
}

#endif
