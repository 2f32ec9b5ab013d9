/* kernels/cpu/cpu_sample.h: the passes over a vocabulary that sampling is made of, by instruction
 * set.
 *
 * mass(e) = e * 2^40 rounded to the nearest integer, ties to even; e is relative to the most
 * probable token, so the largest mass is near 2^40 and a sum over 2^20 tokens stays below 2^61.
 */
#ifndef QUIRE_KERNELS_CPU_SAMPLE_H
#define QUIRE_KERNELS_CPU_SAMPLE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

struct cpu_sample_ops {
    /* Largest value; NaN when any is NaN. */
    float (*max)(const float *x, uint32_t n);
    /* x[i] of tokens with counts[i] != 0: x > 0 ? x / r : x * r */
    void (*repeat)(float *x, const uint32_t *counts, float r, uint32_t n);
    /* x[i] = (x[i] - max) / temperature + 0, e[i] = exp2(x[i] * log2 e) */
    void (*weigh)(float *x, float max, float temperature, uint32_t n, float *e);
    uint64_t (*mass)(const float *e, uint32_t n); /* sum of mass(e[i]) */
    /* ids i ascending with x[i] >= threshold; returns how many. `ids` has room for n rounded up to
     * 16. */
    uint32_t (*collect)(const float *x, uint32_t n, float threshold, uint32_t *ids);
    /* 16 lanes of double, lane i % 16 adds exp2((x[i] - max) * log2 e), i ascending; folded 16 -> 1
     */
    double (*exp_sum)(const float *x, float max, uint32_t n);
};

extern const struct cpu_sample_ops cpu_sample_scalar, cpu_sample_avx2, cpu_sample_avx512;

#define SAMPLE_MASS_ONE 0x1p40
/* added to a number below 2^52: its integer stands in the low bits */
#define SAMPLE_ROUNDER 0x1p52

static inline uint64_t cpu_sample_mass(float e)
{
    double shifted = (double)e * SAMPLE_MASS_ONE + SAMPLE_ROUNDER;
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits & ((UINT64_C(1) << 52) - 1);
}

static inline double cpu_fold16_double(double lanes[16])
{
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            lanes[i] += lanes[i + half];
    return lanes[0];
}

#endif
