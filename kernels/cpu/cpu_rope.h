/* kernels/cpu/cpu_rope.h: the parts of rope_append that each instruction set fills; the same bits
 * from each.
 *
 * Rotation of a pair (a, b) by (c, s), both f32: a' = fma(a, c, -(b * s)), b' = fma(a, s, b * c);
 * then * factor (q only).
 */
#ifndef QUIRE_KERNELS_CPU_ROPE_H
#define QUIRE_KERNELS_CPU_ROPE_H

#include "kernels/ops.h"

struct cpu_rope_ops {
    /* cosine[k] = f32(cos(position * inv_freq[k]) * scale), sine likewise; the product and the
     * functions in double. */
    void (*angles)(const double *inv_freq, uint32_t n_pairs, uint32_t position, float scale,
                   float *cosine, float *sine);
    /* One head of n_dims values, the first n_rot rotated, all of them times factor. */
    void (*rotate)(const float *from, uint32_t n_dims, uint32_t n_rot, enum rope_style style,
                   const float *cosine, const float *sine, float factor, float *to);
    /* f16, round to even; beyond +-65504 that value, counted; NaN stays NaN. Returns the count. */
    uint32_t (*halves)(const float *from, uint32_t n, uint16_t *to);
};

extern const struct cpu_rope_ops cpu_rope_scalar, cpu_rope_avx2, cpu_rope_avx512;

#endif
