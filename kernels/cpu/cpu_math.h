/* kernels/cpu/cpu_math.h: the few functions that kernels need, defined once so that every
 * instruction set agrees to the bit.
 *
 * exp2: n = round_even(x); polynomial of degree 5 in x - n on [-0.5, 0.5] by Horner with fma;
 * scaled by 2^n through the exponent field, x clamped to [-126, 126] first (so no denormal
 * appears). Coefficients: cpu_kernels.md 14.
 */
#ifndef QUIRE_KERNELS_CPU_MATH_H
#define QUIRE_KERNELS_CPU_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define EXP2_C0 1.00000007f
#define EXP2_C1 0.69314697f
#define EXP2_C2 0.2402212f
#define EXP2_C3 0.05550713f
#define EXP2_C4 0.00967554f
#define EXP2_C5 0.00132765f
#define EXP2_MIN (-126.0f)
#define EXP2_MAX 126.0f
#define LOG2_E 1.44269504f

static inline float cpu_exp2(float x)
{
    x = x < EXP2_MIN ? EXP2_MIN : x;
    x = x > EXP2_MAX ? EXP2_MAX : x;
    float n = nearbyintf(x);
    float t = x - n;
    float p = EXP2_C5;
    p = fmaf(p, t, EXP2_C4);
    p = fmaf(p, t, EXP2_C3);
    p = fmaf(p, t, EXP2_C2);
    p = fmaf(p, t, EXP2_C1);
    p = fmaf(p, t, EXP2_C0);
    int32_t bits;
    memcpy(&bits, &p, sizeof bits);
    bits += n == n ? (int32_t)n * (1 << 23) : 0; /* a NaN stays one */
    memcpy(&p, &bits, sizeof p);
    return p;
}

/* z / (1 + 2^(-z * log2 e)) */
static inline float cpu_silu(float z)
{
    return z / (1.0f + cpu_exp2(-z * LOG2_E));
}

/* lane i += lane i + apart, 16 -> 1 */
static inline float cpu_fold16(float lanes[16])
{
    for (int apart = 8; apart > 0; apart /= 2)
        for (int i = 0; i < apart; i++)
            lanes[i] += lanes[i + apart];
    return lanes[0];
}

/* sin and cos of an angle in double: reduction by pi/2 in two parts, then polynomials of degree 15
 * and 16; error below 1e-15 for |angle| < 2^31. Defined in cpu_math.c. */
void cpu_sincos(double angle, double *sine, double *cosine);
/* Natural logarithm of a finite x > 0 by our own series, for thresholds and reported
 * log-probabilities; error below 1e-15 of the larger of 1 and the result. */
double cpu_ln(double x);

#endif
