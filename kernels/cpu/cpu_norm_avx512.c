#include "kernels/cpu/cpu_norm.h"

#include <immintrin.h>
#include <stddef.h>

#include "kernels/cpu/cpu_math.h"

void cpu_norm_row_avx512(const float *x, const float *weight, float eps, uint32_t width, float *out)
{
    uint32_t whole = width / 16 * 16;
    __mmask16 rest = (__mmask16)((1u << (width - whole)) - 1);
    __m512 sum = _mm512_setzero_ps();
    for (uint32_t i = 0; i < whole; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        sum = _mm512_fmadd_ps(v, v, sum);
    }
    __m512 tail = _mm512_maskz_loadu_ps(rest, x + whole);
    sum = _mm512_fmadd_ps(tail, tail, sum); /* adds an exact zero to the lanes beyond */
    float lanes[16];
    _mm512_storeu_ps(lanes, sum);

    float scale = 1.0f / sqrtf(cpu_fold16(lanes) / (float)width + eps);
    __m512 scales = _mm512_set1_ps(scale);
    for (uint32_t i = 0; i < whole; i += 16) {
        __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x + i), scales);
        if (weight != NULL)
            v = _mm512_mul_ps(v, _mm512_loadu_ps(weight + i));
        _mm512_storeu_ps(out + i, v);
    }
    tail = _mm512_mul_ps(tail, scales);
    if (weight != NULL)
        tail = _mm512_mul_ps(tail, _mm512_maskz_loadu_ps(rest, weight + whole));
    _mm512_mask_storeu_ps(out + whole, rest, tail);
}
