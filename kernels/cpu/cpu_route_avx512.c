#include "kernels/cpu/cpu_math_avx512.h"
#include "kernels/cpu/cpu_route.h"
#include "kernels/cpu/cpu_route_body.h"

static void softmax_avx512(const float *logits, uint32_t n, float *scores)
{
    uint32_t whole = n / 16 * 16;
    __m512 most = _mm512_set1_ps(-INFINITY);
    for (uint32_t i = 0; i < whole; i += 16)
        most = _mm512_max_ps(_mm512_loadu_ps(logits + i), most); /* a NaN is passed over */
    float lanes[16];
    _mm512_storeu_ps(lanes, most);
    float max = route_max(logits, whole, n, route_max(lanes, 0, 16, -INFINITY));

    __m512 sums = _mm512_setzero_ps();
    for (uint32_t i = 0; i < whole; i += 16) {
        __m512 z = _mm512_sub_ps(_mm512_loadu_ps(logits + i), _mm512_set1_ps(max));
        __m512 e = cpu_exp2_avx512(_mm512_mul_ps(z, _mm512_set1_ps(LOG2_E)));
        _mm512_storeu_ps(scores + i, e);
        sums = _mm512_add_ps(sums, e);
    }
    _mm512_storeu_ps(lanes, sums);
    for (uint32_t i = whole; i < n; i++) {
        scores[i] = route_exp(logits[i], max);
        lanes[i - whole] += scores[i];
    }
    float sum = cpu_fold16(lanes);
    for (uint32_t i = 0; i < n; i++)
        scores[i] /= sum;
}

static void sigmoid_avx512(const float *logits, uint32_t n, float *scores)
{
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m512 minus = _mm512_xor_ps(_mm512_loadu_ps(logits + i), _mm512_set1_ps(-0.0f));
        __m512 e = cpu_exp2_avx512(_mm512_mul_ps(minus, _mm512_set1_ps(LOG2_E)));
        __m512 one = _mm512_set1_ps(1.0f);
        _mm512_storeu_ps(scores + i, _mm512_div_ps(one, _mm512_add_ps(one, e)));
    }
    for (; i < n; i++)
        scores[i] = route_sigmoid(logits[i]);
}

const struct cpu_route_forms cpu_route_avx512 = {softmax_avx512, sigmoid_avx512};
