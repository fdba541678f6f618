/* How a call is cut up, and where in memory its parts lie. */

#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "problem.h"
#include "product.h"

enum { FORWARD_CHUNK = 32, BACKWARD_CHUNK = 8 }; /* at most: attributes packed at a time */
enum { SEGMENTS = 8, SEGMENT_ROWS = 256, TILE_BYTES = 320 << 10 };
enum { FEWEST_TILE_ROWS = 64, MOST_TILE_ROWS = 256 };
enum Pass { FORWARD, BACKWARD, FUSED };

struct Call {
    const struct Problem *problem;
    struct Maps guides;
    enum Pass pass;
    int dot, amx, shared;
    int64_t channels, guide_count;         /* C, G */
    int64_t columns, guide_columns;        /* C and G rounded up to whole vectors */
    int64_t depth, guide_depth;            /* and counted in units, as an axis that is summed */
    int64_t row, guide_row;                /* steps between rows of floats */
    int64_t packed_row, packed_guide_row;  /* steps between rows of units: a row's own neighbours */
    int64_t row_step, block_rows;          /* rows of a tile, of a block: a multiple; at most */
    int64_t tile_rows, chunk;
    int64_t slab;                          /* of one attribute's weight gradient */
    int64_t groups, group_images, shares;            /* forward: images and attributes of a task */
    int64_t segments, segment_rows;                  /* backward: rows of a task */
    int64_t segment_groups;                          /* fused: groups of images of a task */
    int64_t tasks, counter_count;
    unit *weights, *weights_back;          /* packed: [k panel depth column], both ways */
    float *bias;                           /* [k column] */
    float *arriving;                       /* p, q: [k image + 1 vector 2 LANES], the last 0 */
    float *weight_parts, *bias_parts;      /* [segment k channel guide], [segment k column] */
    float *feature_sums, *guide_sums;      /* df and dg so far: [row column] */
    double *losses;                        /* fused: [k], each attribute's share of the loss */
    char *scratch;
    size_t scratch_bytes;
    atomic_long *counters, workers;
    pthread_mutex_t lock;
    pthread_cond_t all_here;
    int64_t waiting, round;
};

struct Tile { /* one thread's own memory */
    int32_t *image;            /* of each row; `images` for a row that only fills up row_step */
    float *features, *guides;  /* [row column] */
    unit *guide_rows;          /* [row guide_depth] */
    unit *guide_pairs;         /* [row or pair of rows, guide_column]; AMX: [guide_column pair] */
    unit *slope_rows;          /* t, bfloat16 of at most MOST_TILE_ROWS: [row depth] */
    unit *slope_pairs;         /* t likewise: [row or pair of rows, column] */
    float *block;              /* [block_rows WIDTH] */
    float *means;              /* [image of the tile, column]: sums of features */
    float *masks;              /* fused: [row column] */
    float *arriving;           /* fused: p, q of an attribute: [image + 1 vector 2 LANES] */
};

static char *take(char **memory, size_t bytes) {
    char *start = *memory;
    *memory += (bytes + 63) & ~(size_t)63;
    return start;
}

static struct Tile tile_of(const struct Call *call, char *memory, size_t *bytes) {
    struct Tile tile = {0};
    char *start = memory;
    int64_t rows = call->tile_rows, pair_rows = call->dot ? rows / 2 : rows;
    tile.image = (int32_t *)take(&memory, rows * 4);
    tile.features = (float *)take(&memory, rows * call->row * 4);
    tile.guides = call->shared ? tile.features : (float *)take(&memory, rows * call->guide_row * 4);
    tile.block = (float *)take(&memory, call->block_rows * WIDTH * 4);
    if (call->dot) {
        tile.guide_rows = (unit *)take(&memory, rows * call->packed_guide_row * 4);
        int64_t pairs = call->amx ? call->guide_columns * spread(pair_rows)
                                  : pair_rows * call->guide_row;
        tile.guide_pairs = (unit *)take(&memory, pairs * 4);
    } else {
        tile.guide_rows = tile.guide_pairs = (unit *)tile.guides;
    }
    if (call->pass != FORWARD) {
        int64_t some = call->dot ? smaller(rows, MOST_TILE_ROWS) : rows;
        tile.slope_pairs = (unit *)take(&memory, (call->dot ? some / 2 : some) * call->row * 4);
        tile.slope_rows = call->dot ? (unit *)take(&memory, some * call->packed_row * 4)
                                    : tile.slope_pairs;
    }
    if (call->pass != BACKWARD)
        tile.means = (float *)take(&memory, call->group_images * call->columns * 4);
    if (call->pass == FUSED) {
        tile.masks = call->dot ? (float *)take(&memory, rows * call->row * 4)
                               : (float *)tile.slope_rows;
        tile.arriving =
            (float *)take(&memory, 2 * (call->group_images + 1) * call->columns * 4);
    }
    *bytes = (size_t)(memory - start);
    return tile;
}

