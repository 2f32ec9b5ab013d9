/* kernels/cuda/cuda_math.cuh: the functions of kernels/cpu/cpu_math.h and cpu_philox.h on a GPU,
 * the same bits: products and sums are written so that no compiler fuses them.
 */
#ifndef QUIRE_KERNELS_CUDA_MATH_CUH
#define QUIRE_KERNELS_CUDA_MATH_CUH

#include "kernels/cuda/platform.cuh"

#include <math.h>

extern "C" {
#include "kernels/cpu/cpu_math.h"
}

static __device__ __forceinline__ float cuda_exp2(float x)
{
    x = x < EXP2_MIN ? EXP2_MIN : x;
    x = x > EXP2_MAX ? EXP2_MAX : x;
    float n = rintf(x);
    float t = __fadd_rn(x, -n);
    float p = EXP2_C5;
    p = fmaf(p, t, EXP2_C4);
    p = fmaf(p, t, EXP2_C3);
    p = fmaf(p, t, EXP2_C2);
    p = fmaf(p, t, EXP2_C1);
    p = fmaf(p, t, EXP2_C0);
    int32_t scale = n == n ? (int32_t)n * (1 << 23) : 0; /* a NaN stays one */
    return __int_as_float(__float_as_int(p) + scale);
}

/* e^x */
static __device__ __forceinline__ float cuda_exp(float x)
{
    return cuda_exp2(__fmul_rn(x, LOG2_E));
}

/* Natural logarithm of a finite x > 0. */
static __device__ __forceinline__ double cuda_ln(double x)
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

/* Philox4x32-10: words 0 (low) and 1 (high). */
static __device__ __forceinline__ uint64_t cuda_philox(uint64_t seed, uint32_t choice_idx,
                                                       uint64_t position)
{
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    uint32_t c0 = (uint32_t)position, c1 = (uint32_t)(position >> 32), c2 = choice_idx, c3 = 0;
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ key0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ key1;
        c3 = (uint32_t)a;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return (uint64_t)c1 << 32 | c0;
}

#endif
