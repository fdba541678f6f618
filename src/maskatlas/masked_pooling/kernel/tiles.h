/* Maps read into tiles and written back; weights packed as operands. */

#pragma once

#include "plan.h"

INLINE float element(const struct Maps *maps, int64_t at) {
    return maps->type == BFLOAT16 ? from_bfloat16(((const uint16_t *)maps->data)[at])
                                  : ((const float *)maps->data)[at];
}

static void read_rows(const struct Maps *maps, int64_t positions, int64_t first, int64_t count,
                      float *to, int64_t step, int64_t columns) {
    for (int64_t r = 0; r < count; r++, to += step) {
        int64_t image = (first + r) / positions, position = (first + r) % positions;
        int64_t at = image * maps->image_step + position * maps->position_step;
        if (maps->channel_step == 1 && maps->type == BFLOAT16) {
            const uint16_t *from = (const uint16_t *)maps->data + at;
            for (int64_t c = 0; c < maps->channels; c++) to[c] = from_bfloat16(from[c]);
        } else if (maps->channel_step == 1) {
            memcpy(to, (const float *)maps->data + at, maps->channels * 4);
        } else {
            for (int64_t c = 0; c < maps->channels; c++)
                to[c] = element(maps, at + c * maps->channel_step);
        }
        memset(to + maps->channels, 0, (columns - maps->channels) * 4);
    }
}

static void write_rows(const struct Maps *maps, int64_t positions, int64_t first, int64_t count,
                       const float *from, int64_t step) {
    for (int64_t r = 0; r < count; r++, from += step) {
        int64_t image = (first + r) / positions, position = (first + r) % positions;
        int64_t at = image * maps->image_step + position * maps->position_step;
        if (maps->channel_step == 1 && maps->type == BFLOAT16) {
            uint16_t *to = (uint16_t *)maps->data + at;
            for (int64_t c = 0; c < maps->channels; c++) to[c] = to_bfloat16(from[c]);
        } else if (maps->type == BFLOAT16) {
            uint16_t *to = (uint16_t *)maps->data + at;
            for (int64_t c = 0; c < maps->channels; c++)
                to[c * maps->channel_step] = to_bfloat16(from[c]);
        } else {
            float *to = (float *)maps->data + at;
            for (int64_t c = 0; c < maps->channels; c++) to[c * maps->channel_step] = from[c];
        }
    }
}

/* Read `count` rows, and zeros up to a multiple of row_step, whose number is returned. */
static int64_t read_tile(const struct Call *call, struct Tile *tile, int64_t first, int64_t count) {
    const struct Problem *problem = call->problem;
    int64_t rows = round_up(count, call->row_step);
    read_rows(&problem->features, problem->positions, first, count, tile->features, call->row,
              call->columns);
    if (!call->shared)
        read_rows(&call->guides, problem->positions, first, count, tile->guides, call->guide_row,
                  call->guide_columns);
    for (int64_t r = 0; r < count; r++)
        tile->image[r] = (int32_t)((first + r) / problem->positions);
    for (int64_t r = count; r < rows; r++) {
        tile->image[r] = (int32_t)problem->images;
        memset(tile->features + r * call->row, 0, call->columns * 4);
        memset(tile->guides + r * call->guide_row, 0, call->guide_columns * 4);
    }
    for (int64_t r = 0; call->dot && r < rows; r++) {
        const float *from = tile->guides + r * call->guide_row;
        uint16_t *to = (uint16_t *)(tile->guide_rows + r * call->packed_guide_row);
        for (int64_t g = 0; g < call->guide_columns; g++) to[g] = to_bfloat16(from[g]);
    }
    for (int64_t r = 0; call->dot && call->pass != FORWARD && r < rows; r += 2) {
        const float *from = tile->guides + r * call->guide_row, *next = from + call->guide_row;
        int64_t step = call->amx ? spread(call->tile_rows / 2) : 1;
        unit *to = tile->guide_pairs + r / 2 * (call->amx ? 1 : call->guide_row);
        for (int64_t g = 0; g < call->guide_columns; g++)
            to[g * step] = pair_of(from[g], next[g]);
    }
    return rows;
}

