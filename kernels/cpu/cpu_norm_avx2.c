#include "kernels/cpu/cpu_norm.h"

#include <immintrin.h>
#include <stddef.h>

#include "kernels/cpu/cpu_math.h"

void cpu_norm_row_avx2(const float *x, const float *weight, float eps, uint32_t width, float *out)
{
    uint32_t whole = width / 16 * 16;
    __m256 low = _mm256_setzero_ps(), high = low;
    for (uint32_t i = 0; i < whole; i += 16) {
        __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + 8);
        low = _mm256_fmadd_ps(a, a, low);
        high = _mm256_fmadd_ps(b, b, high);
    }
    float lanes[16];
    _mm256_storeu_ps(lanes, low);
    _mm256_storeu_ps(lanes + 8, high);
    for (uint32_t i = whole; i < width; i++)
        lanes[i - whole] = fmaf(x[i], x[i], lanes[i - whole]);

    float scale = 1.0f / sqrtf(cpu_fold16(lanes) / (float)width + eps);
    __m256 scales = _mm256_set1_ps(scale);
    for (uint32_t i = 0; i < whole; i += 8) {
        __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), scales);
        if (weight != NULL)
            v = _mm256_mul_ps(v, _mm256_loadu_ps(weight + i));
        _mm256_storeu_ps(out + i, v);
    }
    for (uint32_t i = whole; i < width; i++)
        out[i] = weight == NULL ? x[i] * scale : x[i] * scale * weight[i];
}
