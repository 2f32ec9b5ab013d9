#include "kernels/cpu/cpu_sample.h"

#include "kernels/cpu/cpu_math_avx2.h"

#define WIDTH 8

static float avx2_max(const float *x, uint32_t n)
{
    uint32_t whole = n / WIDTH * WIDTH;
    __m256 max = _mm256_set1_ps(-INFINITY), unordered = _mm256_setzero_ps();
    for (uint32_t i = 0; i < whole; i += WIDTH) {
        __m256 v = _mm256_loadu_ps(x + i);
        unordered = _mm256_or_ps(unordered, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        max = _mm256_max_ps(max, v);
    }
    if (_mm256_movemask_ps(unordered) != 0)
        return NAN;
    float lanes[WIDTH];
    _mm256_storeu_ps(lanes, max);
    float rest = cpu_sample_scalar.max(x + whole, n - whole); /* NaN when one is there */
    for (int i = 0; i < WIDTH; i++)
        rest = lanes[i] > rest ? lanes[i] : rest;
    return rest;
}

static void avx2_repeat(float *x, const uint32_t *counts, float r, uint32_t n)
{
    uint32_t whole = n / WIDTH * WIDTH;
    __m256 rs = _mm256_set1_ps(r);
    for (uint32_t i = 0; i < whole; i += WIDTH) {
        __m256i count = _mm256_loadu_si256((const __m256i *)(counts + i));
        if (_mm256_testz_si256(count, count))
            continue;
        __m256 unseen = _mm256_castsi256_ps(_mm256_cmpeq_epi32(count, _mm256_setzero_si256()));
        __m256 v = _mm256_loadu_ps(x + i);
        __m256 above = _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_GT_OQ);
        __m256 y = _mm256_blendv_ps(_mm256_mul_ps(v, rs), _mm256_div_ps(v, rs), above);
        _mm256_storeu_ps(x + i, _mm256_blendv_ps(y, v, unseen));
    }
    cpu_sample_scalar.repeat(x + whole, counts + whole, r, n - whole);
}

static void avx2_weigh(float *x, float max, float temperature, uint32_t n, float *e)
{
    uint32_t whole = n / WIDTH * WIDTH;
    __m256 maxes = _mm256_set1_ps(max), temperatures = _mm256_set1_ps(temperature);
    for (uint32_t i = 0; i < whole; i += WIDTH) {
        __m256 v = _mm256_div_ps(_mm256_sub_ps(_mm256_loadu_ps(x + i), maxes), temperatures);
        v = _mm256_add_ps(v, _mm256_setzero_ps());
        _mm256_storeu_ps(x + i, v);
        _mm256_storeu_ps(e + i, cpu_exp2_avx2(_mm256_mul_ps(v, _mm256_set1_ps(LOG2_E))));
    }
    cpu_sample_scalar.weigh(x + whole, max, temperature, n - whole, e + whole);
}

static uint64_t avx2_mass(const float *e, uint32_t n)
{
    uint32_t whole = n / 4 * 4;
    __m256d one = _mm256_set1_pd(SAMPLE_MASS_ONE), rounder = _mm256_set1_pd(SAMPLE_ROUNDER);
    __m256i low_bits = _mm256_set1_epi64x((INT64_C(1) << 52) - 1);
    __m256i sum = _mm256_setzero_si256();
    for (uint32_t i = 0; i < whole; i += 4) {
        __m256d v = _mm256_mul_pd(_mm256_cvtps_pd(_mm_loadu_ps(e + i)), one);
        __m256i bits = _mm256_castpd_si256(_mm256_add_pd(v, rounder));
        sum = _mm256_add_epi64(sum, _mm256_and_si256(bits, low_bits));
    }
    uint64_t lanes[4];
    _mm256_storeu_si256((__m256i *)lanes, sum);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3] + cpu_sample_scalar.mass(e + whole, n - whole);
}

static uint32_t avx2_collect(const float *x, uint32_t n, float threshold, uint32_t *ids)
{
    uint32_t whole = n / WIDTH * WIDTH, n_ids = 0;
    __m256 least = _mm256_set1_ps(threshold);
    for (uint32_t i = 0; i < whole; i += WIDTH) {
        uint32_t kept =
            (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i), least, _CMP_GE_OQ));
        for (; kept != 0; kept &= kept - 1)
            ids[n_ids++] = i + (uint32_t)__builtin_ctz(kept);
    }
    for (uint32_t i = whole; i < n; i++)
        if (x[i] >= threshold)
            ids[n_ids++] = i;
    return n_ids;
}

static double avx2_exp_sum(const float *x, float max, uint32_t n)
{
    uint32_t whole = n / 16 * 16;
    __m256 maxes = _mm256_set1_ps(max);
    __m256d sums[4] = {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(),
                       _mm256_setzero_pd()};
    for (uint32_t i = 0; i < whole; i += 16) {
        __m256 a = _mm256_sub_ps(_mm256_loadu_ps(x + i), maxes);
        __m256 b = _mm256_sub_ps(_mm256_loadu_ps(x + i + 8), maxes);
        a = cpu_exp2_avx2(_mm256_mul_ps(a, _mm256_set1_ps(LOG2_E)));
        b = cpu_exp2_avx2(_mm256_mul_ps(b, _mm256_set1_ps(LOG2_E)));
        sums[0] = _mm256_add_pd(sums[0], _mm256_cvtps_pd(_mm256_castps256_ps128(a)));
        sums[1] = _mm256_add_pd(sums[1], _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1)));
        sums[2] = _mm256_add_pd(sums[2], _mm256_cvtps_pd(_mm256_castps256_ps128(b)));
        sums[3] = _mm256_add_pd(sums[3], _mm256_cvtps_pd(_mm256_extractf128_ps(b, 1)));
    }
    double lanes[16];
    for (int j = 0; j < 4; j++)
        _mm256_storeu_pd(lanes + 4 * j, sums[j]);
    for (uint32_t i = whole; i < n; i++)
        lanes[i - whole] += (double)cpu_exp2((x[i] - max) * LOG2_E);
    return cpu_fold16_double(lanes);
}

const struct cpu_sample_ops cpu_sample_avx2 = {avx2_max,  avx2_repeat,  avx2_weigh,
                                               avx2_mass, avx2_collect, avx2_exp_sum};
