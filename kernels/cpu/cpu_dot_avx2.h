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

/* The activations of a block as 16-bit values: 32-bit lane g holds values 4g and 4g + 2 (even), 4g
 * + 1 and 4g + 3 (odd). */
struct wide_row {
    __m256i even, odd;
};

INLINE struct wide_row widen_row(const struct panel_row *x, const bool is_16)
{
    __m256i first = _mm256_loadu_si256((const __m256i *)x->hi);
    struct wide_row out;
    if (!is_16) {
        out.even = _mm256_srai_epi16(_mm256_slli_epi16(first, 8), 8);
        out.odd = _mm256_srai_epi16(first, 8);
        return out;
    }
    __m256i lo = _mm256_loadu_si256((const __m256i *)x->lo);
    out.even = _mm256_add_epi16(_mm256_slli_epi16(first, 8),
                                _mm256_srai_epi16(_mm256_slli_epi16(lo, 8), 8));
    out.odd = _mm256_add_epi16(_mm256_and_si256(first, _mm256_set1_epi16((short)0xff00)),
                               _mm256_srai_epi16(lo, 8));
    return out;
}

/* Bytes of weights, the offset taken off, as 16-bit values in the same two orders. */
INLINE struct wide_row widen_weights(__m256i bytes, const int offset)
{
    __m256i w = _mm256_sub_epi8(bytes, _mm256_set1_epi8((char)offset));
    return (struct wide_row){_mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8),
                             _mm256_srai_epi16(w, 8)};
}

#endif
