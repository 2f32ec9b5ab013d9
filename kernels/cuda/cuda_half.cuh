/* kernels/cuda/cuda_half.cuh: f16 rows with a scale: a power of two that is 1 unless the row's
 * greatest magnitude passes f16. Magnitudes are compared as bits, so that a NaN is greater than
 * any number whatever the order.
 */
#ifndef QUIRE_KERNELS_CUDA_HALF_CUH
#define QUIRE_KERNELS_CUDA_HALF_CUH

#include "kernels/cuda/platform.cuh"

#define F16_MAX 65504.0f

/* The power of two that brings a magnitude, given as bits, below 2^15; 0 where f16 holds it. */
static __device__ __forceinline__ int exponent_beyond_f16(uint32_t greatest)
{
    if (greatest <= __float_as_uint(F16_MAX))
        return 0;
    return (int)(greatest >> 23) - 127 + 1 - 15;
}

static __device__ __forceinline__ float power_of_two(int exponent)
{
    return __uint_as_float((uint32_t)(exponent + 127) << 23);
}

/* value / scale, rounded once; scale is a power of two */
static __device__ __forceinline__ uint16_t half_over(float value, float scale)
{
    float inverse = __uint_as_float((254u << 23) - __float_as_uint(scale));
    __half_raw rounded = __float2half_rn(__fmul_rn(value, inverse));
    return rounded.x;
}

/* Round to even. */
static __device__ __forceinline__ uint16_t half_bits(float value)
{
    __half_raw rounded = __float2half_rn(value);
    return rounded.x;
}

static __device__ __forceinline__ float float_of_half(uint32_t bits)
{
    __half_raw raw;
    raw.x = (unsigned short)bits;
    return __half2float(__half(raw));
}

/* Values beyond f16's range become its ends; NaN stays. */
static __device__ __forceinline__ float within_f16(float value)
{
    value = value > F16_MAX ? F16_MAX : value;
    return value < -F16_MAX ? -F16_MAX : value;
}

#endif
