/* kernels/cpu/cpu_wide_avx512.h: many rows with wide blocks.
 *
 *   wide block   w 16 x 64 bytes: signed 16-bit, two k of 16 rows     of 16-bit activations
 *                w  8 x 64 bytes: unsigned bytes, four k of 16 rows   of int8 activations
 *                d 16 f32 | m 16 f32 (with minima: one or two)
 *
 * Of TWO the 16-bit values are code times scale; of bytes, two times 16 scales i32 stand behind d.
 * The bytes of ONE stand 128 above the values, those of TWO 32. The sums of all rows grow side by
 * side, word by word of the weights, so that about ten chains hide the latency of one; a few rows
 * have several chains each.
 */
#ifndef QUIRE_KERNELS_CPU_WIDE_AVX512_H
#define QUIRE_KERNELS_CPU_WIDE_AVX512_H

#include "kernels/cpu/cpu_dot_avx512.h"

INLINE int wide_offset(const enum cpu_form form)
{
    return form == FORM_ONE ? 128 : form == FORM_TWO ? 32 : 0;
}

#define WIDE_WORDS(is_16) ((is_16) ? 16 : 8) /* of 4 bytes of a row */
#define WIDE_MINIMA(form) ((form) == FORM_ONE_MINIMUM ? 1 : (form) == FORM_ONE_TWO_MINIMA ? 2 : 0)
#define WIDE_SCALES(form, is_16) (1 + ((form) == FORM_TWO && !(is_16) ? 2 : WIDE_MINIMA(form)))
#define WIDE_BYTES(form, is_16)                                                                    \
    (64 * WIDE_WORDS(is_16) + WIDE_SCALES(form, is_16) * TILE_ROWS * sizeof(float))

/* What the sum of half `half` of `n_halves` begins with. */
INLINE __m512i wide_start(const enum cpu_form form, const bool is_16, const int half,
                          const struct panel_row *x)
{
    if (is_16 || wide_offset(form) == 0)
        return _mm512_setzero_si512();
    if (form != FORM_TWO)
        return start_of(wide_offset(form), broadcast4(x->nb));
    __m512i nh = broadcast4(x->nh);
    return start_of(wide_offset(form), half == 0 ? nh : _mm512_sub_epi32(broadcast4(x->nb), nh));
}

/* The sums s[0][m] of a block with all rows; of bytes of TWO, of half `half` of it. */
INLINE void sum_words(const enum cpu_form form, const bool is_16, const int m, const int half,
                      const uint8_t *wide, const uint8_t *block, __m512i s[4][PANEL_ROWS])
{
    const int n_words = form == FORM_TWO && !is_16 ? WIDE_WORDS(is_16) / 2 : WIDE_WORDS(is_16);
    const int n_chains = m <= 3 ? 4 : m <= 6 ? 2 : 1;
    UNROLL(12)
    for (int i = 0; i < m; i++) {
        struct panel_row x = panel_row_of(block, is_16, m, i);
        s[0][i] = wide_start(form, is_16, half, &x);
        for (int chain = 1; chain < n_chains; chain++)
            s[chain][i] = _mm512_setzero_si512();
    }
    UNROLL(16)
    for (int g = half * n_words; g < (half + 1) * n_words; g++) {
        __m512i w = _mm512_load_si512((const __m512i *)(wide + 64 * g));
        UNROLL(12)
        for (int i = 0; i < m; i++) {
            __m512i x = broadcast4(panel_row_of(block, is_16, m, i).x + 4 * g);
            __m512i *sum = &s[g % n_chains][i];
            *sum = is_16 ? _mm512_dpwssd_epi32(*sum, w, x) : _mm512_dpbusd_epi32(*sum, w, x);
        }
    }
    UNROLL(12)
    for (int i = 0; i < m; i++)
        for (int chain = 1; chain < n_chains; chain++)
            s[0][i] = _mm512_add_epi32(s[0][i], s[chain][i]);
}

