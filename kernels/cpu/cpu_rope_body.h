/* kernels/cpu/cpu_rope_body.h: angles and rotation in plain C, compiled once an instruction set
 * (static, so that no copy leaks from one to another). Every operation is written out, so the
 * compiler may only choose how many lanes it takes at once.
 */
#ifndef QUIRE_KERNELS_CPU_ROPE_BODY_H
#define QUIRE_KERNELS_CPU_ROPE_BODY_H

#include "kernels/cpu/cpu_rope.h"
#include "kernels/cpu/cpu_sincos.h"

#define ROPE_HALF_MAX 65504.0f

static void rope_angles(const double *restrict inv_freq, uint32_t n_pairs, uint32_t position,
                        float scale, float *restrict cosine, float *restrict sine)
{
    for (uint32_t k = 0; k < n_pairs; k++) {
        double s, c;
        cpu_sincos_body((double)position * inv_freq[k], &s, &c);
        cosine[k] = (float)(c * (double)scale);
        sine[k] = (float)(s * (double)scale);
    }
}

static void rope_rotate(const float *restrict from, uint32_t n_dims, uint32_t n_rot,
                        enum rope_style style, const float *restrict cosine,
                        const float *restrict sine, float factor, float *restrict to)
{
    uint32_t n_pairs = n_rot / 2;
    uint32_t begin = style == ROPE_NONE ? 0 : n_rot;
    if (style == ROPE_NORM) {
        for (uint32_t k = 0; k < n_pairs; k++) {
            float a = from[2 * k], b = from[2 * k + 1];
            to[2 * k] = fmaf(a, cosine[k], -(b * sine[k])) * factor;
            to[2 * k + 1] = fmaf(a, sine[k], b * cosine[k]) * factor;
        }
    } else if (style == ROPE_NEOX) {
        for (uint32_t k = 0; k < n_pairs; k++) {
            float a = from[k], b = from[k + n_pairs];
            to[k] = fmaf(a, cosine[k], -(b * sine[k])) * factor;
            to[k + n_pairs] = fmaf(a, sine[k], b * cosine[k]) * factor;
        }
    }
    for (uint32_t i = begin; i < n_dims; i++)
        to[i] = from[i] * factor;
}

#endif
