#include "kernels/cpu/cpu_panel_forms.h"

#include <immintrin.h>

static uint32_t largest_of(__m256i bits)
{
    __m128i a = _mm_max_epu32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
    a = _mm_max_epu32(a, _mm_shuffle_epi32(a, 0x4e));
    a = _mm_max_epu32(a, _mm_shuffle_epi32(a, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(a);
}

static int32_t sum_of(__m256i values)
{
    __m128i a = _mm_add_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
    a = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0x4e));
    a = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0xb1));
    return _mm_cvtsi128_si32(a);
}

/* Four registers of 32-bit values that fit in signed bytes, to 32 bytes in order. */
static __m256i bytes_of(__m256i a, __m256i b, __m256i c, __m256i d)
{
    __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    return _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* Two registers of 32-bit values that fit in 16 bits, in order. */
static __m256i words_of(__m256i a, __m256i b)
{
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
}

/* The sum of magnitudes. */
static int32_t round_values(const __m256 *in, float scale, __m256i *v)
{
    const __m256i keep = _mm256_set1_epi32(scale != 0 ? -1 : 0);
    __m256i size = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_cvtps_epi32(_mm256_mul_ps(in[i], _mm256_set1_ps(scale)));
        v[i] = _mm256_and_si256(v[i], keep);
        size = _mm256_add_epi32(size, _mm256_abs_epi32(v[i]));
    }
    return sum_of(size);
}

static void quantize_avx2(const float *x, const struct cpu_panel_block *to)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    bool is_16 = cpu_panel_block_is_16(to);
    float limit = is_16 ? PANEL_LIMIT_16 : PANEL_LIMIT_INT8;
    __m256 in[4];
    __m256i v[4], largest = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++) {
        in[i] = _mm256_loadu_ps(x + 8 * i);
        largest =
            _mm256_max_epu32(largest, _mm256_and_si256(_mm256_castps_si256(in[i]), magnitude));
    }
    uint32_t bits = largest_of(largest);
    float amax = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128((int)bits)));

    int32_t size = round_values(in, cpu_panel_scale(bits, amax, limit), v);
    if (is_16 && size > PANEL_SUM_16) {
        limit /= 2;
        round_values(in, cpu_panel_scale(bits, amax, limit), v);
    }
    int32_t first = sum_of(_mm256_add_epi32(v[0], v[1]));
    int32_t sum = first + sum_of(_mm256_add_epi32(v[2], v[3]));
    if (to->v != NULL) {
        _mm256_storeu_si256((__m256i *)to->v, words_of(v[0], v[1]));
        _mm256_storeu_si256((__m256i *)(to->v + 16), words_of(v[2], v[3]));
    } else if (to->lo != NULL) {
        __m256i hi[4], lo[4];
        for (int i = 0; i < 4; i++) {
            hi[i] = _mm256_srai_epi32(_mm256_add_epi32(v[i], _mm256_set1_epi32(128)), 8);
            lo[i] = _mm256_sub_epi32(v[i], _mm256_slli_epi32(hi[i], 8));
        }
        _mm256_storeu_si256((__m256i *)to->hi, bytes_of(hi[0], hi[1], hi[2], hi[3]));
        _mm256_storeu_si256((__m256i *)to->lo, bytes_of(lo[0], lo[1], lo[2], lo[3]));
    } else {
        _mm256_storeu_si256((__m256i *)to->hi, bytes_of(v[0], v[1], v[2], v[3]));
    }
    cpu_panel_finish(to, bits, amax, limit, sum, first);
}

void cpu_panel_write_avx2(const struct act *act, enum activations activations, uint32_t row,
                          uint32_t n_rows, uint32_t first, uint32_t n, const float *values)
{
    cpu_panel_write(act, activations, row, n_rows, first, n, values, quantize_avx2);
}
