#include "kernels/cpu/cpu_rope.h"

#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/cpu_rope_body.h"

static uint32_t halves8(const float *from, uint16_t *to)
{
    __m256 top = _mm256_set1_ps(ROPE_HALF_MAX), bottom = _mm256_set1_ps(-ROPE_HALF_MAX);
    __m256 v = _mm256_loadu_ps(from);
    __m256 above = _mm256_cmp_ps(v, top, _CMP_GT_OQ), below = _mm256_cmp_ps(v, bottom, _CMP_LT_OQ);
    v = _mm256_blendv_ps(v, top, above);
    v = _mm256_blendv_ps(v, bottom, below);
    _mm_storeu_si128((__m128i *)to,
                     _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    return (uint32_t)__builtin_popcount((uint32_t)_mm256_movemask_ps(_mm256_or_ps(above, below)));
}

static uint32_t avx2_halves(const float *from, uint32_t n, uint16_t *to)
{
    uint32_t n_saturated = 0, whole = n / 8 * 8;
    for (uint32_t i = 0; i < whole; i += 8)
        n_saturated += halves8(from + i, to + i);
    if (whole < n) {
        float rest[8] = {0};
        uint16_t rest_halves[8];
        memcpy(rest, from + whole, (n - whole) * sizeof *rest);
        n_saturated += halves8(rest, rest_halves);
        memcpy(to + whole, rest_halves, (n - whole) * sizeof *to);
    }
    return n_saturated;
}

const struct cpu_rope_ops cpu_rope_avx2 = {rope_angles, rope_rotate, avx2_halves};
