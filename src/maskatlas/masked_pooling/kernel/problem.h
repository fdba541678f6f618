/* What a call is given; cpu.py describes it a second time. */

#pragma once

#include <stdint.h>

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
    /* Of a fused call alone: */
    const float *head_weight, *head_bias; /* [attribute channel], [attribute] */
    const float *labels;                  /* [image attribute]: 0, 1 or not a number */
    double binary, mask_l1, contribution_l1; /* weights in the loss, of each image */
    float *logits;                        /* [image attribute]: results, like the next three */
    float *loss;                          /* one number */
    float *head_weight_gradient, *head_bias_gradient; /* [attribute channel], [attribute] */
    int64_t threads;
    void (*team)(void (*)(void *), void *, unsigned, unsigned); /* GOMP_parallel, or NULL */
    void (*barrier)(void);                                      /* GOMP_barrier, or NULL */
};
