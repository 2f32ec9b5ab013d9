/* kernels/cpu/cpu_math_avx512.h: the functions of cpu_math.h over a register. Included by
 * *_avx512.c files only. */
#ifndef QUIRE_KERNELS_CPU_MATH_AVX512_H
#define QUIRE_KERNELS_CPU_MATH_AVX512_H

#include <immintrin.h>

#include "kernels/cpu/cpu_math.h"

/* cpu_exp2 of what is at most EXP2_MAX. A NaN passes through each clamp. */
static inline __attribute__((always_inline)) __m512 cpu_exp2_below_avx512(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(EXP2_MIN), x);
    __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 t = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(EXP2_C5);
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(EXP2_C4));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(EXP2_C3));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(EXP2_C2));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(EXP2_C1));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(EXP2_C0));
    __m512i bits = _mm512_slli_epi32(_mm512_cvtps_epi32(n), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), bits));
}

static inline __attribute__((always_inline)) __m512 cpu_exp2_avx512(__m512 x)
{
    return cpu_exp2_below_avx512(_mm512_min_ps(_mm512_set1_ps(EXP2_MAX), x));
}

#endif
