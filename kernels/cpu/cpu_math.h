/* kernels/cpu/cpu_math.h: the few functions that kernels need, defined once so that every
 * instruction set agrees to the bit; exact_math.h has their constants and polynomials.
 */
#ifndef QUIRE_KERNELS_CPU_MATH_H
#define QUIRE_KERNELS_CPU_MATH_H

#include "kernels/exact_math.h"

#include <stdint.h>
#include <string.h>

static inline float cpu_exp2(float x)
{
    x = x < EXP2_MIN ? EXP2_MIN : x;
    x = x > EXP2_MAX ? EXP2_MAX : x;
    float n = nearbyintf(x);
    float p = exact_math_exp2_near_0(x - n);
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

#endif
