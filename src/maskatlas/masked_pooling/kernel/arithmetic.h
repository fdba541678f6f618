/* Vectors as wide as the processor's, bfloat16, and the sigmoid. */

#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include <immintrin.h>
#define AVX512 1
#else
#define AVX512 0
#endif
#if AVX512 && defined(__AVX512BF16__)
#define DOT 1
#else
#define DOT 0
#endif
#if DOT && defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__linux__)
#define AMX 1
#else
#define AMX 0
#endif

/* ROWS x VECTORS sums, VECTORS operands and a broadcast fit the registers: see product.h. */
#if AVX512
enum { LANES = 16, VECTORS = 4 };
#elif defined(__AVX__)
enum { LANES = 8, VECTORS = 2 };
#elif defined(__aarch64__)
enum { LANES = 4, VECTORS = 4 };
#else
enum { LANES = 4, VECTORS = 2 };
#endif
enum { ROWS = 6, WIDTH = LANES * VECTORS, LINE = 16 /* units of 32 bits */ };

#define INLINE static inline __attribute__((always_inline))
typedef float vector __attribute__((vector_size(LANES * 4), may_alias));
typedef int32_t integers __attribute__((vector_size(LANES * 4), may_alias));
typedef uint32_t unit; /* a float, or a pair of bfloat16 */

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
INLINE int64_t parts(int64_t whole, int64_t part) { return (whole + part - 1) / part; }
INLINE int64_t round_up(int64_t n, int64_t step) { return parts(n, step) * step; }

/* A row length in units such that successive rows start in different sets of the cache. */
INLINE int64_t spread(int64_t units) { return (parts(units, LINE) | 1) * LINE; }

INLINE float from_bfloat16(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

INLINE uint16_t to_bfloat16(float value) { /* to nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded); /* not a number */
}

INLINE unit pair_of(float first, float second) {
    return (unit)to_bfloat16(first) | (unit)to_bfloat16(second) << 16;
}

INLINE vector load(const float *from) { return *(const vector *)from; }
INLINE void store(float *to, vector value) { *(vector *)to = value; }
INLINE vector all(float value) { return value - (vector){0}; }

#define MINUS_LOG2_E (-0x1.715476p+0f)

/* 1 / (1 + 2^x): the sigmoid of z for x = -z log2 e. Not a number stays so.
 *
 * 2^x is a polynomial of the fraction x - floor(x), fitted by least squares reweighted to minimax;
 * relative error 1.5e-7, or 3e-6 where `coarse`, the reciprocal 6e-8 or 6e-5: bfloat16 brings 2e-3.
 */
#if AVX512
INLINE vector sigmoid(const int coarse, vector x) {
    if (!coarse) x = (vector)_mm512_min_ps(_mm512_set1_ps(126), (__m512)x);
    vector whole = (vector)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEG_INF);
    vector fraction = x - whole; /* vreduceps is no faster, and on Zen 4 very slow from memory */
    vector power;
    if (coarse) {
        power = all(0x1.bb7cd4p-7f) * fraction + 0x1.aa13f2p-5f;
        power = power * fraction + 0x1.ee798ap-3f;
        power = power * fraction + 0x1.62d166p-1f;
        power = power * fraction + 0x1.00002cp+0f;
    } else {
        power = all(0x1.ec320ap-10f) * fraction + 0x1.26900ep-7f;
        power = power * fraction + 0x1.c95446p-5f;
        power = power * fraction + 0x1.ebd5a8p-3f;
        power = power * fraction + 0x1.62e4f6p-1f;
        power = power * fraction + 0x1.fffffep-1f;
    }
    vector divisor = 1 + (vector)_mm512_scalef_ps((__m512)power, (__m512)whole);
    vector inverse = (vector)_mm512_rcp14_ps((__m512)divisor);
    if (!coarse) inverse *= 2 - divisor * inverse;
    return inverse;
}
#else
INLINE vector sigmoid(const int coarse, vector x) {
    (void)coarse;
    integers high = x > 126, low = x < -126;
    x = (vector)((high & (integers)all(126)) | (low & (integers)all(-126)) |
                 (~(high | low) & (integers)x));
    vector shifted = x + 0x1.8p23f; /* rounds, and leaves the whole number in the low bits */
    vector whole = shifted - 0x1.8p23f, fraction = x - whole;
    vector scale = (vector)(((integers)shifted + 127) << 23);
    vector power = all(0x1.5c08e6p-10f) * fraction + 0x1.3d0c54p-7f; /* for fractions around 0 */
    power = power * fraction + 0x1.c6b6e4p-5f;
    power = power * fraction + 0x1.ebf918p-3f;
    power = power * fraction + 0x1.62e428p-1f;
    power = power * fraction + 0x1.000002p+0f;
    return 1 / (1 + scale * power);
}
#endif
