/* kernels/cpu/cpu_wide_avx2.h: many rows with wide blocks: signed 16-bit weights and activations
 * by pmaddwd, which takes no second pass for the low bytes.
 *
 *   wide block   w 16 x 64 bytes: signed 16-bit, two k of 16 rows; of TWO code times scale
 *                d 16 f32 | m 16 f32 (with minima: one or two)
 */
#ifndef QUIRE_KERNELS_CPU_WIDE_AVX2_H
#define QUIRE_KERNELS_CPU_WIDE_AVX2_H

#include "kernels/cpu/cpu_dot_avx2.h"

#define WIDE_CODES_BYTES 1024
#define WIDE_SCALES(form)                                                                          \
    ((form) == FORM_ONE_MINIMUM ? 2 : (form) == FORM_ONE_TWO_MINIMA ? 3 : 1)
#define WIDE_BYTES(form, is_16) (WIDE_CODES_BYTES + WIDE_SCALES(form) * TILE_ROWS * sizeof(float))
#define PASS_ROWS 4 /* eight sums: twelve fill the registers, and gcc keeps some in memory */

/* The values of a row in a block, 16 bits each. */
struct wide_row {
    __m256i x[2];
};

INLINE struct wide_row widen_row(const struct panel_row *x)
{
    const __m128i *bytes = (const __m128i *)x->x;
    return (struct wide_row){{_mm256_cvtepi8_epi16(_mm_loadu_si128(bytes)),
                              _mm256_cvtepi8_epi16(_mm_loadu_si128(bytes + 1))}};
}

/* n rows over a block, and its float steps; acc is t of FORM_TWO. */
INLINE void multiply_pass(const enum cpu_form form, const uint8_t *wide, const uint8_t *rows,
                          const struct panel_row *panel, const int n, float *acc)
{
    const float *scales = (const float *)(wide + WIDE_CODES_BYTES);
    __m256i s[2][PASS_ROWS];
    UNROLL(4)
    for (int i = 0; i < n; i++)
        s[0][i] = s[1][i] = _mm256_setzero_si256();
    UNROLL(4)
    for (int g = 0; g < 16; g++) {
        __m256i w0 = _mm256_load_si256((const __m256i *)(wide + 64 * g));
        __m256i w1 = _mm256_load_si256((const __m256i *)(wide + 64 * g + 32));
        UNROLL(4)
        for (int i = 0; i < n; i++) {
            __m256i x = broadcast4(rows + i * sizeof(struct wide_row) + 4 * g);
            s[0][i] = _mm256_add_epi32(s[0][i], _mm256_madd_epi16(w0, x));
            s[1][i] = _mm256_add_epi32(s[1][i], _mm256_madd_epi16(w1, x));
        }
    }
    UNROLL(2)
    for (int part = 0; part < 2; part++) {
        __m256 d = _mm256_load_ps(scales + VEC_ROWS * part);
        __m256 m[2] = {d, d};
        if (form == FORM_ONE_MINIMUM || form == FORM_ONE_TWO_MINIMA)
            m[0] = _mm256_load_ps(scales + TILE_ROWS + VEC_ROWS * part);
        if (form == FORM_ONE_TWO_MINIMA)
            m[1] = _mm256_load_ps(scales + 2 * TILE_ROWS + VEC_ROWS * part);
        UNROLL(4)
        for (int i = 0; i < n; i++) {
            float *at = acc + i * TILE_ROWS + VEC_ROWS * part;
            __m256 sum = _mm256_load_ps(at);
            if (form == FORM_TWO)
                sum = add_product(s[part][i], &panel[i], sum);
            else
                sum = add_minima(form, m, &panel[i], add_block(s[part][i], d, &panel[i], sum));
            _mm256_store_ps(at, sum);
        }
    }
}

/* The end of a group of FORM_TWO: t goes into acc, and begins anew. */
INLINE void end_group(const float *d, const int m, float *t, float *acc)
{
    for (int i = 0; i < m * TILE_ROWS; i += VEC_ROWS) {
        __m256 sum = _mm256_fmadd_ps(_mm256_load_ps(t + i), _mm256_load_ps(d + i % TILE_ROWS),
                                     _mm256_load_ps(acc + i));
        _mm256_store_ps(acc + i, sum);
        _mm256_store_ps(t + i, _mm256_setzero_ps());
    }
}

INLINE void multiply_wide(const struct cpu_span *span, const enum cpu_form form, const bool is_16,
                          const int m)
{
    const size_t row_bytes = row_bytes_of(is_16);
    const uint8_t *x = (const uint8_t *)span->rows + span->begin * m * row_bytes;
    const uint8_t *wide = span->wide;
    _Alignas(32) float t[PANEL_ROWS * TILE_ROWS] = {0};
    float *acc = form == FORM_TWO ? t : span->acc;
    for (uint32_t b = span->begin; b < span->end; b++, x += m * row_bytes) {
        struct wide_row widened[PANEL_ROWS];
        struct panel_row panel[PANEL_ROWS];
        UNROLL(12)
        for (int i = 0; i < m; i++) {
            panel[i] = panel_row_of(x, is_16, m, i);
            if (!is_16)
                widened[i] = widen_row(&panel[i]);
        }
        const uint8_t *rows = is_16 ? x : (const uint8_t *)widened;
        UNROLL(3)
        for (int i = 0; i < m; i += PASS_ROWS)
            multiply_pass(form, wide, rows + i * sizeof *widened, panel + i,
                          m - i < PASS_ROWS ? m - i : PASS_ROWS, acc + i * TILE_ROWS);
        if (form == FORM_TWO && b % GROUP_BLOCKS == GROUP_BLOCKS - 1)
            end_group((const float *)(wide + WIDE_CODES_BYTES), m, t, span->acc);
        wide += WIDE_BYTES(form, is_16);
    }
}

#define WIDE_KERNEL(name, m, form, is_16)                                                          \
    static void name##_##m(const struct cpu_span *span)                                            \
    {                                                                                              \
        multiply_wide(span, form, is_16, m);                                                       \
    }

#endif