/* A block with all rows, and its float steps. */
INLINE void multiply_words(const enum cpu_form form, const bool is_16, const int m,
                           const uint8_t *wide, const uint8_t *block, __m512 *acc)
{
    __m512i s[4][PANEL_ROWS];
    sum_words(form, is_16, m, 0, wide, block, s);
    const float *scales = (const float *)(wide + 64 * WIDE_WORDS(is_16));
    const __m512 d = _mm512_load_ps(scales);
    __m512 minima[2] = {d, d};
    for (int i = 0; i < WIDE_MINIMA(form); i++)
        minima[i] = _mm512_load_ps(scales + TILE_ROWS * (i + 1));
    UNROLL(12)
    for (int i = 0; i < m; i++) {
        struct panel_row x = panel_row_of(block, is_16, m, i);
        acc[i] = add_minima(form, minima, &x, add_block(s[0][i], d, &x, acc[i]));
    }
}

/* One block of FORM_TWO with all rows: what stands for t. */
INLINE void multiply_two(const bool is_16, const int m, const uint8_t *wide, const uint8_t *block,
                         __m512 *t)
{
    __m512i s[4][PANEL_ROWS], rest[4][PANEL_ROWS];
    sum_words(FORM_TWO, is_16, m, 0, wide, block, s);
    if (!is_16) {
        const int32_t *scales = (const int32_t *)(wide + 64 * WIDE_WORDS(is_16)) + TILE_ROWS;
        const __m512i first = _mm512_load_si512(scales);
        const __m512i second = _mm512_load_si512(scales + TILE_ROWS);
        UNROLL(12)
        for (int i = 0; i < m; i++)
            s[0][i] = _mm512_mullo_epi32(s[0][i], first);
        sum_words(FORM_TWO, is_16, m, 1, wide, block, rest);
        UNROLL(12)
        for (int i = 0; i < m; i++)
            s[0][i] = _mm512_add_epi32(s[0][i], _mm512_mullo_epi32(rest[0][i], second));
    }
    UNROLL(12)
    for (int i = 0; i < m; i++) {
        struct panel_row x = panel_row_of(block, is_16, m, i);
        t[i] = add_product(s[0][i], &x, t[i]);
    }
}

INLINE void multiply_groups(const struct cpu_span *span, const bool is_16, const int m)
{
    const size_t row_bytes = row_bytes_of(is_16), wide_bytes = WIDE_BYTES(FORM_TWO, is_16);
    const uint8_t *x = (const uint8_t *)span->rows + span->begin * m * row_bytes;
    const uint8_t *wide = span->wide;
    for (uint32_t b = span->begin; b < span->end; b += GROUP_BLOCKS) {
        __m512 t[PANEL_ROWS];
        UNROLL(12)
        for (int i = 0; i < m; i++)
            t[i] = _mm512_setzero_ps();
        for (int i = 0; i < GROUP_BLOCKS; i++, x += m * row_bytes, wide += wide_bytes)
            multiply_two(is_16, m, wide, x, t);
        const __m512 d =
            _mm512_load_ps((const float *)(wide - wide_bytes + 64 * WIDE_WORDS(is_16)));
        UNROLL(12)
        for (int i = 0; i < m; i++) {
            float *acc = span->acc + i * TILE_ROWS;
            _mm512_store_ps(acc, _mm512_fmadd_ps(t[i], d, _mm512_load_ps(acc)));
        }
    }
}

INLINE void multiply_wide(const struct cpu_span *span, const enum cpu_form form, const bool is_16,
                          const int m)
{
    const size_t row_bytes = row_bytes_of(is_16);
    const uint8_t *x = (const uint8_t *)span->rows + span->begin * m * row_bytes;
    const uint8_t *wide = span->wide;
    if (form == FORM_TWO) {
        multiply_groups(span, is_16, m);
        return;
    }
    __m512 acc[PANEL_ROWS];
    UNROLL(12)
    for (int i = 0; i < m; i++)
        acc[i] = _mm512_load_ps(span->acc + i * TILE_ROWS);
    for (uint32_t b = span->begin; b < span->end; b++, x += m * row_bytes) {
        multiply_words(form, is_16, m, wide, x, acc);
        wide += WIDE_BYTES(form, is_16);
    }
    UNROLL(12)
    for (int i = 0; i < m; i++)
        _mm512_store_ps(span->acc + i * TILE_ROWS, acc[i]);
}

#define WIDE_KERNEL(name, m, form, is_16)                                                          \
    static void name##_##m(const struct cpu_span *span)                                            \
    {                                                                                              \
        multiply_wide(span, form, is_16, m);                                                       \
    }

#endif
