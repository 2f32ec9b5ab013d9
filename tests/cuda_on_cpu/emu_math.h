/* tests/cuda_on_cpu/emu_math.h: device functions that CUDA's headers leave out in host mode.
 *
 * Each is exactly what CUDA documents, except the approximate ones (exp2_approx, rsqrtf), which are
 * as exact as libm: kernels that must agree with the CPU to the bit do not use them.
 */
#ifndef QUIRE_EMU_MATH_H
#define QUIRE_EMU_MATH_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "tests/cuda_on_cpu/emu_block.h"

template <class T> static inline T min(T a, T b)
{
    return b < a ? b : a;
}

template <class T> static inline T max(T a, T b)
{
    return a < b ? b : a;
}

/* as on the device: a NaN gives way to the number */
static inline float min(float a, float b)
{
    return fminf(a, b);
}

static inline float max(float a, float b)
{
    return fmaxf(a, b);
}

/* --- f32, round to nearest even --- */

static inline float __fadd_rn(float a, float b)
{
    return a + b;
}

static inline float __fmul_rn(float a, float b)
{
    return a * b;
}

static inline float __fdiv_rn(float a, float b)
{
    return a / b;
}

static inline float __fsqrt_rn(float a)
{
    return sqrtf(a);
}

static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}

static inline float rsqrtf(float a)
{
    return (float)(1.0 / sqrt((double)a));
}

static inline float exp2_approx(float a)
{
    return exp2f(a);
}

/* --- f64, the same --- */

static inline double __dadd_rn(double a, double b)
{
    return a + b;
}

static inline double __dmul_rn(double a, double b)
{
    return a * b;
}

/* --- bits --- */

template <class To, class From> static inline To emu_bits(From from)
{
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

static inline unsigned __float_as_uint(float a)
{
    return emu_bits<unsigned>(a);
}

static inline int __float_as_int(float a)
{
    return emu_bits<int>(a);
}

static inline float __uint_as_float(unsigned a)
{
    return emu_bits<float>(a);
}

static inline float __int_as_float(int a)
{
    return emu_bits<float>(a);
}

static inline long long __double_as_longlong(double a)
{
    return emu_bits<long long>(a);
}

static inline int __popc(unsigned a)
{
    return __builtin_popcount(a);
}

static inline int __clz(int a)
{
    return a == 0 ? 32 : __builtin_clz((unsigned)a);
}

static inline int __ffs(int a)
{
    return __builtin_ffs(a);
}

static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((uint64_t)a * b >> 32);
}

static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}

/* Byte i of the result is byte (selector >> 4i) & 7 of b:a. Bit 3 there means nothing: the
 * instruction spreads a sign by it, but CUDA's function clears it first, as an H200 showed. */
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector)
{
    uint64_t bytes = (uint64_t)b << 32 | a;
    unsigned out = 0;
    for (int i = 0; i < 4; i++) {
        unsigned chosen = selector >> 4 * i & 7;
        out |= ((unsigned)(bytes >> 8 * chosen) & 255) << 8 * i;
    }
    return out;
}

/* Any function of three bits, bit by bit: table bit a * 4 + b * 2 + c. */
template <int table> static inline uint32_t lop3(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t out = 0;
    for (int i = 0; i < 8; i++)
        if ((table >> i & 1) != 0)
            out |= ((i & 4) != 0 ? a : ~a) & ((i & 2) != 0 ? b : ~b) & ((i & 1) != 0 ? c : ~c);
    return out;
}

/* --- narrow floats --- */

/* Two e4m3 to two halves; an instruction from sm_89 on. */
static inline uint32_t f16x2_of_e4m3x2(uint16_t pair, EMU_SITE_PARAMETERS)
{
    emu_require_sm(89, "cvt of e4m3", EMU_SITE);
    __half2_raw raw = __nv_cvt_fp8x2_to_halfraw2(pair, __NV_E4M3);
    return (uint32_t)raw.x | (uint32_t)raw.y << 16;
}

template <class T> static inline T __ldg(const T *address)
{
    return *address;
}

#endif
