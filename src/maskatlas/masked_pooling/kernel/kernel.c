/* Masked pooling on a CPU, forward and backward, tile by tile.
 *
 * Compiled on first use and called by cpu.py.
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
 *     fused       both at once, M computed once, where p and q follow from the loss: see fused.h
 *
 * All of a tile lies in the cache of a core. The three products go through one register block,
 * whose operands are units of 32 bits: a float, or where the processor multiplies pairs of bfloat16
 * and adds them up in float (`dot`), a pair of neighbours along the axis that is summed. Where it
 * has a matrix unit for such pairs, that takes the place of the register block (amx.h).
 *
 * Each sum is cut into the same parts whatever the number of threads, so that results do not depend
 * on it (up to SEGMENTS threads; beyond, backward makes as many parts as there are threads).
 */

#include <math.h>
#include <stdlib.h>

#include "fused.h"

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
    struct TileShapes before;
    if (call->amx) before = amx_begin();
    int64_t attributes = call->problem->attributes, first = 0, count = 0, task;
    atomic_long *counter = call->counters;
    while (1) {
        int64_t done = call->pass == FORWARD ? 0 : count, next = first + count;
        int64_t next_count = smaller(call->chunk, attributes - next);
        while ((task = next_task(counter)) < done + next_count) {
            if (task >= done) {
                pack_attribute(call, next + task - done, task - done);
                continue;
            }
            reduce_attribute(call, first + task, task);
            if (call->pass == FUSED) reduce_head(call, &tile, first + task);
        }
        if (next_count == 0) break;
        wait_for_all(call);
        first = next, count = next_count, counter++;
        while ((task = next_task(counter)) < call->tasks) {
            if (call->pass == FORWARD)
                forward_task(call, &tile, first, count, task);
            else if (call->pass == BACKWARD)
                backward_task(call, &tile, first, count, task);
            else
                fused_task(call, &tile, first, count, task);
        }
        wait_for_all(call);
        counter++;
    }
    if (call->amx) amx_end(&before);
}

static void *work_alone(void *argument) {
    work(argument);
    return NULL;
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
static int run(const struct Problem *problem, enum Pass pass) {
    struct Call call = plan(problem, pass);
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
    double loss = 0;
    for (int64_t k = 0; pass == FUSED && k < problem->attributes; k++) loss += call.losses[k];
    if (pass == FUSED) *problem->loss = (float)loss;
    free(memory);
    return 0;
}

int masked_pooling_forward(const struct Problem *problem) { return run(problem, FORWARD); }
int masked_pooling_backward(const struct Problem *problem) { return run(problem, BACKWARD); }
int masked_pooling_fused(const struct Problem *problem) { return run(problem, FUSED); }
int64_t masked_pooling_problem_bytes(void) { return sizeof(struct Problem); }
