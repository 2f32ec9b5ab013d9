/* kernels/cuda/cuda_key.cuh: floats as integers that order as they do: both zeros alike, a NaN
 * above all, 0 below all.
 */
#ifndef QUIRE_KERNELS_CUDA_KEY_CUH
#define QUIRE_KERNELS_CUDA_KEY_CUH

#include "kernels/cuda/platform.cuh"

#define KEY_NAN 0xffffffffu

static __device__ __forceinline__ uint32_t key_of(float x)
{
    uint32_t bits = __float_as_uint(__fadd_rn(x, 0.0f));
    if (x != x)
        return KEY_NAN;
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

static __device__ __forceinline__ float float_of_key(uint32_t key)
{
    return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

#endif
