/* Gradients of a tile, with its masks computed again. */

#pragma once

#include "forward.h"

/* Keep t of one vector of channels and two rows as an operand of both products. */
INLINE void store_slopes(const int dot, vector first, vector second, unit *row, unit *next_row,
                         unit *pairs) {
#if DOT
    if (dot) {
        static const uint16_t interleaved[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                 21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
        __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
        _mm256_store_si256((__m256i *)row, _mm512_castsi512_si256(both));
        _mm256_store_si256((__m256i *)next_row, _mm512_extracti64x4_epi64(both, 1));
        _mm512_store_si512(pairs,
                           _mm512_permutexvar_epi16(_mm512_loadu_si512(interleaved), both));
        return;
    }
#endif
    (void)dot, (void)pairs;
    store((float *)row, first);
    store((float *)next_row, second);
}

/* What arrives at p and q of two rows: [vector 2 LANES] each. */
struct Arriving {
    const float *row, *next_row;
};

/* From the masks of `count` rows at which the same arrives, two by two: their share of df, of db,
 * and t, which may take the masks' place. `fresh`: the masks are logits still, and the part of df
 * that knows no mask is there already.
 */
INLINE void slopes(const int dot, const int fresh, const struct Call *call, struct Tile *tile,
                   struct Panel panel, int64_t r, int64_t place, int64_t count,
                   struct Arriving by, const float *masks, int64_t mask_step, float *feature_sums,
                   vector *bias_sums) {
    int64_t step = call->row, packed = call->packed_row, units = dot ? LANES / 2 : LANES;
    vector offset = all((float)call->problem->offset);
    const float *features = tile->features + r * step + panel.first;
    float *sums = feature_sums + r * step + panel.first;
    unit *rows = tile->slope_rows + place * packed + panel.first / LANES * units;
    unit *pairs = dot ? tile->slope_pairs + place / 2 * step + panel.first : NULL;
    for (int64_t v = 0; v < panel.vectors; v++) {
        vector by_pooled[2] = {load(by.row), load(by.next_row)};
        vector by_mask[2] = {load(by.row + LANES), load(by.next_row + LANES)};
        vector bias_sum = bias_sums[v];
        for (int64_t i = 0; i < count; i += 2) {
            vector slope[2];
#pragma GCC unroll 2
            for (int s = 0; s < 2; s++) {
                int64_t at = (i + s) * step;
                vector mask = load(masks + (i + s) * mask_step);
                if (fresh) mask = sigmoid(dot, mask);
                slope[s] = (by_pooled[s] * load(features + at) + by_mask[s]) * (mask - mask * mask);
                vector weight = mask;
                if (!fresh) weight += offset;
                store(sums + at, load(sums + at) + by_pooled[s] * weight);
            }
            bias_sum += slope[0] + slope[1];
            store_slopes(dot, slope[0], slope[1], rows + i * packed, rows + (i + 1) * packed,
                         dot ? pairs + i / 2 * step : NULL);
        }
        bias_sums[v] = bias_sum;
        by.row += 2 * LANES, by.next_row += 2 * LANES;
        masks += LANES, features += LANES, sums += LANES;
        rows += units, pairs += dot ? LANES : 0;
    }
}

/* How many rows from r on, two by two, belong to the images that r and the next one belong to. */
INLINE int64_t alike(const struct Tile *tile, int64_t r, int64_t last) {
    const int32_t *image = tile->image;
    int64_t end = r + 2;
    while (end < last && image[end] == image[r] && image[end + 1] == image[r + 1]) end += 2;
    return end - r;
}

/* From the logits of a block. */
static void slopes_of_block(const struct Call *call, struct Tile *tile, struct Panel panel,
                            int64_t slot, int64_t r, int64_t height, float *feature_sums,
                            vector *bias_sums) {
    const float *arriving = call->arriving + slot * (call->problem->images + 1) * 2 * call->columns;
    for (int64_t i = 0, count; i < height; i += count) {
        count = alike(tile, r + i, r + height);
        struct Arriving by = {
            arriving + 2 * (tile->image[r + i] * call->columns + panel.first),
            arriving + 2 * (tile->image[r + i + 1] * call->columns + panel.first),
        };
        const float *block = tile->block + i * WIDTH;
        if (call->dot)
            slopes(1, 1, call, tile, panel, r + i, r + i, count, by, block, WIDTH, feature_sums,
                   bias_sums);
        else
            slopes(0, 1, call, tile, panel, r + i, r + i, count, by, block, WIDTH, feature_sums,
                   bias_sums);
    }
}

/* The part of df that knows no mask, offset x the sum of p over attributes; and dg = 0. */
static void begin_gradients(const struct Call *call, const struct Tile *tile, int64_t count,
                            float *feature_sums, float *guide_sums) {
    const struct Problem *problem = call->problem;
    float scale = (float)problem->offset / (float)problem->positions;
    for (int64_t r = 0; r < count; r++) {
        float *sum = feature_sums + r * call->row;
        if (r && tile->image[r] == tile->image[r - 1]) {
            memcpy(sum, sum - call->row, call->row * 4);
            continue;
        }
        memset(sum, 0, call->row * 4);
        if (tile->image[r] == problem->images) continue;
        const float *from = problem->pooled +
                            tile->image[r] * problem->attributes * call->channels;
        for (int64_t k = 0; k < problem->attributes; k++, from += call->channels)
            for (int64_t c = 0; c < call->channels; c++) sum[c] += scale * from[c];
    }
    if (guide_sums && guide_sums != feature_sums)
        memset(guide_sums, 0, count * call->guide_row * 4);
}

/* Of `rows` rows, whose t begins at `place` and whose mask features begin at `first`:
 * dW_k += t^T g, laid out as [channel guide]; by the matrix unit as [guide channel], which takes
 * its left operand by rows: of the two, the mask features turn once for all attributes.
 */
static void add_weight_gradient(const struct Call *call, const struct Tile *tile, int64_t first,
                                int64_t place, int64_t rows, float *out, int add) {
    int64_t pair = call->dot ? 2 : 1;
    const unit *slopes = tile->slope_pairs + place / pair * call->row;
    if (call->amx) {
        int64_t guide_step = spread(call->tile_rows / 2);
        for (int64_t c = 0; c < call->columns; c += WIDTH)
            for (int64_t g = 0; g < call->guide_columns; g += call->block_rows)
                multiply_block(1, 1, 0, call->block_rows, panel_at(c, call->columns).vectors,
                               rows / 2, tile->guide_pairs + g * guide_step + first / 2,
                               guide_step, slopes + c, call->row, NULL,
                               out + g * call->columns + c, call->columns, add);
        return;
    }
    const unit *guides = tile->guide_pairs + first / pair * call->guide_row;
    int64_t depth = rows / pair, even = round_up(call->channels, 2);
    for (int64_t g = 0; g < call->guide_columns; g += WIDTH) {
        struct Panel panel = panel_at(g, call->guide_columns);
        for (int64_t c = 0, height; c < even; c += height) {
            height = smaller(ROWS, even - c);
            multiply_block(0, call->dot, 1, height, panel.vectors, depth, slopes + c, call->row,
                           guides + g, call->guide_row, NULL,
                           out + c * call->guide_columns + g, call->guide_columns, add);
        }
    }
}

/* dg += t W_k, of `rows` rows whose t begins at `place`. */
static void add_guide_gradient(const struct Call *call, const struct Tile *tile, int64_t slot,
                               int64_t place, int64_t rows, float *out) {
    for (int64_t g = 0; g < call->guide_columns; g += WIDTH) {
        struct Panel panel = panel_at(g, call->guide_columns);
        const unit *right = call->weights_back + call->depth * (slot * call->guide_columns + g);
        for (int64_t r = 0, height; r < rows; r += height) {
            height = smaller(call->block_rows, rows - r);
            const unit *left = tile->slope_rows + (place + r) * call->packed_row;
            multiply_block(call->amx, call->dot, 0, height, panel.vectors, call->depth, left,
                           call->packed_row, right, panel.width, NULL,
                           out + r * call->guide_row + g, call->guide_row, 1);
        }
    }
}

static void backward_attribute(const struct Call *call, struct Tile *tile, int64_t slot,
                               int64_t rows, float *feature_sums, float *guide_sums,
                               int64_t segment, int add) {
    int64_t part = segment * call->chunk + slot;
    float *bias_part = call->bias_parts + part * call->columns;
    for (int64_t column = 0; column < call->columns; column += WIDTH) {
        struct Panel panel = panel_at(column, call->columns);
        vector bias_sums[VECTORS];
        memset(bias_sums, 0, sizeof bias_sums);
        for (int64_t r = 0, height; r < rows; r += height) {
            height = logits(call, tile, panel, slot, r, rows);
            slopes_of_block(call, tile, panel, slot, r, height, feature_sums, bias_sums);
        }
        for (int64_t v = 0; v < panel.vectors; v++) {
            float *sum = bias_part + column + v * LANES;
            if (add) bias_sums[v] += load(sum);
            store(sum, bias_sums[v]);
        }
    }
    if (call->weight_parts)
        add_weight_gradient(call, tile, 0, 0, rows,
                            call->weight_parts + part * call->slab, add);
    if (guide_sums) add_guide_gradient(call, tile, slot, 0, rows, guide_sums);
}

static void backward_task(const struct Call *call, struct Tile *tile, int64_t chunk_first,
                          int64_t chunk_count, int64_t segment) {
    const struct Problem *problem = call->problem;
    int64_t start = segment * call->segment_rows;
    int64_t stop = smaller(start + call->segment_rows, problem->images * problem->positions);
    int begins = chunk_first == 0, ends = chunk_first + chunk_count == problem->attributes;
    int64_t tiles = parts(stop - start, call->tile_rows);
    int64_t tile_rows = round_up(parts(stop - start, tiles), call->block_rows);
    for (int64_t first = start; first < stop; first += tile_rows) {
        int64_t count = smaller(tile_rows, stop - first);
        int64_t rows = read_tile(call, tile, first, count);
        float *feature_sums = call->feature_sums + first * call->row;
        float *guide_sums = call->guide_sums ? call->guide_sums + first * call->guide_row : NULL;
        if (begins) begin_gradients(call, tile, rows, feature_sums, guide_sums);
        for (int64_t slot = 0; slot < chunk_count; slot++)
            backward_attribute(call, tile, slot, rows, feature_sums, guide_sums, segment,
                               first > start);
        if (ends && problem->feature_gradient.data)
            write_rows(&problem->feature_gradient, problem->positions, first, count, feature_sums,
                       call->row);
        if (ends && problem->guide_gradient.data)
            write_rows(&problem->guide_gradient, problem->positions, first, count, guide_sums,
                       call->guide_row);
    }
}

/* Add up the segments' shares of one attribute's weight and bias gradients, in their order. */
static void reduce_attribute(const struct Call *call, int64_t k, int64_t slot) {
    const struct Problem *problem = call->problem;
    int64_t slab = call->slab;
    for (int64_t s = 1; call->weight_parts && s < call->segments; s++) {
        float *sum = call->weight_parts + slot * slab;
        const float *part = call->weight_parts + (s * call->chunk + slot) * slab;
        for (int64_t i = 0; i < slab; i++) sum[i] += part[i];
    }
    for (int64_t c = 0; call->weight_parts && c < call->channels; c++) {
        float *to = problem->weight_gradient + (k * call->channels + c) * call->guide_count;
        const float *from = call->weight_parts + slot * slab;
        if (call->amx)
            for (int64_t g = 0; g < call->guide_count; g++) to[g] = from[g * call->columns + c];
        else
            memcpy(to, from + c * call->guide_columns, call->guide_count * 4);
    }
    if (!problem->bias_gradient) return;
    for (int64_t c = 0; c < call->channels; c++) {
        float sum = 0;
        for (int64_t s = 0; s < call->segments; s++)
            sum += call->bias_parts[(s * call->chunk + slot) * call->columns + c];
        problem->bias_gradient[k * call->channels + c] = sum;
    }
}