/* The weights as the right operand of g W_k^T, in panels of channels: [depth, channel]. */
static void pack_weights(const struct Call *call, const float *weight, unit *to) {
    enum { PART = 128 }; /* of a row */
    float scaled[PART];
    uint16_t halves[PART];
    unit block[LANES][PART];
    for (int64_t c = 0; c < call->columns; c += LANES)
        for (int64_t g = 0; g < call->guide_columns; g += PART) {
            int64_t count = smaller(PART, call->guide_columns - g);
            int64_t depth = call->dot ? count / 2 : count, first = call->dot ? g / 2 : g;
            for (int64_t lane = 0; lane < LANES; lane++) {
                const float *row = weight + (c + lane) * call->guide_count + g;
                int64_t real = larger(0, smaller(count, call->guide_count - g));
                if (c + lane >= call->channels) real = 0;
                for (int64_t i = 0; i < real; i++) scaled[i] = MINUS_LOG2_E * row[i];
                for (int64_t i = real; i < count; i++) scaled[i] = 0;
                for (int64_t i = 0; i < count; i++) halves[i] = to_bfloat16(scaled[i]);
                memcpy(block[lane], call->dot ? (void *)halves : (void *)scaled, depth * 4);
            }
            struct Panel panel = panel_at(c / WIDTH * WIDTH, call->columns);
            unit *at = to + panel.first * call->guide_depth + first * panel.width + c - panel.first;
            for (int64_t d = 0; d < depth; d++, at += panel.width)
                for (int64_t lane = 0; lane < LANES; lane++) at[lane] = block[lane][d];
        }
}

/* The weights as the right operand of t W_k, in panels of mask features: [depth, guide]. */
static void pack_weights_back(const struct Call *call, const float *weight, unit *to) {
    memset(to, 0, call->depth * call->guide_columns * 4);
    for (int64_t first = 0; first < call->guide_count; first += WIDTH) {
        struct Panel panel = panel_at(first, call->guide_columns);
        int64_t width = smaller(WIDTH, call->guide_count - first);
        for (int64_t d = 0; d < call->depth; d++, to += panel.width) {
            int64_t c = call->dot ? 2 * d : d;
            const float *row = weight + c * call->guide_count + first;
            const float *next = row + call->guide_count;
            if (c >= call->channels) continue;
            if (!call->dot)
                memcpy(to, row, width * 4);
            else if (c + 1 < call->channels)
                for (int64_t g = 0; g < width; g++) to[g] = pair_of(row[g], next[g]);
            else
                for (int64_t g = 0; g < width; g++) to[g] = pair_of(row[g], 0);
        }
    }
}

static void pack_attribute(const struct Call *call, int64_t k, int64_t slot) {
    const struct Problem *problem = call->problem;
    const float *weight = problem->weight + k * call->channels * call->guide_count;
    const float *bias = problem->bias + k * call->channels;
    pack_weights(call, weight, call->weights + slot * call->guide_depth * call->columns);
    for (int64_t c = 0; c < call->columns; c++)
        call->bias[slot * call->columns + c] = c < call->channels ? MINUS_LOG2_E * bias[c] : 0;
    if (call->pass == FORWARD) return;
    pack_weights_back(call, weight,
                      call->weights_back + slot * call->depth * call->guide_columns);
    if (call->pass == FUSED) return;
    float share = 1.0f / (float)problem->positions;
    float *arriving = call->arriving + slot * (problem->images + 1) * 2 * call->columns;
    for (int64_t image = 0; image <= problem->images; image++) {
        int64_t from = (image * problem->attributes + k) * call->channels;
        for (int64_t c = 0; c < call->columns; c += LANES, arriving += 2 * LANES)
            for (int64_t i = 0; i < LANES; i++) {
                int real = image < problem->images && c + i < call->channels;
                arriving[i] = real ? share * problem->pooled[from + c + i] : 0;
                arriving[LANES + i] = real ? share * problem->mask_mean[from + c + i] : 0;
            }
    }
}
