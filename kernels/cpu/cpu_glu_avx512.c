#include "kernels/cpu/cpu_math_avx512.h"
#include "kernels/cpu/cpu_product.h"

void cpu_glu_avx512(const float *gate, const float *up, float *out)
{
    __m512 z = _mm512_loadu_ps(gate);
    __m512 minus = _mm512_xor_ps(z, _mm512_set1_ps(-0.0f));
    __m512 e = cpu_exp2_avx512(_mm512_mul_ps(minus, _mm512_set1_ps(LOG2_E)));
    __m512 silu = _mm512_div_ps(z, _mm512_add_ps(_mm512_set1_ps(1.0f), e));
    _mm512_storeu_ps(out, _mm512_mul_ps(silu, _mm512_loadu_ps(up)));
}
