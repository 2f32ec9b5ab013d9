#include "kernels/cpu/cpu_wide_avx512.h"
#include "kernels/cpu/cpu_unpack_body.h"

INLINE void store_wide(const uint32_t type, const bool is_16, const struct cpu_tile_place *at,
                       uint8_t *wide)
{
    const enum cpu_form form = cpu_form_of(type);
    const __m512i more = _mm512_set1_epi8((char)(wide_offset(form) - offset_of(type)));
    struct unpacked block;
    unpack_block(type, at, 0, &block);
    const vec_ints scale_pairs[2] = {group_scale_pairs(at->field, 0),
                                     group_scale_pairs(at->field, 1)};
    UNROLL(8)
    for (int g = 0; g < 8; g++) {
        if (is_16) {
            vec_ints pairs[2];
            widen_pairs(block.w[g], offset_of(type), pairs);
            for (int i = 0; i < 2 && form == FORM_TWO; i++)
                pairs[i] = vec_multiply_pairs(pairs[i], scale_pairs[g / 4]);
            _mm512_store_si512((__m512i *)(wide + 128 * g), pairs[0]);
            _mm512_store_si512((__m512i *)(wide + 128 * g + 64), pairs[1]);
        } else {
            _mm512_store_si512((__m512i *)(wide + 64 * g), _mm512_add_epi8(block.w[g], more));
        }
    }
    float *scales = (float *)(wide + 64 * WIDE_WORDS(is_16));
    _mm512_store_ps(scales, form == FORM_TWO ? group_d(at, 0) : block.d[0]);
    for (int half = 0; half < 2 && form == FORM_TWO && !is_16; half++)
        _mm512_store_si512(scales + TILE_ROWS * (half + 1), group_scales(at->field, half));
    if (form == FORM_ONE_MINIMUM || form == FORM_ONE_TWO_MINIMA)
        _mm512_store_ps(scales + TILE_ROWS, block.m[0]);
    if (form == FORM_ONE_TWO_MINIMA)
        _mm512_store_ps(scales + 2 * TILE_ROWS, block.m[1]);
}

#include "kernels/cpu/cpu_unpack_table.h"

PRODUCTS(avx512)
