/* Loss and gradient of linear classifiers on what is pooled, while a few images' masks are at hand.
 *
 * Each attribute's loss depends on its own logit alone, so that its gradient can be had as soon as
 * the masks of an image are summed up: they are computed once, three products in place of four.
 */

#pragma once

#include "backward.h"

static double sign_of(double x) { return (x > 0) - (x < 0); }

static double dot_product(const float *a, const float *b, int64_t count) {
    double sums[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int64_t lane = 0; lane < LANES; lane++)
            sums[lane] += (double)a[i + lane] * b[i + lane];
    for (; i < count; i++) sum += (double)a[i] * b[i];
    for (int64_t lane = 0; lane < LANES; lane++) sum += sums[lane];
    return sum;
}

/* The gradient of one image's loss by its logit; an unknown label counts nowhere. */
static double slope_of_logit(const struct Problem *problem, double logit, double label) {
    return isnan(label) ? 0 : problem->binary * (1 / (1 + exp(-logit)) - (label == 1));
}

/* -log sigmoid(z) where the label is 1 and -log sigmoid(-z) where it is 0, no digit lost. */
static double cross_entropy(double logit, double label) {
    double against = label == 1 ? -logit : logit;
    return isnan(label) ? 0 : fmax(against, 0) + log1p(exp(-fabs(against)));
}

/* From an attribute's pooled features of one image: its logit, and what arrives at p and q. */
static void arrive(const struct Call *call, struct Tile *tile, int64_t k, int64_t image,
                   int64_t place) {
    const struct Problem *problem = call->problem;
    int64_t at = image * problem->attributes + k;
    const float *pooled = problem->pooled + at * call->channels;
    const float *weight = problem->head_weight + k * call->channels;
    float *arriving = tile->arriving + place * 2 * call->columns;
    double logit = problem->head_bias[k] + dot_product(weight, pooled, call->channels);
    problem->logits[at] = (float)logit;
    double share = 1.0 / (double)problem->positions;
    double slope = slope_of_logit(problem, logit, problem->labels[at]);
    float by_logit = (float)(slope * share), by_mask = (float)(problem->mask_l1 * share);
    float by_size = (float)(problem->contribution_l1 * share);
    for (int64_t c = 0; c < call->columns; c += LANES, arriving += 2 * LANES)
        for (int64_t i = 0; i < LANES; i++) {
            int real = c + i < call->channels;
            float weighed = real ? weight[c + i] : 0;
            float sign = by_size && real ? (float)sign_of((double)weighed * pooled[c + i]) : 0;
            arriving[i] = (by_logit + by_size * sign) * weighed;
            arriving[LANES + i] = real ? by_mask : 0;
        }
}

/* From the masks of a panel that a tile keeps. */
static void slopes_of_masks(const struct Call *call, struct Tile *tile, struct Panel panel,
                            int64_t group_first, int64_t first, int64_t place, int64_t rows,
                            float *feature_sums, vector *bias_sums) {
    for (int64_t i = 0, count; i < rows; i += count) {
        int64_t r = first + i, places[2];
        count = alike(tile, r, first + rows);
        for (int s = 0; s < 2; s++) {
            int real = tile->image[r + s] != call->problem->images;
            places[s] = real ? tile->image[r + s] - group_first : call->group_images;
        }
        struct Arriving by = {
            tile->arriving + 2 * (places[0] * call->columns + panel.first),
            tile->arriving + 2 * (places[1] * call->columns + panel.first),
        };
        const float *masks = tile->masks + r * call->row + panel.first;
        if (call->dot)
            slopes(1, 0, call, tile, panel, r, place + i, count, by, masks, call->row,
                   feature_sums, bias_sums);
        else
            slopes(0, 0, call, tile, panel, r, place + i, count, by, masks, call->row,
                   feature_sums, bias_sums);
    }
}

/* The gradients of some rows of a tile, few enough that their t stays in the cache. */
static void fused_gradients(const struct Call *call, struct Tile *tile, int64_t slot,
                            int64_t group_first, int64_t first, int64_t rows, float *feature_sums,
                            float *guide_sums, int64_t part, int add) {
    int64_t place = call->dot ? 0 : first; /* float32: the masks' own */
    float *bias_part = call->bias_parts + part * call->columns;
    for (int64_t column = 0; column < call->columns; column += WIDTH) {
        struct Panel panel = panel_at(column, call->columns);
        vector bias_sums[VECTORS];
        memset(bias_sums, 0, sizeof bias_sums);
        slopes_of_masks(call, tile, panel, group_first, first, place, rows, feature_sums,
                        bias_sums);
        for (int64_t v = 0; v < panel.vectors; v++) {
            float *sum = bias_part + column + v * LANES;
            if (add) bias_sums[v] += load(sum);
            store(sum, bias_sums[v]);
        }
    }
    add_weight_gradient(call, tile, first, place, rows, call->weight_parts + part * call->slab,
                        add);
    add_guide_gradient(call, tile, slot, place, rows, guide_sums + first * call->guide_row);
}

