#include "kernels/cpu/cpu_math_avx2.h"
#include "kernels/cpu/cpu_route.h"
#include "kernels/cpu/cpu_route_body.h"

static void softmax_avx2(const float *logits, uint32_t n, float *scores)
{
    uint32_t whole = n / 16 * 16;
    __m256 most = _mm256_set1_ps(-INFINITY);
    for (uint32_t i = 0; i < whole; i += 8)
        most = _mm256_max_ps(_mm256_loadu_ps(logits + i), most); /* a NaN is passed over */
    float lanes[16], max = -INFINITY;
    _mm256_storeu_ps(lanes, most);
    max = route_max(logits, whole, n, route_max(lanes, 0, 8, max));

    __m256 sums[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (uint32_t i = 0; i < whole; i += 8) {
        __m256 z = _mm256_sub_ps(_mm256_loadu_ps(logits + i), _mm256_set1_ps(max));
        __m256 e = cpu_exp2_avx2(_mm256_mul_ps(z, _mm256_set1_ps(LOG2_E)));
        _mm256_storeu_ps(scores + i, e);
        sums[i / 8 % 2] = _mm256_add_ps(sums[i / 8 % 2], e);
    }
    _mm256_storeu_ps(lanes, sums[0]);
    _mm256_storeu_ps(lanes + 8, sums[1]);
    for (uint32_t i = whole; i < n; i++) {
        scores[i] = route_exp(logits[i], max);
        lanes[i - whole] += scores[i];
    }
    float sum = cpu_fold16(lanes);
    for (uint32_t i = 0; i < n; i++)
        scores[i] /= sum;
}

static void sigmoid_avx2(const float *logits, uint32_t n, float *scores)
{
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 minus = _mm256_xor_ps(_mm256_loadu_ps(logits + i), _mm256_set1_ps(-0.0f));
        __m256 e = cpu_exp2_avx2(_mm256_mul_ps(minus, _mm256_set1_ps(LOG2_E)));
        __m256 one = _mm256_set1_ps(1.0f);
        _mm256_storeu_ps(scores + i, _mm256_div_ps(one, _mm256_add_ps(one, e)));
    }
    for (; i < n; i++)
        scores[i] = route_sigmoid(logits[i]);
}

const struct cpu_route_forms cpu_route_avx2 = {softmax_avx2, sigmoid_avx2};
