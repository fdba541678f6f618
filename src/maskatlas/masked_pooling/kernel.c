/* Masked pooling on a CPU, forward and backward, tile by tile.
 *
 * Compiled on first use and called by cpu.py; `struct Problem` stands there a second time.
 *
 * A row is one position of one image. For each tile of rows and each attribute k, with features f
 * [row C], mask features g [row G] and the gradients p, q of both results, divided by the number of
 * positions:
 *
 *     forward     M = sigmoid(g W_k^T + b_k)      sum M and M f over each image's rows
 *     backward    M again                         df += p M
 *                 t = (p f + q) M (1 - M)         db_k += sum t
 *                                                 dW_k += t^T g
 *                                                 dg   += t W_k
 *
 * All of a tile lies in the cache of a core. The three products go through one register block,
 * whose operands are units of 32 bits: a float, or where the processor multiplies pairs of bfloat16
 * and adds them up in float (`dot`), a pair of neighbours along the axis that is summed.
 *
 * Each sum is cut into the same parts whatever the number of threads, so that results do not depend
 * on it (up to SEGMENTS threads; beyond, backward makes as many parts as there are threads).
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
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

/* The register block: ROWS x VECTORS sums, VECTORS operands and a broadcast fit the registers. */
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

enum { FORWARD_CHUNK = 32, BACKWARD_CHUNK = 8 }; /* attributes whose weights are packed at a time */
enum { SEGMENTS = 8, SEGMENT_ROWS = 256, TILE_BYTES = 320 << 10 };

#define INLINE static inline __attribute__((always_inline))
typedef float vector __attribute__((vector_size(LANES * 4), may_alias));
typedef int32_t integers __attribute__((vector_size(LANES * 4), may_alias));
typedef uint32_t unit; /* a float, or a pair of bfloat16 */

enum { FLOAT32, BFLOAT16 };

struct Maps { /* [image channel position] in memory; steps count elements */
    void *data;
    int64_t image_step, channel_step, position_step, channels;
    int64_t type;
};

struct Problem {
    int64_t images, positions, attributes;
    struct Maps features, guides; /* guides.data == NULL: masks are computed from the features */
    const float *weight, *bias;   /* [attribute channel guide], [attribute channel] */
    double offset;
    int64_t pairs;                /* products of bfloat16 are good enough */
    float *pooled, *mask_mean;    /* [image attribute channel]: results, or their gradients */
    struct Maps feature_gradient, guide_gradient;   /* data == NULL: not asked for */
    float *weight_gradient, *bias_gradient;         /* NULL: not asked for */
    int64_t threads;
    void (*team)(void (*)(void *), void *, unsigned, unsigned); /* GOMP_parallel, or NULL */
    void (*barrier)(void);                                      /* GOMP_barrier, or NULL */
};

/* ---- Numbers ---------------------------------------------------------------------------- */

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

