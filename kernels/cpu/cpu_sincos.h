/* kernels/cpu/cpu_sincos.h: sine and cosine of an angle in double, without branches, so that every
 * instruction set may compile it over several angles at once and get the same bits.
 *
 *   n = round_even(angle * 2/pi)
 *   r = (angle - n * HI) - n * LO      HI + LO = pi/2; each difference is one fma, and the first is
 *                                      exact for |angle| < 2^31
 *   sin r: odd Taylor terms to r^15 (rest < 5e-17); cos r: even ones to r^16
 *   the quadrant n mod 4 swaps the two and sets the signs
 */
#ifndef QUIRE_KERNELS_CPU_SINCOS_H
#define QUIRE_KERNELS_CPU_SINCOS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define SINCOS_TWO_OVER_PI 0x1.45f306dc9c883p-1
#define SINCOS_HALF_PI_HI 0x1.921fb54442d18p+0
#define SINCOS_HALF_PI_LO 0x1.1a62633145c07p-54
/* added and taken away: rounds to an integer, left in the low bits */
#define SINCOS_ROUNDER 0x1.8p+52

static inline void cpu_sincos_body(double angle, double *sine, double *cosine)
{
    double shifted = angle * SINCOS_TWO_OVER_PI + SINCOS_ROUNDER;
    double n = shifted - SINCOS_ROUNDER;
    uint64_t quadrant;
    memcpy(&quadrant, &shifted, sizeof quadrant);
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
    s = fma(s * z, r, r);
    double c = 1.0 / 20922789888000.0; /* 1/16! */
    c = fma(c, z, -1.0 / 87178291200.0);
    c = fma(c, z, 1.0 / 479001600.0);
    c = fma(c, z, -1.0 / 3628800.0);
    c = fma(c, z, 1.0 / 40320.0);
    c = fma(c, z, -1.0 / 720.0);
    c = fma(c, z, 1.0 / 24.0);
    c = fma(c, z, -0.5);
    c = fma(c, z, 1.0);

    uint64_t odd = -(quadrant & 1); /* all ones in quadrants 1 and 3 */
    uint64_t s_bits, c_bits, sine_bits, cosine_bits;
    memcpy(&s_bits, &s, sizeof s_bits);
    memcpy(&c_bits, &c, sizeof c_bits);
    sine_bits = (s_bits & ~odd) | (c_bits & odd);
    cosine_bits = (c_bits & ~odd) | (s_bits & odd);
    sine_bits ^= (quadrant & 2) << 62;
    cosine_bits ^= ((quadrant + 1) & 2) << 62;
    memcpy(sine, &sine_bits, sizeof *sine);
    memcpy(cosine, &cosine_bits, sizeof *cosine);
}

#endif
