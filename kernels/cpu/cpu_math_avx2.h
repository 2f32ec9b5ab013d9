/* kernels/cpu/cpu_math_avx2.h: the functions of cpu_math.h over a register. Included by *_avx2.c
 * files only. */
#ifndef QUIRE_KERNELS_CPU_MATH_AVX2_H
#define QUIRE_KERNELS_CPU_MATH_AVX2_H

#include <immintrin.h>

#include "kernels/cpu/cpu_math.h"

static inline __attribute__((always_inline)) __m256 cpu_exp2_avx2(__m256 x)
{
    x = _mm256_max_ps(_mm256_set1_ps(EXP2_MIN), x);
    x = _mm256_min_ps(_mm256_set1_ps(EXP2_MAX), x);
    __m256 n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 t = _mm256_sub_ps(x, n);
    __m256 p = _mm256_set1_ps(EXP2_C5);
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(EXP2_C4));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(EXP2_C3));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(EXP2_C2));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(EXP2_C1));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(EXP2_C0));
    __m256i bits = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), bits));
}

#endif
