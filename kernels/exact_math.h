/* kernels/exact_math.h: what every backend and instruction set computes operation by operation, so
 * that all agree to the bit. A product is added to something by fma alone: there is nothing here
 * that a compiler could fuse.
 *
 * exp2: n = round_even(x); polynomial of degree 5 in x - n on [-0.5, 0.5] by Horner with fma;
 * scaled by 2^n through the exponent field, x clamped to [-126, 126] first (so no denormal
 * appears).
 *
 * Sine and cosine of an angle, in double:
 *
 *   n = round_even(angle * 2/pi)
 *   r = (angle - n * HI) - n * LO      HI + LO = pi/2; each difference is one fma, and the first is
 *                                      exact for |angle| < 2^31
 *   sin r: odd Taylor terms to r^15 (rest < 5e-17); cos r: even ones to r^16
 *   the quadrant n mod 4 swaps the two and sets the signs
 */
#ifndef QUIRE_KERNELS_EXACT_MATH_H
#define QUIRE_KERNELS_EXACT_MATH_H

#include "kernels/host_device.h"

#include <math.h>

#define EXP2_C0 1.00000007f
#define EXP2_C1 0.69314697f
#define EXP2_C2 0.2402212f
#define EXP2_C3 0.05550713f
#define EXP2_C4 0.00967554f
#define EXP2_C5 0.00132765f
#define EXP2_MIN (-126.0f)
#define EXP2_MAX 126.0f
#define LOG2_E 1.44269504f

#define SINCOS_TWO_OVER_PI 0x1.45f306dc9c883p-1
#define SINCOS_HALF_PI_HI 0x1.921fb54442d18p+0
#define SINCOS_HALF_PI_LO 0x1.1a62633145c07p-54
/* added and taken away: rounds to an integer, left in the low bits */
#define SINCOS_ROUNDER 0x1.8p+52

/* 2^t for t in [-0.5, 0.5] */
HOST_DEVICE float exact_math_exp2_near_0(float t)
{
    float p = EXP2_C5;
    p = fmaf(p, t, EXP2_C4);
    p = fmaf(p, t, EXP2_C3);
    p = fmaf(p, t, EXP2_C2);
    p = fmaf(p, t, EXP2_C1);
    return fmaf(p, t, EXP2_C0);
}

/* Sine and cosine of angle - n pi/2, which is within [-pi/4, pi/4]. */
HOST_DEVICE void exact_math_sincos_near_0(double angle, double n, double *sine, double *cosine)
{
    double r = fma(-n, SINCOS_HALF_PI_HI, angle);
    r = fma(-n, SINCOS_HALF_PI_LO, r);

    double z = r * r;
    double s = -1.0 / 1307674368000.0; /* 1/15! */
    s = fma(s, z, 1.0 / 6227020800.0);
    s = fma(s, z, -1.0 / 39916800.0);
    s = fma(s, z, 1.0 / 362880.0);
    s = fma(s, z, -1.0 / 5040.0);
    s = fma(s, z, 1.0 / 120.0);
    s = fma(s, z, -1.0 / 6.0);
    *sine = fma(s * z, r, r);
    double c = 1.0 / 20922789888000.0; /* 1/16! */
    c = fma(c, z, -1.0 / 87178291200.0);
    c = fma(c, z, 1.0 / 479001600.0);
    c = fma(c, z, -1.0 / 3628800.0);
    c = fma(c, z, 1.0 / 40320.0);
    c = fma(c, z, -1.0 / 720.0);
    c = fma(c, z, 1.0 / 24.0);
    c = fma(c, z, -0.5);
    *cosine = fma(c, z, 1.0);
}

/* Natural logarithm of a finite x > 0, for thresholds and reported log-probabilities; error below
 * 1e-15 of the larger of 1 and the result. x = m * 2^e with m in [sqrt(1/2), sqrt(2)); ln m =
 * 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.172, terms to s^23. */
HOST_DEVICE double exact_math_ln(double x)
{
    const double ln_2 = 0x1.62e42fefa39efp-1;
    int e;
    double m = frexp(x, &e);
    if (m < 0x1.6a09e667f3bcdp-1) {
        m *= 2;
        e--;
    }
    double s = (m - 1.0) / (m + 1.0);
    double z = s * s;
    double sum = 1.0 / 23;
    for (int k = 21; k >= 1; k -= 2)
        sum = fma(sum, z, 1.0 / k);
    return fma((double)e, ln_2, 2.0 * s * sum);
}

#endif
