#include "kernels/cpu/cpu_panel_forms.h"

#include <immintrin.h>

struct rounded {
    __m512i v, w;
    int32_t size; /* the sum of magnitudes */
};

static struct rounded round_values(__m512 a, __m512 b, float scale)
{
    __mmask16 keep = scale != 0 ? 0xffff : 0;
    struct rounded out;
    out.v = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(a, _mm512_set1_ps(scale)));
    out.w = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(b, _mm512_set1_ps(scale)));
    out.size = _mm512_reduce_add_epi32(
        _mm512_add_epi32(_mm512_abs_epi32(out.v), _mm512_abs_epi32(out.w)));
    return out;
}

static void quantize_avx512(const float *x, const struct cpu_panel_block *to)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    bool is_16 = cpu_panel_block_is_16(to);
    float limit = is_16 ? PANEL_LIMIT_16 : PANEL_LIMIT_INT8;
    __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
    __m512i largest = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(a), magnitude),
                                       _mm512_and_si512(_mm512_castps_si512(b), magnitude));
    uint32_t bits = _mm512_reduce_max_epu32(largest); /* integers: any order gives the same */
    float amax = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128((int)bits)));

    struct rounded values = round_values(a, b, cpu_panel_scale(bits, amax, limit));
    if (is_16 && values.size > PANEL_SUM_16) {
        limit /= 2;
        values = round_values(a, b, cpu_panel_scale(bits, amax, limit));
    }
    const __m512i v = values.v, w = values.w;
    int32_t first = _mm512_reduce_add_epi32(v), sum = first + _mm512_reduce_add_epi32(w);

    if (to->v != NULL) {
        _mm256_storeu_si256((__m256i *)to->v, _mm512_cvtepi32_epi16(v));
        _mm256_storeu_si256((__m256i *)(to->v + 16), _mm512_cvtepi32_epi16(w));
    } else if (to->lo != NULL) {
        const __m512i half = _mm512_set1_epi32(128);
        __m512i v_hi = _mm512_srai_epi32(_mm512_add_epi32(v, half), 8);
        __m512i w_hi = _mm512_srai_epi32(_mm512_add_epi32(w, half), 8);
        _mm_storeu_si128((__m128i *)to->hi, _mm512_cvtepi32_epi8(v_hi));
        _mm_storeu_si128((__m128i *)(to->hi + 16), _mm512_cvtepi32_epi8(w_hi));
        _mm_storeu_si128((__m128i *)to->lo, _mm512_cvtepi32_epi8(v));
        _mm_storeu_si128((__m128i *)(to->lo + 16), _mm512_cvtepi32_epi8(w));
    } else {
        _mm_storeu_si128((__m128i *)to->hi, _mm512_cvtepi32_epi8(v));
        _mm_storeu_si128((__m128i *)(to->hi + 16), _mm512_cvtepi32_epi8(w));
    }
    cpu_panel_finish(to, bits, amax, limit, sum, first);
}

void cpu_panel_write_avx512(const struct act *act, enum activations activations, uint32_t row,
                            uint32_t n_rows, uint32_t first, uint32_t n, const float *values)
{
    cpu_panel_write(act, activations, row, n_rows, first, n, values, quantize_avx512);
}
