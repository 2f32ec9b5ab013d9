/* kernels/cpu/cpu_dot_avx512.h: the chain of a block and a row: 16 rows of weights in one register
 * each, unsigned bytes against signed ones. */
#ifndef QUIRE_KERNELS_CPU_DOT_AVX512_H
#define QUIRE_KERNELS_CPU_DOT_AVX512_H

#include "kernels/cpu/cpu_vector_avx512.h"

INLINE __m512i broadcast4(const uint8_t *bytes)
{
    return _mm512_set1_epi32(int_at(bytes));
}

/* start + the exact sum over words [begin, end) of a block, in two chains. */
INLINE __m512i dot_words(const bool is_16, const __m512i *w, const int begin, const int end,
                         __m512i start, const struct panel_row *x)
{
    __m512i s = _mm512_setzero_si512(), t = start;
    UNROLL(8)
    for (int g = begin; g < end; g++) {
        if (is_16) {
            s = _mm512_dpbusd_epi32(s, w[g], broadcast4(x->hi + 4 * g));
            t = _mm512_dpbusd_epi32(t, w[g], broadcast4(x->lo + 4 * g));
        } else if (g % 2 == 0) {
            s = _mm512_dpbusd_epi32(s, w[g], broadcast4(x->hi + 4 * g));
        } else {
            t = _mm512_dpbusd_epi32(t, w[g], broadcast4(x->hi + 4 * g));
        }
    }
    return _mm512_add_epi32(is_16 ? _mm512_slli_epi32(s, 8) : s, t);
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

INLINE __m512 chain_block(const enum cpu_form form, const bool is_16, const int offset,
                          const __m512i *w, const __m512 *d, const __m512 *m,
                          const struct panel_row *x, __m512 acc)
{
    __m512 da = _mm512_set1_ps(float_at(x->da));
    if (form == FORM_TWO) {
        __m512i nb = broadcast4(x->nb), nh = broadcast4(x->nh);
        __m512i first = dot_words(is_16, w, 0, 4, start_of(offset, nh), x);
        __m512i second =
            dot_words(is_16, w, 4, 8, start_of(offset, _mm512_sub_epi32(nb, nh)), x);
        acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(first), _mm512_mul_ps(d[0], da), acc);
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(second), _mm512_mul_ps(d[1], da), acc);
    }
    __m512i start = offset == 0 ? _mm512_setzero_si512() : start_of(offset, broadcast4(x->nb));
    __m512i s = dot_words(is_16, w, 0, 8, start, x);
    acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(s), _mm512_mul_ps(d[0], da), acc);
    if (form == FORM_ONE_MINIMUM)
        acc = _mm512_fmadd_ps(m[0], _mm512_set1_ps(float_at(x->sa)), acc);
    if (form == FORM_ONE_TWO_MINIMA) {
        __m512i nb = broadcast4(x->nb), nh = broadcast4(x->nh);
        __m512i first = _mm512_srai_epi32(_mm512_sub_epi32(_mm512_setzero_si512(), nh), 7);
        __m512i second = _mm512_srai_epi32(_mm512_sub_epi32(nh, nb), 7);
        acc = _mm512_fmadd_ps(m[0], _mm512_mul_ps(da, _mm512_cvtepi32_ps(first)), acc);
        acc = _mm512_fmadd_ps(m[1], _mm512_mul_ps(da, _mm512_cvtepi32_ps(second)), acc);
    }
    return acc;
}

#endif
