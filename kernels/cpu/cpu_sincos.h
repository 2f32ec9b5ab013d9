/* kernels/cpu/cpu_sincos.h: sine and cosine of an angle in double, without branches, so that every
 * instruction set may compile it over several angles at once and get the same bits. exact_math.h
 * says how.
 */
#ifndef QUIRE_KERNELS_CPU_SINCOS_H
#define QUIRE_KERNELS_CPU_SINCOS_H

#include "kernels/exact_math.h"

#include <stdint.h>
#include <string.h>

static inline void cpu_sincos_body(double angle, double *sine, double *cosine)
{
    double shifted = angle * SINCOS_TWO_OVER_PI + SINCOS_ROUNDER, s, c;
    uint64_t quadrant;
    memcpy(&quadrant, &shifted, sizeof quadrant);
    exact_math_sincos_near_0(angle, shifted - SINCOS_ROUNDER, &s, &c);

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
