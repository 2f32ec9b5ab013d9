#include "kernels/cpu/cpu_rope.h"

#include <immintrin.h>

#include "kernels/cpu/cpu_rope_body.h"

static uint32_t avx512_halves(const float *from, uint32_t n, uint16_t *to)
{
    __m512 top = _mm512_set1_ps(ROPE_HALF_MAX), bottom = _mm512_set1_ps(-ROPE_HALF_MAX);
    uint32_t n_saturated = 0;
    for (uint32_t i = 0; i < n; i += 16) {
        uint32_t left = n - i;
        __mmask16 here = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
        __m512 v = _mm512_maskz_loadu_ps(here, from + i);
        __mmask16 above = _mm512_cmp_ps_mask(v, top, _CMP_GT_OQ);
        __mmask16 below = _mm512_cmp_ps_mask(v, bottom, _CMP_LT_OQ);
        v = _mm512_mask_mov_ps(v, above, top);
        v = _mm512_mask_mov_ps(v, below, bottom);
        n_saturated += (uint32_t)__builtin_popcount((uint32_t)above | below);
        _mm256_mask_storeu_epi16(to + i, here,
                                 _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    return n_saturated;
}

const struct cpu_rope_ops cpu_rope_avx512 = {rope_angles, rope_rotate, avx512_halves};
