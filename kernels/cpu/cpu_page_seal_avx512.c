/* Packing with 512-bit registers. See cpu_page_seal.h for what is computed. */
#include "kernels/cpu/cpu_page_seal_body.h"

#include <immintrin.h>

#define WIDTH 16

static inline __m512 load(const uint16_t *halves)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)halves));
}

static void range(const uint16_t *halves, uint32_t n, float *min, float *max)
{
    __m512 low = _mm512_set1_ps(INFINITY), high = _mm512_set1_ps(-INFINITY);
    for (uint32_t i = 0; i < n; i += WIDTH) { /* a NaN, first of the two, gives the second */
        __m512 x = load(halves + i);
        low = _mm512_min_ps(x, low);
        high = _mm512_max_ps(x, high);
    }
    *min = _mm512_reduce_min_ps(low);
    *max = _mm512_reduce_max_ps(high);
}

static void encode(const uint16_t *halves, uint32_t n, float least, float step, float top,
                   uint8_t *codes)
{
    __m512 from = _mm512_set1_ps(least), by = _mm512_set1_ps(step), most = _mm512_set1_ps(top);
    for (uint32_t i = 0; i < n; i += WIDTH) {
        __m512 x = _mm512_div_ps(_mm512_sub_ps(load(halves + i), from), by);
        x = _mm512_min_ps(_mm512_max_ps(x, _mm512_setzero_ps()), most);
        _mm_storeu_si128((__m128i *)(codes + i), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
    }
}

void cpu_seal_row_avx512(const uint16_t *halves, uint32_t n, enum kv_dtype dtype, uint8_t *codes,
                         float *least, float *step)
{
    seal_row(range, encode, halves, n, dtype, codes, least, step);
}
