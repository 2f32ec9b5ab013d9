/* kernels/cpu/cpu_wide_avx512.h: many rows with wide blocks.
 *
 *   wide block   w 8 x 64 unsigned bytes | d 16 f32 (TWO: two) | m 16 f32 (with minima: one or two)
 *
 * The bytes of ONE stand 128 above the values, those of TWO 32.
 */
#ifndef QUIRE_KERNELS_CPU_WIDE_AVX512_H
#define QUIRE_KERNELS_CPU_WIDE_AVX512_H

#include "kernels/cpu/cpu_dot_avx512.h"

INLINE int wide_offset(const enum cpu_form form)
{
    return form == FORM_ONE ? 128 : form == FORM_TWO ? 32 : 0;
}

#define WIDE_SCALES(form) ((form) == FORM_ONE ? 1 : (form) == FORM_ONE_TWO_MINIMA ? 3 : 2)
#define WIDE_BYTES(form) (TILE_BYTES_BYTES + WIDE_SCALES(form) * TILE_ROWS * sizeof(float))

INLINE void multiply_wide(const struct cpu_span *span, const enum cpu_form form, const bool is_16,
                          const int m)
{
    const size_t row_bytes = row_bytes_of(is_16);
    const uint8_t *x = (const uint8_t *)span->rows + span->begin * m * row_bytes;
    const uint8_t *wide = span->wide;
    __m512 acc[PANEL_ROWS];
    UNROLL(12)
    for (int i = 0; i < m; i++)
        acc[i] = _mm512_load_ps(span->acc + i * TILE_ROWS);

    for (uint32_t b = span->begin; b < span->end; b++, x += m * row_bytes) {
        const float *scales = (const float *)(wide + TILE_BYTES_BYTES);
        __m512i w[8];
        __m512 scale[3];
        UNROLL(8)
        for (int g = 0; g < 8; g++)
            w[g] = _mm512_load_si512((const __m512i *)(wide + 64 * g));
        scale[0] = scale[1] = scale[2] = _mm512_load_ps(scales);
        if (WIDE_SCALES(form) > 1)
            scale[1] = _mm512_load_ps(scales + TILE_ROWS);
        if (WIDE_SCALES(form) > 2)
            scale[2] = _mm512_load_ps(scales + 2 * TILE_ROWS);
        wide += WIDE_BYTES(form);
        UNROLL(12)
        for (int i = 0; i < m; i++) {
            struct panel_row row = panel_row_of(x, is_16, m, i);
            acc[i] = chain_block(form, is_16, wide_offset(form), w, scale, scale + 1, &row, acc[i]);
        }
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
