/* kernels/cpu/cpu_dot_avx2.h: the float steps of a chain, for 8 rows of weights. */
#ifndef QUIRE_KERNELS_CPU_DOT_AVX2_H
#define QUIRE_KERNELS_CPU_DOT_AVX2_H

#include "kernels/cpu/cpu_vector_avx2.h"

INLINE __m256i broadcast4(const void *bytes)
{
    return _mm256_set1_epi32(int_at(bytes));
}

INLINE __m256 add_block(__m256i s, __m256 d, const struct panel_row *x, __m256 acc)
{
    __m256 scale = _mm256_mul_ps(d, _mm256_set1_ps(float_at(x->da)));
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(s), scale, acc);
}

/* The same without d. */
INLINE __m256 add_product(__m256i s, const struct panel_row *x, __m256 t)
{
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(s), _mm256_set1_ps(float_at(x->da)), t);
}

/* m: one minimum, or that of both halves */
INLINE __m256 add_minima(const enum cpu_form form, const __m256 *m, const struct panel_row *x,
                         __m256 acc)
{
    if (form == FORM_ONE_MINIMUM)
        return _mm256_fmadd_ps(m[0], _mm256_set1_ps(float_at(x->sa)), acc);
    if (form == FORM_ONE_TWO_MINIMA) {
        int32_t nb = int_at(x->nb), nh = int_at(x->nh);
        float da = float_at(x->da), first = da * (float)(-nh >> 7);
        float second = da * (float)((nh - nb) >> 7);
        acc = _mm256_fmadd_ps(m[0], _mm256_set1_ps(first), acc);
        acc = _mm256_fmadd_ps(m[1], _mm256_set1_ps(second), acc);
    }
    return acc;
}

#endif
