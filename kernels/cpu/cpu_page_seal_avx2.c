/* Packing with 256-bit registers. See cpu_page_seal.h for what is computed. */
#include "kernels/cpu/cpu_page_seal_body.h"

#include <immintrin.h>

#define WIDTH 8

static inline __m256 load(const uint16_t *halves)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)halves));
}

static void range(const uint16_t *halves, uint32_t n, float *min, float *max)
{
    __m256 low = _mm256_set1_ps(INFINITY), high = _mm256_set1_ps(-INFINITY);
    float lows[WIDTH], highs[WIDTH];
    for (uint32_t i = 0; i < n; i += WIDTH) { /* a NaN, first of the two, gives the second */
        __m256 x = load(halves + i);
        low = _mm256_min_ps(x, low);
        high = _mm256_max_ps(x, high);
    }
    _mm256_storeu_ps(lows, low);
    _mm256_storeu_ps(highs, high);
    *min = lows[0];
    *max = highs[0];
    for (int i = 1; i < WIDTH; i++) {
        *min = lows[i] < *min ? lows[i] : *min;
        *max = highs[i] > *max ? highs[i] : *max;
    }
}

static void encode(const uint16_t *halves, uint32_t n, float least, float step, float top,
                   uint8_t *codes)
{
    __m256 from = _mm256_set1_ps(least), by = _mm256_set1_ps(step), most = _mm256_set1_ps(top);
    for (uint32_t i = 0; i < n; i += WIDTH) {
        __m256 x = _mm256_div_ps(_mm256_sub_ps(load(halves + i), from), by);
        x = _mm256_min_ps(_mm256_max_ps(x, _mm256_setzero_ps()), most);
        __m256i words = _mm256_cvtps_epi32(x);
        __m128i pairs = _mm_packus_epi32(_mm256_castsi256_si128(words),
                                         _mm256_extracti128_si256(words, 1));
        _mm_storel_epi64((__m128i *)(codes + i), _mm_packus_epi16(pairs, pairs));
    }
}

void cpu_seal_row_avx2(const uint16_t *halves, uint32_t n, enum kv_dtype dtype, uint8_t *codes,
                       float *least, float *step)
{
    seal_row(range, encode, halves, n, dtype, codes, least, step);
}
