/* The product of matrices by the processor's matrix unit (AMX), whose registers are tiles of
 * 16 rows of 64 bytes: of sums, of rows of pairs, or of pairs of rows.
 */

#pragma once

#include "arithmetic.h"

enum { AMX_SIDE = 16, AMX_ROWS = 2 * AMX_SIDE };

struct TileShapes { /* as LDTILECFG reads it */
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

#if AMX
#include <sys/syscall.h>
#include <unistd.h>

/* Linux hands the unit out on request, once for a process. */
static int amx_granted(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

/* All eight registers whole, in this thread; and what they were before, as others left them. */
static struct TileShapes amx_begin(void) {
    struct TileShapes before, whole = {.palette = 1};
    for (int i = 0; i < 8; i++) whole.rows[i] = AMX_SIDE, whole.row_bytes[i] = 64;
    __asm__ volatile("sttilecfg %0" : "=m"(before)); /* intrinsics hide the bytes from GCC */
    __asm__ volatile("ldtilecfg %0" : : "m"(whole));
    return before;
}

static void amx_end(const struct TileShapes *before) {
    __asm__ volatile("ldtilecfg %0" : : "m"(*before));
}

/* GCC does not know that a tile is read from memory: what was written before stands before. */
static inline void amx_barrier(void) { __asm__ volatile("" : : : "memory"); }

/* What `multiply` in product.h does, for AMX_ROWS rows, an even number of vectors and a depth of
 * whole tiles. Two rows of two tiles of sums: each operand that is loaded serves twice.
 */
static void amx_multiply(int64_t vectors, int64_t depth, const unit *left, int64_t left_step,
                         const unit *right, int64_t right_step, const float *bias, float *out,
                         int64_t out_step, int add) {
    const unit *below = left + AMX_SIDE * left_step;
    amx_barrier();
    for (int64_t v = 0; v < vectors; v += 2) {
        float *at = out + v * LANES, *at_below = at + AMX_SIDE * out_step;
        if (bias) {
            _tile_loadd(0, bias + v * LANES, 0);
            _tile_loadd(1, bias + (v + 1) * LANES, 0);
            _tile_loadd(2, bias + v * LANES, 0);
            _tile_loadd(3, bias + (v + 1) * LANES, 0);
        } else if (add) {
            _tile_loadd(0, at, out_step * sizeof(unit));
            _tile_loadd(1, at + LANES, out_step * sizeof(unit));
            _tile_loadd(2, at_below, out_step * sizeof(unit));
            _tile_loadd(3, at_below + LANES, out_step * sizeof(unit));
        } else {
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
        }
        for (int64_t d = 0; d < depth; d += AMX_SIDE) {
            const unit *operand = right + d * right_step + v * LANES;
            _tile_loadd(4, left + d, left_step * sizeof(unit));
            _tile_loadd(6, operand, right_step * sizeof(unit));
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, operand + LANES, right_step * sizeof(unit));
            _tile_dpbf16ps(1, 4, 7);
            _tile_loadd(5, below + d, left_step * sizeof(unit));
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(0, at, out_step * sizeof(unit));
        _tile_stored(1, at + LANES, out_step * sizeof(unit));
        _tile_stored(2, at_below, out_step * sizeof(unit));
        _tile_stored(3, at_below + LANES, out_step * sizeof(unit));
    }
    amx_barrier();
}
#else
static int amx_granted(void) { return 0; }
static struct TileShapes amx_begin(void) { return (struct TileShapes){0}; }
static void amx_end(const struct TileShapes *before) { (void)before; }
#define amx_multiply(...)
#endif
