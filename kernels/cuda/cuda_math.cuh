/* kernels/cuda/cuda_math.cuh: the functions of kernels/cpu/cpu_math.h on a GPU, the same bits:
 * products and sums are written so that no compiler fuses them.
 */
#ifndef QUIRE_KERNELS_CUDA_MATH_CUH
#define QUIRE_KERNELS_CUDA_MATH_CUH

#include "kernels/cuda/platform.cuh"

#include <math.h>

extern "C" {
#include "kernels/exact_math.h"
}

static __device__ __forceinline__ float cuda_exp2(float x)
{
    x = x < EXP2_MIN ? EXP2_MIN : x;
    x = x > EXP2_MAX ? EXP2_MAX : x;
    float n = rintf(x);
    float p = exact_math_exp2_near_0(__fadd_rn(x, -n));
    int32_t scale = n == n ? (int32_t)n * (1 << 23) : 0; /* a NaN stays one */
    return __int_as_float(__float_as_int(p) + scale);
}

/* e^x */
static __device__ __forceinline__ float cuda_exp(float x)
{
    return cuda_exp2(__fmul_rn(x, LOG2_E));
}

static __device__ __forceinline__ void cuda_sincos(double angle, double *sine, double *cosine)
{
    double shifted = __dadd_rn(__dmul_rn(angle, SINCOS_TWO_OVER_PI), SINCOS_ROUNDER), s, c;
    unsigned quadrant = (unsigned)__double_as_longlong(shifted) & 3;
    exact_math_sincos_near_0(angle, shifted - SINCOS_ROUNDER, &s, &c);
    double of_sine = (quadrant & 1) != 0 ? c : s, of_cosine = (quadrant & 1) != 0 ? s : c;
    *sine = (quadrant & 2) != 0 ? -of_sine : of_sine;
    *cosine = ((quadrant + 1) & 2) != 0 ? -of_cosine : of_cosine;
}

#endif
