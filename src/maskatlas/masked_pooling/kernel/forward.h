/* Masks of a tile, summed up over each image. */

#pragma once

#include "tiles.h"

/* Logits (times -log2 e) of up to block_rows rows and a panel of channels, to tile->block. */
INLINE int64_t logits(const struct Call *call, const struct Tile *tile, struct Panel panel,
                      int64_t slot, int64_t r, int64_t rows) {
    int64_t height = smaller(call->block_rows, rows - r);
    const unit *right = call->weights + call->guide_depth * (slot * call->columns + panel.first);
    multiply_block(call->amx, call->dot, 0, height, panel.vectors, call->guide_depth,
                   tile->guide_rows + r * call->packed_guide_row, call->packed_guide_row, right,
                   panel.width, call->bias + slot * call->columns + panel.first, tile->block, WIDTH,
                   0);
    return height;
}

struct Sums { /* of the rows of one image within one tile */
    vector masks[VECTORS], attended[VECTORS];
};

static void finish_image(const struct Call *call, struct Tile *tile, struct Panel panel, int64_t k,
                         int64_t image, int64_t group_first, int64_t first, int64_t last,
                         struct Sums *sums) {
    const struct Problem *problem = call->problem;
    int64_t positions = problem->positions;
    int begins = image * positions >= first, ends = (image + 1) * positions <= last;
    float *pooled = problem->pooled + (image * problem->attributes + k) * call->channels;
    float *mask_mean = problem->mask_mean + (image * problem->attributes + k) * call->channels;
    const float *features = tile->means + (image - group_first) * call->columns;
    const float *masks = (const float *)sums->masks, *attended = (const float *)sums->attended;
    float scale = ends ? 1.0f / (float)positions : 1, offset = ends ? (float)problem->offset : 0;
    int64_t count = smaller(panel.width, call->channels - panel.first);
    for (int64_t i = 0; i < count; i++) {
        int64_t c = panel.first + i;
        float mask = (begins ? 0 : mask_mean[c]) + masks[i];
        float pool = (begins ? 0 : pooled[c]) + attended[i];
        mask_mean[c] = scale * mask;
        pooled[c] = scale * (ends ? pool + offset * features[c] : pool);
    }
    memset(sums, 0, sizeof *sums);
}

/* Sum up masks and what they weigh; keep them if the tile has a place for them. */
INLINE void add_masks(const int coarse, const struct Call *call, const struct Tile *tile,
                      struct Panel panel, int64_t block_row, int64_t r, int64_t count,
                      struct Sums *sums) {
    const float *features = tile->features + r * call->row + panel.first;
    const float *block = tile->block + block_row * WIDTH;
    float *kept = tile->masks ? tile->masks + r * call->row + panel.first : NULL;
    for (int64_t v = 0; v < panel.vectors; v++, block += LANES, features += LANES) {
        vector masks = sums->masks[v], attended = sums->attended[v];
        for (int64_t i = 0; i < count; i++) {
            vector mask = sigmoid(coarse, load(block + i * WIDTH));
            if (kept) store(kept + i * call->row + v * LANES, mask);
            masks += mask;
            attended += mask * load(features + i * call->row);
        }
        sums->masks[v] = masks;
        sums->attended[v] = attended;
    }
}

static void add_features(const struct Call *call, struct Tile *tile, int64_t group_first,
                         int64_t count, int begins) {
    if (begins) memset(tile->means, 0, call->group_images * call->columns * 4);
    for (int64_t first = 0; first < call->columns; first += LANES) {
        vector sum = {0};
        for (int64_t r = 0; r < count; r++) {
            sum += load(tile->features + r * call->row + first);
            if (r + 1 < count && tile->image[r + 1] == tile->image[r]) continue;
            float *mean = tile->means + (tile->image[r] - group_first) * call->columns + first;
            store(mean, load(mean) + sum);
            sum = (vector){0};
        }
    }
}

/* One attribute and panel of channels of a tile, whose rows begin at `first`. */
static void forward_panel(const struct Call *call, struct Tile *tile, struct Panel panel,
                          int64_t slot, int64_t k, int64_t group_first, int64_t first,
                          int64_t count) {
    const int32_t *image = tile->image;
    int64_t rows = round_up(count, call->row_step);
    struct Sums sums;
    memset(&sums, 0, sizeof sums);
    for (int64_t r = 0, height; r < rows; r += height) {
        height = logits(call, tile, panel, slot, r, rows);
        int64_t end = smaller(r + height, count);
        for (int64_t i = r, next; i < end; i = next) {
            for (next = i + 1; next < end && image[next] == image[i];) next++;
            if (call->dot)
                add_masks(1, call, tile, panel, i - r, i, next - i, &sums);
            else
                add_masks(0, call, tile, panel, i - r, i, next - i, &sums);
            if (next == count || image[next] != image[i])
                finish_image(call, tile, panel, k, image[i], group_first, first, first + count,
                             &sums);
        }
    }
}

static void forward_task(const struct Call *call, struct Tile *tile, int64_t chunk_first,
                         int64_t chunk_count, int64_t task) {
    const struct Problem *problem = call->problem;
    int64_t group = task / call->shares, share = task % call->shares;
    int64_t slot_first = chunk_count * share / call->shares;
    int64_t slot_last = chunk_count * (share + 1) / call->shares;
    int64_t group_first = group * call->group_images;
    int64_t images = smaller(call->group_images, problem->images - group_first);
    int64_t start = group_first * problem->positions, rows = images * problem->positions;
    for (int64_t done = 0; done < rows; done += call->tile_rows) {
        int64_t count = smaller(call->tile_rows, rows - done);
        read_tile(call, tile, start + done, count);
        add_features(call, tile, group_first, count, done == 0);
        for (int64_t slot = slot_first; slot < slot_last; slot++)
            for (int64_t column = 0; column < call->columns; column += WIDTH)
                forward_panel(call, tile, panel_at(column, call->columns), slot,
                              chunk_first + slot, group_first, start + done, count);
    }
}