static struct Call plan(const struct Problem *problem, enum Pass pass) {
    struct Call call = {.problem = problem, .pass = pass};
    call.dot = DOT && problem->pairs;
    call.amx = AMX && call.dot && amx_granted();
    call.shared = problem->guides.data == NULL;
    call.guides = call.shared ? problem->features : problem->guides;
    call.channels = problem->features.channels;
    call.guide_count = call.guides.channels;
    int64_t lanes = call.amx ? 2 * LANES : LANES;
    call.columns = round_up(call.channels, lanes);
    call.guide_columns = round_up(call.guide_count, lanes);
    call.depth = call.dot ? call.columns / 2 : call.columns;
    call.guide_depth = call.dot ? call.guide_columns / 2 : call.guide_columns;
    call.row = spread(call.columns);
    call.guide_row = spread(call.guide_columns);
    call.packed_row = spread(call.depth);
    call.packed_guide_row = spread(call.guide_depth);
    call.row_step = call.amx ? AMX_ROWS : 2;
    call.block_rows = call.amx ? AMX_ROWS : ROWS;
    call.slab = call.amx ? call.guide_columns * call.columns
                         : round_up(call.channels, 2) * call.guide_columns;
    /* What is held beyond results stays small beside what is asked for: a share of K, of rows. */
    int64_t most_slots = pass == FORWARD ? FORWARD_CHUNK
                                         : smaller(BACKWARD_CHUNK, parts(problem->attributes, 3));
    call.chunk = parts(problem->attributes, parts(problem->attributes, most_slots)); /* even ones */

    int64_t positions = problem->positions, rows = problem->images * positions;
    int64_t feature_rows = pass == FORWARD ? 1 : 3, guide_rows = call.shared ? 1 : 2;
    int64_t bytes = 4 * (feature_rows * call.row + guide_rows * call.guide_row);
    int64_t block = call.block_rows;
    int64_t most_rows = larger(FEWEST_TILE_ROWS, smaller(MOST_TILE_ROWS, rows / SEGMENTS));
    call.tile_rows = larger(block, smaller(TILE_BYTES / bytes, most_rows) / block * block);
    call.tile_rows = smaller(call.tile_rows, round_up(rows, block));
    call.group_images = larger(1, call.tile_rows / positions);
    call.groups = parts(problem->images, call.group_images);
    call.shares = smaller(call.chunk, parts(4 * problem->threads, call.groups));
    int64_t most = larger(SEGMENTS, problem->threads), least = rows < SEGMENT_ROWS / 2 ? 1 : 2;
    call.segments = larger(least, smaller(most, rows / SEGMENT_ROWS));
    call.segment_rows = round_up(parts(rows, call.segments), call.row_step);
    call.segments = parts(rows, call.segment_rows);
    if (pass == FUSED) { /* whole images, so that a tile ends with their logits */
        call.group_images = larger(1, most_rows / positions);
        call.groups = parts(problem->images, call.group_images);
        call.tile_rows = round_up(call.group_images * positions, call.row_step);
        call.segment_groups = parts(call.groups, smaller(call.segments, call.groups));
        call.segments = parts(call.groups, call.segment_groups);
    }
    call.tasks = pass == FORWARD ? call.groups * call.shares : call.segments;
    call.counter_count = 2 * parts(problem->attributes, call.chunk) + 1;
    return call;
}

static void lay_out(struct Call *call, char *memory, size_t *bytes) {
    const struct Problem *problem = call->problem;
    char *start = memory;
    int64_t chunk = call->chunk;
    int64_t rows = round_up(problem->images * problem->positions, call->row_step);
    if (call->pass == FUSED) rows = call->groups * call->tile_rows;
    call->weights = (unit *)take(&memory, chunk * call->guide_depth * call->columns * 4);
    call->bias = (float *)take(&memory, chunk * call->columns * 4);
    if (call->pass != FORWARD) {
        int64_t of_results = chunk * (problem->images + 1) * call->columns * 4;
        int guides = call->shared ? problem->feature_gradient.data != NULL
                                  : problem->guide_gradient.data != NULL;
        call->weights_back = (unit *)take(&memory, chunk * call->depth * call->guide_columns * 4);
        if (call->pass == BACKWARD) call->arriving = (float *)take(&memory, 2 * of_results);
        call->bias_parts = (float *)take(&memory, call->segments * chunk * call->columns * 4);
        if (problem->weight_gradient)
            call->weight_parts = (float *)take(&memory, call->segments * chunk * call->slab * 4);
        call->feature_sums = (float *)take(&memory, rows * call->row * 4);
        if (guides)
            call->guide_sums = call->shared ? call->feature_sums
                                            : (float *)take(&memory, rows * call->guide_row * 4);
    }
    if (call->pass == FUSED) call->losses = (double *)take(&memory, problem->attributes * 8);
    tile_of(call, memory, &call->scratch_bytes);
    call->scratch = take(&memory, problem->threads * call->scratch_bytes);
    call->counters = (atomic_long *)take(&memory, call->counter_count * sizeof(atomic_long));
    *bytes = (size_t)(memory - start);
}
