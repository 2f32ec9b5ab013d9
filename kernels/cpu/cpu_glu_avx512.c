#include "kernels/cpu/cpu_math.h"
#include "kernels/cpu/cpu_tile.h"

#include <immintrin.h>

/* cpu_exp2, 16 lanes: the same clamp (a NaN passes through both), polynomial and scaling. */
static inline __m512 exp2_lanes(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(EXP2_MIN), x);
    x = _mm512_min_ps(_mm512_set1_ps(EXP2_MAX), x);
    __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 t = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(EXP2_C5);
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(EXP2_C4));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(EXP2_C3));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(EXP2_C2));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(EXP2_C1));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(EXP2_C0));
    __m512i scaled =
        _mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_cvtps_epi32(n), 23));
    return _mm512_castsi512_ps(scaled);
}

void cpu_glu_avx512(const float *gate, const float *up, float *out)
{
    __m512 z = _mm512_loadu_ps(gate);
    __m512 minus = _mm512_xor_ps(z, _mm512_set1_ps(-0.0f));
    __m512 e = exp2_lanes(_mm512_mul_ps(minus, _mm512_set1_ps(LOG2_E)));
    __m512 silu = _mm512_div_ps(z, _mm512_add_ps(_mm512_set1_ps(1.0f), e));
    _mm512_storeu_ps(out, _mm512_mul_ps(silu, _mm512_loadu_ps(up)));
}
