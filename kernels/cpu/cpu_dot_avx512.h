/* kernels/cpu/cpu_dot_avx512.h: the float steps of a chain, for 16 rows of weights, and what sums
 * of unsigned bytes begin with. */
#ifndef QUIRE_KERNELS_CPU_DOT_AVX512_H
#define QUIRE_KERNELS_CPU_DOT_AVX512_H

#include "kernels/cpu/cpu_vector_avx512.h"

INLINE __m512i broadcast4(const uint8_t *bytes)
{
    return _mm512_set1_epi32(int_at(bytes));
}

/* -offset * sum, of n = -128 * sum */
INLINE __m512i start_of(const int offset, __m512i n)
{
    return offset == 0     ? _mm512_setzero_si512()
           : offset == 8   ? _mm512_srai_epi32(n, 4)
           : offset == 16  ? _mm512_srai_epi32(n, 3)
           : offset == 32  ? _mm512_srai_epi32(n, 2)
                           : n;
}

INLINE __m512 add_block(__m512i s, __m512 d, const struct panel_row *x, __m512 acc)
{
    __m512 scale = _mm512_mul_ps(d, _mm512_set1_ps(float_at(x->da)));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(s), scale, acc);
}

/* The same without d. */
INLINE __m512 add_product(__m512i s, const struct panel_row *x, __m512 t)
{
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(s), _mm512_set1_ps(float_at(x->da)), t);
}

/* m: one minimum, or that of both halves */
INLINE __m512 add_minima(const enum cpu_form form, const __m512 *m, const struct panel_row *x,
                         __m512 acc)
{
    if (form == FORM_ONE_MINIMUM)
        return _mm512_fmadd_ps(m[0], _mm512_set1_ps(float_at(x->sa)), acc);
    if (form == FORM_ONE_TWO_MINIMA) {
        __m512i nb = broadcast4(x->nb), nh = broadcast4(x->nh);
        __m512 da = _mm512_set1_ps(float_at(x->da));
        __m512i first = _mm512_srai_epi32(_mm512_sub_epi32(_mm512_setzero_si512(), nh), 7);
        __m512i second = _mm512_srai_epi32(_mm512_sub_epi32(nh, nb), 7);
        acc = _mm512_fmadd_ps(m[0], _mm512_mul_ps(da, _mm512_cvtepi32_ps(first)), acc);
        acc = _mm512_fmadd_ps(m[1], _mm512_mul_ps(da, _mm512_cvtepi32_ps(second)), acc);
    }
    return acc;
}

#endif
