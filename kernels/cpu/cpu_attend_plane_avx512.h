/* kernels/cpu/cpu_attend_plane_avx512.h: the planes of a page, K or V, as 512-bit registers read
 * them: as the page has them, or widened to floats first. For cpu_attend_avx512.c alone.
 */
#ifndef QUIRE_KERNELS_CPU_ATTEND_PLANE_AVX512_H
#define QUIRE_KERNELS_CPU_ATTEND_PLANE_AVX512_H

#include "kernels/cpu/cpu_attend.h"
#include "kernels/cpu/cpu_attend_body.h"
#include "kernels/cpu/cpu_page.h"

#include <immintrin.h>

#define WIDTH 16
#define INLINE static inline __attribute__((always_inline))

struct plane { /* rows of values or codes; scales of codes, else NULL */
    const uint8_t *rows;
    enum kv_dtype dtype;
    const float *least, *step;
    struct attend_ahead ahead;
};

/* 16 values, or codes, from value 16 j of a row on. */
INLINE __m512 load16(const void *row, const int j, const enum kv_dtype dtype)
{
    const uint8_t *from = row;
    const __m512 codes = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i wide;
    switch (dtype) {
    case KV_F16:
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(from + j * 32)));
    case KV_BF16:
        wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(from + j * 32)));
        return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
    case KV_Q8:
        wide = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(from + j * 16)));
        return _mm512_cvtepi32_ps(wide);
    case KV_Q4: /* a permutation looks at four bits of its indices */
        wide = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(from + j / 2 * 16)));
        return _mm512_permutexvar_ps(j % 2 == 0 ? wide : _mm512_srli_epi32(wide, 4), codes);
    case KV_F32:
        break;
    }
    return _mm512_loadu_ps(from + j * 64);
}

/* n_rows rows of n values (a multiple of 16) as floats; the plane that they are then. */
INLINE struct plane widen_rows(const struct plane *from, uint32_t n_rows, uint32_t n, float *to,
                               const enum kv_dtype dtype)
{
    size_t row_bytes = cpu_page_row_bytes(n, dtype), block = cpu_page_row_bytes(2 * WIDTH, dtype);
    struct plane widened = *from;
    widened.rows = (const uint8_t *)to;
    widened.dtype = KV_F32;
    for (uint32_t r = 0; r < n_rows; r++, to += n) {
        const uint8_t *row = from->rows + r * row_bytes;
        for (uint32_t i = 0; i < n; i += 2 * WIDTH, row += block) {
            _mm512_storeu_ps(to + i, load16(row, 0, dtype));
            if (i + WIDTH < n)
                _mm512_storeu_ps(to + i + WIDTH, load16(row, 1, dtype));
        }
    }
    return widened;
}

static struct plane widen(const struct plane *from, uint32_t n_rows, uint32_t n, float *to)
{
    switch (from->dtype) {
    case KV_F16:
        return widen_rows(from, n_rows, n, to, KV_F16);
    case KV_BF16:
        return widen_rows(from, n_rows, n, to, KV_BF16);
    case KV_Q8:
        return widen_rows(from, n_rows, n, to, KV_Q8);
    case KV_Q4:
        return widen_rows(from, n_rows, n, to, KV_Q4);
    case KV_F32:
        break;
    }
    return *from;
}

/* Rows and columns of 16 x 16 values change places. */
INLINE void transpose(__m512 r[WIDTH])
{
    __m512 t[WIDTH];
#pragma GCC unroll 8
    for (int i = 0; i < WIDTH; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < WIDTH; i += 4) {
        r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { /* quarters of a register */
        __m512 low = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
        __m512 high = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
        __m512 low_of_rest = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
        __m512 high_of_rest = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
        t[i] = _mm512_shuffle_f32x4(low, low_of_rest, 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(high, high_of_rest, 0x88);
        t[i + 8] = _mm512_shuffle_f32x4(low, low_of_rest, 0xdd);
        t[i + 12] = _mm512_shuffle_f32x4(high, high_of_rest, 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < WIDTH; i++)
        r[i] = t[i];
}

/* V out of K's first v_dim values: [64][v_dim]. K is floats. */
static const void *values_of_keys(const float *k, uint32_t v_dim, float *to)
{
    for (uint32_t d = 0; d < v_dim; d += WIDTH)
        for (uint32_t t = 0; t < PAGE_TOKENS; t += WIDTH) {
            __m512 r[WIDTH];
#pragma GCC unroll 16
            for (uint32_t i = 0; i < WIDTH; i++)
                r[i] = _mm512_loadu_ps(k + (size_t)(d + i) * PAGE_TOKENS + t);
            transpose(r);
#pragma GCC unroll 16
            for (uint32_t i = 0; i < WIDTH; i++)
                _mm512_storeu_ps(to + (size_t)(t + i) * v_dim + d, r[i]);
        }
    return to;
}

/* Codes, as floats, become values. */
static void unpack_keys(const struct attend_page *page, uint32_t k_dim, float *k)
{
    for (uint32_t d = 0; d < k_dim; d++, k += PAGE_TOKENS)
        for (uint32_t t = 0; t < PAGE_TOKENS; t += WIDTH)
            _mm512_storeu_ps(k + t, _mm512_fmadd_ps(_mm512_set1_ps(page->k_step[d]),
                                                    _mm512_loadu_ps(k + t),
                                                    _mm512_set1_ps(page->k_least[d])));
}

/* The planes of a latent page, as floats: both are read. */
static void widen_latent(const struct attend_tile *tile, const struct attend_page *page,
                         float *widened, struct plane *k, struct plane *v)
{
    float *values = widened + (size_t)PAGE_TOKENS * tile->k_dim;
    *k = widen(k, tile->k_dim, PAGE_TOKENS, widened);
    if (kv_dtype_is_packed(page->dtype))
        unpack_keys(page, tile->k_dim, widened);
    k->least = k->step = NULL;
    *v = (struct plane){.dtype = KV_F32,
                        .rows = values_of_keys((const float *)k->rows, tile->v_dim, values)};
}

#endif
