/* The product of matrices, block by block of what the registers hold. */

#pragma once

#include "amx.h"

INLINE vector multiply_add(const int dot, unit left, vector right, vector sum) {
#if DOT
    if (dot)
        return (vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)left),
                                        (__m512bh)right);
#endif
    (void)dot;
    float value;
    memcpy(&value, &left, 4);
    return sum + all(value) * right;
}

/* out[row, column] = sum over depth of left[row, depth] right[depth, column], plus bias[column] if
 * there is one, plus what stood there if `add`.
 * `across`: the rows of left lie side by side, its depth left_step apart; else the other way. */
INLINE void multiply(const int dot, const int across, const int rows, const int vectors,
                     int64_t depth, const unit *left, int64_t left_step, const unit *right,
                     int64_t right_step, const float *bias, float *out, int64_t out_step, int add) {
    vector sum[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) sum[r][v] = bias ? load(bias + v * LANES) : all(0);
    for (int64_t d = 0; d < depth; d++) {
        vector operand[VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            operand[v] = load((const float *)(right + d * right_step + v * LANES));
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            unit value = across ? left[d * left_step + r] : left[r * left_step + d];
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                sum[r][v] = multiply_add(dot, value, operand[v], sum[r][v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            float *to = out + r * out_step + v * LANES;
            if (add) sum[r][v] += load(to);
            store(to, sum[r][v]);
        }
}

typedef void Multiply(int64_t depth, const unit *left, int64_t left_step, const unit *right,
                      int64_t right_step, const float *bias, float *out, int64_t out_step,
                      int add);

#define NAME(dot, across, rows, vectors) multiply_##dot##across##rows##vectors
#define DEFINE(dot, across, rows, vectors)                                                        \
    static void NAME(dot, across, rows, vectors)(                                                 \
        int64_t depth, const unit *left, int64_t left_step, const unit *right,                    \
        int64_t right_step, const float *bias, float *out, int64_t out_step, int add) {           \
        multiply(dot, across, rows, vectors, depth, left, left_step, right, right_step, bias,     \
                 out, out_step, add);                                                             \
    }
#if AVX512 || defined(__aarch64__)
#define EACH_WIDTH(dot, across, rows)                                                             \
    DEFINE(dot, across, rows, 1) DEFINE(dot, across, rows, 2) DEFINE(dot, across, rows, 3)        \
    DEFINE(dot, across, rows, 4)
#define WIDTHS(dot, across, rows)                                                                 \
    { NAME(dot, across, rows, 1), NAME(dot, across, rows, 2), NAME(dot, across, rows, 3),         \
      NAME(dot, across, rows, 4) }
#else
#define EACH_WIDTH(dot, across, rows) DEFINE(dot, across, rows, 1) DEFINE(dot, across, rows, 2)
#define WIDTHS(dot, across, rows) { NAME(dot, across, rows, 1), NAME(dot, across, rows, 2) }
#endif
#define EACH_HEIGHT(dot, across)                                                                  \
    EACH_WIDTH(dot, across, 2) EACH_WIDTH(dot, across, 4) EACH_WIDTH(dot, across, 6)
#define HEIGHTS(dot, across)                                                                      \
    { WIDTHS(dot, across, 2), WIDTHS(dot, across, 4), WIDTHS(dot, across, 6) }

EACH_HEIGHT(0, 0)
EACH_HEIGHT(0, 1)
#if DOT
EACH_HEIGHT(1, 0)
EACH_HEIGHT(1, 1)
static Multiply *const BLOCKS[2][2][ROWS / 2][VECTORS] = {{HEIGHTS(0, 0), HEIGHTS(0, 1)},
                                                          {HEIGHTS(1, 0), HEIGHTS(1, 1)}};
#else
static Multiply *const BLOCKS[1][2][ROWS / 2][VECTORS] = {{HEIGHTS(0, 0), HEIGHTS(0, 1)}};
#endif

/* Whose block it is: the matrix unit's, or of registers that hold vectors. */
INLINE void multiply_block(int amx, int dot, int across, int64_t rows, int64_t vectors,
                           int64_t depth, const unit *left, int64_t left_step, const unit *right,
                           int64_t right_step, const float *bias, float *out, int64_t out_step,
                           int add) {
    if (amx) {
        amx_multiply(vectors, depth, left, left_step, right, right_step, bias, out, out_step, add);
        return;
    }
    BLOCKS[dot][across][rows / 2 - 1][vectors - 1](depth, left, left_step, right, right_step, bias,
                                                   out, out_step, add);
}

/* A right operand in panels of WIDTH columns, each contiguous; the last may be narrower. */
struct Panel {
    int64_t first, vectors, width;
};

INLINE struct Panel panel_at(int64_t first, int64_t columns) {
    int64_t width = smaller(WIDTH, columns - first);
    return (struct Panel){first, width / LANES, width};
}