static void fused_attribute(const struct Call *call, struct Tile *tile, int64_t slot, int64_t k,
                            int64_t group_first, int64_t images, float *feature_sums,
                            float *guide_sums, int64_t segment, int add) {
    int64_t count = images * call->problem->positions, rows = round_up(count, call->row_step);
    int64_t part = segment * call->chunk + slot;
    for (int64_t column = 0; column < call->columns; column += WIDTH)
        forward_panel(call, tile, panel_at(column, call->columns), slot, k, group_first,
                      group_first * call->problem->positions, count);
    for (int64_t i = 0; i < images; i++) arrive(call, tile, k, group_first + i, i);
    for (int64_t first = 0; first < rows; first += MOST_TILE_ROWS)
        fused_gradients(call, tile, slot, group_first, first,
                        smaller(MOST_TILE_ROWS, rows - first), feature_sums, guide_sums, part,
                        add || first > 0);
}

static void fused_task(const struct Call *call, struct Tile *tile, int64_t chunk_first,
                       int64_t chunk_count, int64_t segment) {
    const struct Problem *problem = call->problem;
    int64_t start = segment * call->segment_groups;
    int64_t stop = smaller(start + call->segment_groups, call->groups);
    int begins = chunk_first == 0, ends = chunk_first + chunk_count == problem->attributes;
    memset(tile->arriving + 2 * call->group_images * call->columns, 0, 2 * call->columns * 4);
    for (int64_t group = start; group < stop; group++) {
        int64_t group_first = group * call->group_images;
        int64_t images = smaller(call->group_images, problem->images - group_first);
        int64_t first = group_first * problem->positions, count = images * problem->positions;
        int64_t rows = read_tile(call, tile, first, count);
        float *feature_sums = call->feature_sums + group * call->tile_rows * call->row;
        float *guide_sums = call->guide_sums + group * call->tile_rows * call->guide_row;
        add_features(call, tile, group_first, count, 1);
        memset(tile->masks + count * call->row, 0, (rows - count) * call->row * 4);
        if (begins) memset(feature_sums, 0, rows * call->row * 4);
        if (begins && !call->shared) memset(guide_sums, 0, rows * call->guide_row * 4);
        for (int64_t slot = 0; slot < chunk_count; slot++)
            fused_attribute(call, tile, slot, chunk_first + slot, group_first, images,
                            feature_sums, guide_sums, segment, group > start);
        if (!ends) continue;
        write_rows(&problem->feature_gradient, problem->positions, first, count, feature_sums,
                   call->row);
        if (!call->shared)
            write_rows(&problem->guide_gradient, problem->positions, first, count, guide_sums,
                       call->guide_row);
    }
}

/* Of one attribute, when all images are pooled: its loss, and the gradients of its classifier. */
static void reduce_head(const struct Call *call, struct Tile *tile, int64_t k) {
    const struct Problem *problem = call->problem;
    const float *weight = problem->head_weight + k * call->channels;
    float *by_slopes = tile->arriving, *sizes = by_slopes + call->columns;
    float *masks = sizes + call->columns; /* the place of two images' p and q, or more, is theirs */
    memset(by_slopes, 0, 3 * call->columns * 4);
    double loss = 0, of_bias = 0;
    for (int64_t image = 0; image < problem->images; image++) {
        int64_t at = image * problem->attributes + k;
        const float *pooled = problem->pooled + at * call->channels;
        const float *mask_mean = problem->mask_mean + at * call->channels;
        double logit = problem->logits[at], label = problem->labels[at];
        double slope = slope_of_logit(problem, logit, label);
        loss += problem->binary * cross_entropy(logit, label);
        of_bias += slope;
        for (int64_t c = 0; c < call->channels; c++) {
            by_slopes[c] += (float)slope * pooled[c];
            sizes[c] += fabsf(pooled[c]);
            masks[c] += mask_mean[c];
        }
    }
    float *of_weight = problem->head_weight_gradient + k * call->channels;
    for (int64_t c = 0; c < call->channels; c++) {
        double size = problem->contribution_l1 * sizes[c];
        loss += problem->mask_l1 * masks[c] + size * fabs(weight[c]);
        of_weight[c] = (float)(by_slopes[c] + size * sign_of(weight[c]));
    }
    call->losses[k] = loss;
    problem->head_bias_gradient[k] = (float)of_bias;
}
