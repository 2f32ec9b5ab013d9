#include "kernels/cpu/cpu_wide_avx2.h"
#include "kernels/cpu/cpu_unpack_body.h"

INLINE void store_wide(const uint32_t type, const bool is_16, const struct cpu_tile_place *at,
                       uint8_t *wide)
{
    (void)is_16; /* both activations are multiplied as 16-bit values */
    const enum cpu_form form = cpu_form_of(type);
    UNROLL(2)
    for (int part = 0; part < 2; part++) {
        struct unpacked block;
        unpack_block(type, at, part, &block);
        const uint8_t *field = at->field + VEC_ROWS * part;
        UNROLL(8)
        for (int g = 0; g < 8; g++) {
            vec_ints pairs[2];
            widen_pairs(block.w[g], offset_of(type), pairs);
            for (int i = 0; i < 2 && form == FORM_TWO; i++)
                pairs[i] = vec_multiply_pairs(pairs[i], group_scale_pairs(field, g / 4));
            _mm256_store_si256((__m256i *)(wide + 128 * g + 32 * part), pairs[0]);
            _mm256_store_si256((__m256i *)(wide + 128 * g + 64 + 32 * part), pairs[1]);
        }
        float *scales = (float *)(wide + WIDE_CODES_BYTES) + VEC_ROWS * part;
        _mm256_store_ps(scales, form == FORM_TWO ? group_d(at, part) : block.d[0]);
        if (form == FORM_ONE_MINIMUM || form == FORM_ONE_TWO_MINIMA)
            _mm256_store_ps(scales + TILE_ROWS, block.m[0]);
        if (form == FORM_ONE_TWO_MINIMA)
            _mm256_store_ps(scales + 2 * TILE_ROWS, block.m[1]);
    }
}

#include "kernels/cpu/cpu_unpack_table.h"

PRODUCTS(avx2)