INLINE unit unit_of(float value) {
    unit bits;
    memcpy(&bits, &value, 4);
    return bits;
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

/* ---- The register block ------------------------------------------------------------------ */

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

/* A right operand in panels of WIDTH columns, each contiguous; the last may be narrower. */
struct Panel {
    int64_t first, vectors, width;
};

INLINE struct Panel panel_at(int64_t first, int64_t columns) {
    int64_t width = smaller(WIDTH, columns - first);
    return (struct Panel){first, width / LANES, width};
}

/* ---- The plan of a call ------------------------------------------------------------------ */

struct Call {
    const struct Problem *problem;
    struct Maps guides;
    int dot, shared, backward;
    int64_t channels, guide_count;         /* C, G */
    int64_t columns, guide_columns;        /* C and G rounded up to whole vectors */
    int64_t depth, guide_depth;            /* and counted in units, as an axis that is summed */
    int64_t row, guide_row;                /* steps between rows of floats */
    int64_t packed_row, packed_guide_row;  /* steps between rows of units: a row's own neighbours */
    int64_t tile_rows, chunk;
    int64_t groups, group_images, shares;            /* forward: images and attributes of a task */
    int64_t segments, segment_rows;                  /* backward: rows of a task */
    int64_t tasks, counter_count;
    unit *weights, *weights_back;          /* packed: [k panel guide_depth column], [k panel depth guide] */
    float *bias;                           /* [k column] */
    float *arriving;                       /* [k image + 1 column / LANES 2 LANES]: p, q; 0 at the end */
    float *weight_parts, *bias_parts;      /* [segment k channel guide_column], [segment k column] */
    float *feature_sums, *guide_sums;      /* [row column]: the gradients of a chunk and those before */
    char *scratch;
    size_t scratch_bytes;
    atomic_long *counters, workers;
    pthread_mutex_t lock;
    pthread_cond_t all_here;
    int64_t waiting, round;
};

struct Tile { /* one thread's own memory */
    int32_t *image;            /* of each row; `images` for a row that only fills up a pair */
    float *features, *guides;  /* [row column] */
    unit *guide_rows;          /* [row guide_depth] */
    unit *guide_pairs;         /* [row or pair of rows, guide_column] */
    unit *slope_rows;          /* t: [row depth] */
    unit *slope_pairs;         /* t: [row or pair of rows, column] */
    float *block;              /* [ROWS WIDTH] */
    float *means;              /* [image of the tile, column]: sums of features */
};

static char *take(char **memory, size_t bytes) {
    char *start = *memory;
    *memory += (bytes + 63) & ~(size_t)63;
    return start;
}

static struct Tile tile_of(const struct Call *call, char *memory, size_t *bytes) {
    struct Tile tile;
    char *start = memory;
    int64_t rows = call->tile_rows, pair_rows = call->dot ? rows / 2 : rows;
    tile.image = (int32_t *)take(&memory, rows * 4);
    tile.features = (float *)take(&memory, rows * call->row * 4);
    tile.guides = call->shared ? tile.features : (float *)take(&memory, rows * call->guide_row * 4);
    tile.block = (float *)take(&memory, ROWS * WIDTH * 4);
    if (call->dot) {
        tile.guide_rows = (unit *)take(&memory, rows * call->packed_guide_row * 4);
        tile.guide_pairs = (unit *)take(&memory, pair_rows * call->guide_row * 4);
    } else {
        tile.guide_rows = tile.guide_pairs = (unit *)tile.guides;
    }
    if (call->backward) {
        tile.slope_pairs = (unit *)take(&memory, pair_rows * call->row * 4);
        tile.slope_rows = call->dot ? (unit *)take(&memory, rows * call->packed_row * 4)
                                    : tile.slope_pairs;
        tile.means = NULL;
    } else {
        tile.slope_pairs = tile.slope_rows = NULL;
        tile.means = (float *)take(&memory, call->group_images * call->columns * 4);
    }
    *bytes = (size_t)(memory - start);
    return tile;
}

/* ---- Reading and writing maps -------------------------------------------------------------- */

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

/* Read `count` rows; an odd last one gets a row of zeros beside it. Returns the even number. */
static int64_t read_tile(const struct Call *call, struct Tile *tile, int64_t first, int64_t count) {
    const struct Problem *problem = call->problem;
    int64_t rows = count + count % 2;
    read_rows(&problem->features, problem->positions, first, count, tile->features, call->row,
              call->columns);
    if (!call->shared)
        read_rows(&call->guides, problem->positions, first, count, tile->guides, call->guide_row,
                  call->guide_columns);
    for (int64_t r = 0; r < count; r++) tile->image[r] = (int32_t)((first + r) / problem->positions);
    if (rows > count) {
        tile->image[count] = (int32_t)problem->images;
        memset(tile->features + count * call->row, 0, call->columns * 4);
        memset(tile->guides + count * call->guide_row, 0, call->guide_columns * 4);
    }
    for (int64_t r = 0; call->dot && r < rows; r++) {
        const float *from = tile->guides + r * call->guide_row;
        uint16_t *to = (uint16_t *)(tile->guide_rows + r * call->packed_guide_row);
        for (int64_t g = 0; g < call->guide_columns; g++) to[g] = to_bfloat16(from[g]);
    }
    for (int64_t r = 0; call->dot && call->backward && r < rows; r += 2) {
        const float *from = tile->guides + r * call->guide_row, *next = from + call->guide_row;
        unit *to = tile->guide_pairs + r / 2 * call->guide_row;
        for (int64_t g = 0; g < call->guide_columns; g++) to[g] = pair_of(from[g], next[g]);
    }
    return rows;
}

/* ---- Packing the weights of a chunk --------------------------------------------------------- */

/* The weights as the right operand of g W_k^T, in panels of channels: [depth, channel]. */
static void pack_weights(const struct Call *call, const float *weight, unit *to) {
    const float scale = MINUS_LOG2_E;
    for (int64_t c = 0; c < call->columns; c++) {
        struct Panel panel = panel_at(c / WIDTH * WIDTH, call->columns);
        unit *column = to + panel.first * call->guide_depth + c - panel.first;
        const float *row = weight + c * call->guide_count;
        for (int64_t d = 0; d < call->guide_depth; d++, column += panel.width) {
            int64_t g = call->dot ? 2 * d : d;
            float first = c < call->channels && g < call->guide_count ? scale * row[g] : 0;
            float second = c < call->channels && g + 1 < call->guide_count ? scale * row[g + 1] : 0;
            *column = call->dot ? pair_of(first, second) : unit_of(first);
        }
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
            if (c >= call->channels) continue;
            if (!call->dot)
                memcpy(to, row, width * 4);
            else if (c + 1 < call->channels)
                for (int64_t g = 0; g < width; g++) to[g] = pair_of(row[g], row[g + call->guide_count]);
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
    if (!call->backward) return;
    pack_weights_back(call, weight,
                      call->weights_back + slot * call->depth * call->guide_columns);
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

/* ---- Forward --------------------------------------------------------------------------------- */

/* Logits (times -log2 e) of up to ROWS rows and a panel of channels, to tile->block. */
INLINE int64_t logits(const struct Call *call, const struct Tile *tile, struct Panel panel,
                      int64_t slot, int64_t r, int64_t rows) {
    int64_t height = smaller(ROWS, rows - r);
    const unit *right = call->weights + call->guide_depth * (slot * call->columns + panel.first);
    BLOCKS[call->dot][0][height / 2 - 1][panel.vectors - 1](
        call->guide_depth, tile->guide_rows + r * call->packed_guide_row, call->packed_guide_row,
        right, panel.width, call->bias + slot * call->columns + panel.first, tile->block, WIDTH, 0);
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

INLINE void add_masks(const int coarse, const struct Call *call, const struct Tile *tile,
                      struct Panel panel, int64_t block_row, int64_t r, int64_t count,
                      struct Sums *sums) {
    const float *features = tile->features + r * call->row + panel.first;
    const float *block = tile->block + block_row * WIDTH;
    for (int64_t v = 0; v < panel.vectors; v++, block += LANES, features += LANES) {
        vector masks = sums->masks[v], attended = sums->attended[v];
        for (int64_t i = 0; i < count; i++) {
            vector mask = sigmoid(coarse, load(block + i * WIDTH));
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
        int64_t count = smaller(call->tile_rows, rows - done), first = start + done;
        int64_t even = read_tile(call, tile, first, count);
        add_features(call, tile, group_first, count, done == 0);
        for (int64_t slot = slot_first; slot < slot_last; slot++)
            for (int64_t column = 0; column < call->columns; column += WIDTH) {
                struct Panel panel = panel_at(column, call->columns);
                struct Sums sums;
                memset(&sums, 0, sizeof sums);
                for (int64_t r = 0, height; r < even; r += height) {
                    height = logits(call, tile, panel, slot, r, even);
                    int64_t end = smaller(r + height, count);
                    for (int64_t i = r, next; i < end; i = next) {
                        for (next = i + 1; next < end && tile->image[next] == tile->image[i];) next++;
                        if (call->dot)
                            add_masks(1, call, tile, panel, i - r, i, next - i, &sums);
                        else
                            add_masks(0, call, tile, panel, i - r, i, next - i, &sums);
                        if (next == count || tile->image[next] != tile->image[i])
                            finish_image(call, tile, panel, chunk_first + slot, tile->image[i],
                                         group_first, first, first + count, &sums);
                    }
                }
            }
    }
}

/* ---- Backward -------------------------------------------------------------------------------- */

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

/* From the logits of a block: its share of df, of db, and t. */
INLINE void slopes(const int dot, const struct Call *call, struct Tile *tile, struct Panel panel,
                   int64_t slot, int64_t r, int64_t height, float *feature_sums, vector *bias_sums) {
    const float *arriving = call->arriving + slot * (call->problem->images + 1) * 2 * call->columns;
    int64_t step = call->row, units = dot ? LANES / 2 : LANES, c = panel.first;
    for (int64_t i = 0; i < height; i += 2) {
        const float *block = tile->block + i * WIDTH;
        const float *features = tile->features + (r + i) * step + c;
        float *sums = feature_sums + (r + i) * step + c;
        const float *by[2] = {arriving + 2 * (tile->image[r + i] * call->columns + c),
                              arriving + 2 * (tile->image[r + i + 1] * call->columns + c)};
        unit *row = tile->slope_rows + (r + i) * call->packed_row + c / LANES * units;
        unit *next_row = row + call->packed_row;
        unit *pairs = dot ? tile->slope_pairs + (r + i) / 2 * step + c : NULL;
        for (int64_t v = 0; v < panel.vectors; v++) {
            vector slope[2];
#pragma GCC unroll 2
            for (int s = 0; s < 2; s++) {
                vector mask = sigmoid(dot, load(block + s * WIDTH));
                vector by_pooled = load(by[s]), by_mask = load(by[s] + LANES);
                slope[s] = (by_pooled * load(features + s * step) + by_mask) * (mask - mask * mask);
                store(sums + s * step, load(sums + s * step) + by_pooled * mask);
                by[s] += 2 * LANES;
            }
            bias_sums[v] += slope[0] + slope[1];
            store_slopes(dot, slope[0], slope[1], row, next_row, pairs);
            block += LANES, features += LANES, sums += LANES;
            row += units, next_row += units, pairs += dot ? LANES : 0;
        }
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

static void add_weight_gradient(const struct Call *call, const struct Tile *tile, int64_t rows,
                                float *out, int add) {
    int64_t depth = call->dot ? rows / 2 : rows, even = round_up(call->channels, 2);
    for (int64_t g = 0; g < call->guide_columns; g += WIDTH) {
        struct Panel panel = panel_at(g, call->guide_columns);
        for (int64_t c = 0, height; c < even; c += height) {
            height = smaller(ROWS, even - c);
            BLOCKS[call->dot][1][height / 2 - 1][panel.vectors - 1](
                depth, tile->slope_pairs + c, call->row, tile->guide_pairs + g, call->guide_row, NULL,
                out + c * call->guide_columns + g, call->guide_columns, add);
        }
    }
}

static void add_guide_gradient(const struct Call *call, const struct Tile *tile, int64_t slot,
                               int64_t rows, float *out) {
    for (int64_t g = 0; g < call->guide_columns; g += WIDTH) {
        struct Panel panel = panel_at(g, call->guide_columns);
        const unit *right = call->weights_back + call->depth * (slot * call->guide_columns + g);
        for (int64_t r = 0, height; r < rows; r += height) {
            height = smaller(ROWS, rows - r);
            BLOCKS[call->dot][0][height / 2 - 1][panel.vectors - 1](
                call->depth, tile->slope_rows + r * call->packed_row, call->packed_row, right,
                panel.width, NULL, out + r * call->guide_row + g, call->guide_row, 1);
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
            if (call->dot)
                slopes(1, call, tile, panel, slot, r, height, feature_sums, bias_sums);
            else
                slopes(0, call, tile, panel, slot, r, height, feature_sums, bias_sums);
        }
        for (int64_t v = 0; v < panel.vectors; v++) {
            float *sum = bias_part + column + v * LANES;
            if (add) bias_sums[v] += load(sum);
            store(sum, bias_sums[v]);
        }
    }
    if (call->weight_parts)
        add_weight_gradient(call, tile, rows,
                            call->weight_parts + part * round_up(call->channels, 2) *
                                                     call->guide_columns, add);
    if (guide_sums) add_guide_gradient(call, tile, slot, rows, guide_sums);
}

static void backward_task(const struct Call *call, struct Tile *tile, int64_t chunk_first,
                          int64_t chunk_count, int64_t segment) {
    const struct Problem *problem = call->problem;
    int64_t start = segment * call->segment_rows;
    int64_t stop = smaller(start + call->segment_rows, problem->images * problem->positions);
    int begins = chunk_first == 0, ends = chunk_first + chunk_count == problem->attributes;
    int64_t tiles = parts(stop - start, call->tile_rows);
    int64_t tile_rows = round_up(parts(stop - start, tiles), ROWS);
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
    int64_t even = round_up(call->channels, 2), slab = even * call->guide_columns;
    for (int64_t s = 1; call->weight_parts && s < call->segments; s++) {
        float *sum = call->weight_parts + slot * slab;
        const float *part = call->weight_parts + (s * call->chunk + slot) * slab;
        for (int64_t i = 0; i < slab; i++) sum[i] += part[i];
    }
    for (int64_t c = 0; call->weight_parts && c < call->channels; c++)
        memcpy(problem->weight_gradient + (k * call->channels + c) * call->guide_count,
               call->weight_parts + slot * slab + c * call->guide_columns, call->guide_count * 4);
    if (!problem->bias_gradient) return;
    for (int64_t c = 0; c < call->channels; c++) {
        float sum = 0;
        for (int64_t s = 0; s < call->segments; s++)
            sum += call->bias_parts[(s * call->chunk + slot) * call->columns + c];
        problem->bias_gradient[k * call->channels + c] = sum;
    }
}

/* ---- Threads --------------------------------------------------------------------------------- */

static void wait_for_all(struct Call *call) {
    if (call->problem->team) {
        call->problem->barrier();
        return;
    }
    pthread_mutex_lock(&call->lock);
    int64_t round = call->round;
    if (++call->waiting == call->problem->threads) {
        call->waiting = 0;
        call->round++;
        pthread_cond_broadcast(&call->all_here);
    }
    while (round == call->round) pthread_cond_wait(&call->all_here, &call->lock);
    pthread_mutex_unlock(&call->lock);
}

INLINE int64_t next_task(atomic_long *counter) {
    return atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* What each thread does. Chunk by chunk: pack its weights; all tasks; add up what they left. */
static void work(void *argument) {
    struct Call *call = argument;
    size_t bytes;
    char *memory = call->scratch + atomic_fetch_add(&call->workers, 1) * call->scratch_bytes;
    struct Tile tile = tile_of(call, memory, &bytes);
    int64_t attributes = call->problem->attributes, first = 0, count = 0, task;
    atomic_long *counter = call->counters;
    while (1) {
        int64_t done = call->backward ? count : 0, next = first + count;
        int64_t next_count = smaller(call->chunk, attributes - next);
        while ((task = next_task(counter)) < done + next_count) {
            if (task < done)
                reduce_attribute(call, first + task, task);
            else
                pack_attribute(call, next + task - done, task - done);
        }
        if (next_count == 0) break;
        wait_for_all(call);
        first = next, count = next_count, counter++;
        while ((task = next_task(counter)) < call->tasks) {
            if (call->backward)
                backward_task(call, &tile, first, count, task);
            else
                forward_task(call, &tile, first, count, task);
        }
        wait_for_all(call);
        counter++;
    }
}

static void *work_alone(void *argument) {
    work(argument);
    return NULL;
}

/* ---- The call -------------------------------------------------------------------------------- */

static struct Call plan(const struct Problem *problem, int backward) {
    struct Call call = {.problem = problem, .backward = backward};
    call.dot = DOT && problem->pairs;
    call.shared = problem->guides.data == NULL;
    call.guides = call.shared ? problem->features : problem->guides;
    call.channels = problem->features.channels;
    call.guide_count = call.guides.channels;
    call.columns = round_up(call.channels, LANES);
    call.guide_columns = round_up(call.guide_count, LANES);
    call.depth = call.dot ? call.columns / 2 : call.columns;
    call.guide_depth = call.dot ? call.guide_columns / 2 : call.guide_columns;
    call.row = spread(call.columns);
    call.guide_row = spread(call.guide_columns);
    call.packed_row = spread(call.depth);
    call.packed_guide_row = spread(call.guide_depth);
    call.chunk = smaller(backward ? BACKWARD_CHUNK : FORWARD_CHUNK, problem->attributes);

    int64_t positions = problem->positions, rows = problem->images * positions;
    int64_t bytes = 4 * ((backward ? 3 : 1) * call.row + (call.shared ? 1 : 2) * call.guide_row);
    call.tile_rows = larger(ROWS, smaller(TILE_BYTES / bytes, 256) / ROWS * ROWS);
    call.tile_rows = smaller(call.tile_rows, round_up(rows, ROWS));
    call.group_images = larger(1, call.tile_rows / positions);
    call.groups = parts(problem->images, call.group_images);
    call.shares = smaller(call.chunk, parts(4 * problem->threads, call.groups));
    int64_t most = larger(SEGMENTS, problem->threads);
    call.segments = larger(1, smaller(most, rows / SEGMENT_ROWS));
    call.segment_rows = round_up(parts(rows, call.segments), 2);
    call.segments = parts(rows, call.segment_rows);
    call.tasks = backward ? call.segments : call.groups * call.shares;
    call.counter_count = 2 * parts(problem->attributes, call.chunk) + 1;
    return call;
}

static void lay_out(struct Call *call, char *memory, size_t *bytes) {
    const struct Problem *problem = call->problem;
    char *start = memory;
    int64_t chunk = call->chunk, rows = round_up(problem->images * problem->positions, 2);
    call->weights = (unit *)take(&memory, chunk * call->guide_depth * call->columns * 4);
    call->bias = (float *)take(&memory, chunk * call->columns * 4);
    if (call->backward) {
        int64_t of_results = chunk * (problem->images + 1) * call->columns * 4;
        int64_t slab = round_up(call->channels, 2) * call->guide_columns;
        int guides = call->shared ? problem->feature_gradient.data != NULL
                                  : problem->guide_gradient.data != NULL;
        call->weights_back = (unit *)take(&memory, chunk * call->depth * call->guide_columns * 4);
        call->arriving = (float *)take(&memory, 2 * of_results);
        call->bias_parts = (float *)take(&memory, call->segments * chunk * call->columns * 4);
        if (problem->weight_gradient)
            call->weight_parts = (float *)take(&memory, call->segments * chunk * slab * 4);
        call->feature_sums = (float *)take(&memory, rows * call->row * 4);
        if (guides)
            call->guide_sums = call->shared ? call->feature_sums
                                            : (float *)take(&memory, rows * call->guide_row * 4);
    }
    tile_of(call, memory, &call->scratch_bytes);
    call->scratch = take(&memory, problem->threads * call->scratch_bytes);
    call->counters = (atomic_long *)take(&memory, call->counter_count * sizeof(atomic_long));
    *bytes = (size_t)(memory - start);
}

static void run_on_own_threads(struct Call *call) {
    struct Problem fewer = *call->problem;
    pthread_t threads[256];
    int64_t started = 1;
    pthread_mutex_init(&call->lock, NULL);
    pthread_cond_init(&call->all_here, NULL);
    pthread_mutex_lock(&call->lock); /* nobody passes the first barrier before all are counted */
    call->problem = &fewer;
    while (started < smaller(fewer.threads, 256) &&
           !pthread_create(&threads[started], NULL, work_alone, call))
        started++;
    fewer.threads = started;
    pthread_mutex_unlock(&call->lock);
    work(call);
    for (int64_t i = 1; i < started; i++) pthread_join(threads[i], NULL);
    pthread_cond_destroy(&call->all_here);
    pthread_mutex_destroy(&call->lock);
}

/* Returns 0, or 1 where there is not enough memory. */
static int run(const struct Problem *problem, int backward) {
    struct Call call = plan(problem, backward);
    size_t bytes;
    void *memory;
    lay_out(&call, NULL, &bytes);
    if (posix_memalign(&memory, 64, bytes)) return 1;
    lay_out(&call, memory, &bytes);
    for (int64_t i = 0; i < call.counter_count; i++) atomic_init(&call.counters[i], 0);
    atomic_init(&call.workers, 0);
    if (problem->team)
        problem->team(work, &call, (unsigned)problem->threads, 0);
    else
        run_on_own_threads(&call);
    free(memory);
    return 0;
}

int masked_pooling_forward(const struct Problem *problem) { return run(problem, 0); }
int masked_pooling_backward(const struct Problem *problem) { return run(problem, 1); }
int64_t masked_pooling_problem_bytes(void) { return sizeof(struct Problem); }
