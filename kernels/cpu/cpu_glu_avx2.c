#include "kernels/cpu/cpu_math.h"
#include "kernels/cpu/cpu_tile.h"

#include <immintrin.h>

/* cpu_exp2, 8 lanes: the same clamp (a NaN passes through both), polynomial and scaling. */
static inline __m256 exp2_lanes(__m256 x)
{
    x = _mm256_max_ps(_mm256_set1_ps(EXP2_MIN), x);
    x = _mm256_min_ps(_mm256_set1_ps(EXP2_MAX), x);
    __m256 n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 t = _mm256_sub_ps(x, n);
    __m256 p = _mm256_set1_ps(EXP2_C5);
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(EXP2_C4));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(EXP2_C3));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(EXP2_C2));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(EXP2_C1));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(EXP2_C0));
    __m256i scaled =
        _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23));
    return _mm256_castsi256_ps(scaled);
}

void cpu_glu_avx2(const float *gate, const float *up, float *out)
{
    for (int i = 0; i < TILE_ROWS; i += 8) {
        __m256 z = _mm256_loadu_ps(gate + i);
        __m256 minus = _mm256_xor_ps(z, _mm256_set1_ps(-0.0f));
        __m256 e = exp2_lanes(_mm256_mul_ps(minus, _mm256_set1_ps(LOG2_E)));
        __m256 silu = _mm256_div_ps(z, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
        _mm256_storeu_ps(out + i, _mm256_mul_ps(silu, _mm256_loadu_ps(up + i)));
    }
}
