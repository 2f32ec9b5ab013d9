#include "kernels/cpu/cpu_math_avx2.h"
#include "kernels/cpu/cpu_product.h"

void cpu_glu_avx2(const float *gate, const float *up, float *out)
{
    for (int i = 0; i < TILE_ROWS; i += 8) {
        __m256 z = _mm256_loadu_ps(gate + i);
        __m256 minus = _mm256_xor_ps(z, _mm256_set1_ps(-0.0f));
        __m256 e = cpu_exp2_avx2(_mm256_mul_ps(minus, _mm256_set1_ps(LOG2_E)));
        __m256 silu = _mm256_div_ps(z, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
        _mm256_storeu_ps(out + i, _mm256_mul_ps(silu, _mm256_loadu_ps(up + i)));
    }
}
