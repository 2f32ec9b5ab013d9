#include "kernels/cpu/cpu_sample.h"

#include "kernels/cpu/cpu_math_avx512.h"

#define WIDTH 16

static __mmask16 rest_of(uint32_t left)
{
    return left >= WIDTH ? 0xffff : (__mmask16)((1u << left) - 1);
}

static float avx512_max(const float *x, uint32_t n)
{
    __m512 least = _mm512_set1_ps(-INFINITY), max = least;
    __mmask16 unordered = 0;
    for (uint32_t i = 0; i < n; i += WIDTH) {
        __m512 v = _mm512_mask_loadu_ps(least, rest_of(n - i), x + i);
        unordered |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        max = _mm512_max_ps(max, v);
    }
    return unordered != 0 ? NAN : _mm512_reduce_max_ps(max); /* the order of a max is free */
}

static void avx512_repeat(float *x, const uint32_t *counts, float r, uint32_t n)
{
    __m512 rs = _mm512_set1_ps(r);
    for (uint32_t i = 0; i < n; i += WIDTH) {
        __mmask16 here = rest_of(n - i);
        __mmask16 seen = _mm512_mask_test_epi32_mask(
            here, _mm512_maskz_loadu_epi32(here, counts + i), _mm512_set1_epi32(-1));
        if (seen == 0)
            continue;
        __m512 v = _mm512_maskz_loadu_ps(here, x + i);
        __mmask16 above = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GT_OQ);
        __m512 y = _mm512_mask_div_ps(_mm512_mul_ps(v, rs), above, v, rs);
        _mm512_mask_storeu_ps(x + i, seen, y);
    }
}

static void avx512_weigh(float *x, float max, float temperature, uint32_t n, float *e)
{
    __m512 maxes = _mm512_set1_ps(max), temperatures = _mm512_set1_ps(temperature);
    for (uint32_t i = 0; i < n; i += WIDTH) {
        __mmask16 here = rest_of(n - i);
        __m512 v = _mm512_sub_ps(_mm512_maskz_loadu_ps(here, x + i), maxes);
        v = _mm512_add_ps(_mm512_div_ps(v, temperatures), _mm512_setzero_ps());
        _mm512_mask_storeu_ps(x + i, here, v);
        _mm512_mask_storeu_ps(e + i, here,
                              cpu_exp2_avx512(_mm512_mul_ps(v, _mm512_set1_ps(LOG2_E))));
    }
}

static uint64_t avx512_mass(const float *e, uint32_t n)
{
    __m512 one = _mm512_set1_ps((float)SAMPLE_MASS_ONE);
    __m512i sum = _mm512_setzero_si512();
    for (uint32_t i = 0; i < n; i += WIDTH) {
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(rest_of(n - i), e + i), one);
        sum = _mm512_add_epi64(sum, _mm512_cvtps_epi64(_mm512_castps512_ps256(v)));
        sum = _mm512_add_epi64(sum, _mm512_cvtps_epi64(_mm512_extractf32x8_ps(v, 1)));
    }
    return (uint64_t)_mm512_reduce_add_epi64(sum);
}

static uint32_t avx512_collect(const float *x, uint32_t n, float threshold, uint32_t *ids)
{
    __m512 least = _mm512_set1_ps(threshold);
    __m512i id = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    uint32_t n_ids = 0;
    for (uint32_t i = 0; i < n; i += WIDTH) {
        __mmask16 here = rest_of(n - i);
        __mmask16 kept =
            _mm512_mask_cmp_ps_mask(here, _mm512_maskz_loadu_ps(here, x + i), least, _CMP_GE_OQ);
        if (kept != 0) {
            /* a whole register: compressing straight into memory is microcode on some machines */
            _mm512_storeu_si512(ids + n_ids, _mm512_maskz_compress_epi32(kept, id));
            n_ids += (uint32_t)__builtin_popcount(kept);
        }
        id = _mm512_add_epi32(id, _mm512_set1_epi32(WIDTH));
    }
    return n_ids;
}

static double avx512_exp_sum(const float *x, float max, uint32_t n)
{
    __m512 maxes = _mm512_set1_ps(max);
    __m512d low = _mm512_setzero_pd(), high = low;
    for (uint32_t i = 0; i < n; i += WIDTH) {
        __mmask16 here = rest_of(n - i);
        __m512 v = _mm512_sub_ps(_mm512_maskz_loadu_ps(here, x + i), maxes);
        v = _mm512_maskz_mov_ps(here, cpu_exp2_avx512(_mm512_mul_ps(v, _mm512_set1_ps(LOG2_E))));
        low = _mm512_add_pd(low, _mm512_cvtps_pd(_mm512_castps512_ps256(v)));
        high = _mm512_add_pd(high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)));
    }
    double lanes[16];
    _mm512_storeu_pd(lanes, low);
    _mm512_storeu_pd(lanes + 8, high);
    return cpu_fold16_double(lanes);
}

const struct cpu_sample_ops cpu_sample_avx512 = {avx512_max,  avx512_repeat,  avx512_weigh,
                                                 avx512_mass, avx512_collect, avx512_exp_sum};
