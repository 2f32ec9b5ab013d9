/* kernels/cuda/cuda_act.h: the layout of struct act on a GPU.
 *
 *   halves  f16 [max_rows][stride]   ACT_BLOCKS, ACT_QUERY; stride: width rounded up to 64, and
 *   scales  f32 [max_rows]           zeros beyond width; value = half * scale, a power of two that
 *   floats  f32 [max_rows][width]    ACT_FLOATS               is 1 unless a value passes 65504
 *
 * Each part begins at a multiple of 256 bytes. A row's bits depend on that row alone.
 */
#ifndef QUIRE_KERNELS_CUDA_ACT_H
#define QUIRE_KERNELS_CUDA_ACT_H

#include "kernels/ops.h"

struct cuda_act_rows {
    uint16_t *halves; /* device, or NULL */
    float *scales;    /* device, or NULL */
    float *floats;    /* device, or NULL */
    uint32_t stride;  /* of halves */
    uint32_t width;
};

#define CUDA_ACT_ALIGNMENT 256
#define CUDA_ACT_STRIDE_UNIT 64

static inline size_t cuda_act_round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Lays the parts out behind each other; *bytes gets what they take. base may be NULL for that. */
static inline struct cuda_act_rows cuda_act_layout(void *base, uint32_t max_rows, uint32_t width,
                                                   uint32_t forms, size_t *bytes)
{
    struct cuda_act_rows rows = {NULL, NULL, NULL, 0, width};
    char *at = (char *)base;
    size_t used = 0;
    rows.stride = (uint32_t)cuda_act_round_up(width, CUDA_ACT_STRIDE_UNIT);
    if ((forms & (ACT_BLOCKS | ACT_QUERY)) != 0) {
        rows.halves = (uint16_t *)(at + used);
        used += cuda_act_round_up((size_t)max_rows * rows.stride * 2, CUDA_ACT_ALIGNMENT);
        rows.scales = (float *)(at + used);
        used += cuda_act_round_up((size_t)max_rows * 4, CUDA_ACT_ALIGNMENT);
    }
    if ((forms & ACT_FLOATS) != 0) {
        rows.floats = (float *)(at + used);
        used += cuda_act_round_up((size_t)max_rows * width * 4, CUDA_ACT_ALIGNMENT);
    }
    *bytes = used;
    return rows;
}

static inline struct cuda_act_rows cuda_act_rows_of(const struct act *act)
{
    size_t bytes;
    return cuda_act_layout(act->base, act->max_rows, act->width, act->forms, &bytes);
}

#endif
