/* One row: decode, from the tile's own bytes. */
#include "kernels/cpu/cpu_dot_avx512.h"
#include "kernels/cpu/cpu_unpack_body.h"

/* start + the exact sum over words [begin, end) of a block, in two chains: unsigned bytes of
 * weights against signed ones. */
INLINE __m512i dot_words(const bool is_16, const __m512i *w, const int begin, const int end,
                         __m512i start, const struct panel_row *x)
{
    __m512i s = _mm512_setzero_si512(), t = start;
    UNROLL(8)
    for (int g = begin; g < end; g++) {
        if (is_16) {
            s = _mm512_dpbusd_epi32(s, w[g], broadcast4(x->x + 4 * g));
            t = _mm512_dpbusd_epi32(t, w[g], broadcast4(x->lo + 4 * g));
        } else if (g % 2 == 0) {
            s = _mm512_dpbusd_epi32(s, w[g], broadcast4(x->x + 4 * g));
        } else {
            t = _mm512_dpbusd_epi32(t, w[g], broadcast4(x->x + 4 * g));
        }
    }
    return _mm512_add_epi32(is_16 ? _mm512_slli_epi32(s, 8) : s, t);
}

INLINE __m512 chain_block(const uint32_t type, const bool is_16, const struct unpacked *weights,
                          const struct panel_row *x, __m512 acc)
{
    const enum cpu_form form = cpu_form_of(type);
    const int offset = offset_of(type);
    __m512i start = offset == 0 ? _mm512_setzero_si512() : start_of(offset, broadcast4(x->nb));
    __m512i s = dot_words(is_16, weights->w, 0, 8, start, x);
    return add_minima(form, weights->m, x, add_block(s, weights->d[0], x, acc));
}

/* One block of FORM_TWO: what stands for t. */
INLINE __m512 chain_two(const uint32_t type, const bool is_16, const struct cpu_tile_place *at,
                        const struct panel_row *x, __m512 t)
{
    const int offset = offset_of(type);
    __m512i w[8], nb = broadcast4(x->nb), nh = broadcast4(x->nh);
    unpack_codes(type, at, 0, w);
    __m512i first = dot_words(is_16, w, 0, 4, start_of(offset, nh), x);
    __m512i second = dot_words(is_16, w, 4, 8, start_of(offset, _mm512_sub_epi32(nb, nh)), x);
    first = _mm512_mullo_epi32(first, group_scales(at->field, 0));
    second = _mm512_mullo_epi32(second, group_scales(at->field, 1));
    return add_product(_mm512_add_epi32(first, second), x, t);
}

INLINE void multiply_one_groups(const struct cpu_span *span, const uint32_t type, const bool is_16)
{
    const size_t row_bytes = row_bytes_of(is_16);
    const uint8_t *block = (const uint8_t *)span->rows + span->begin * row_bytes;
    __m512 acc = _mm512_load_ps(span->acc);
    for (size_t b = span->begin; b < span->end; b += GROUP_BLOCKS) {
        struct cpu_tile_place at;
        __m512 t = _mm512_setzero_ps();
        for (size_t i = b; i < b + GROUP_BLOCKS; i++, block += row_bytes) {
            at = cpu_tile_place(type, span->tile, span->n_in, i);
            struct panel_row x = panel_row_of(block, is_16, 1, 0);
            prefetch_block(type, &at, i, span->prefetch_bytes);
            t = chain_two(type, is_16, &at, &x, t);
        }
        acc = _mm512_fmadd_ps(t, group_d(&at, 0), acc);
    }
    _mm512_store_ps(span->acc, acc);
}

INLINE void multiply_one(const struct cpu_span *span, const uint32_t type, const bool is_16)
{
    if (cpu_form_of(type) == FORM_TWO) {
        multiply_one_groups(span, type, is_16);
        return;
    }
    const size_t row_bytes = row_bytes_of(is_16);
    const uint8_t *block = (const uint8_t *)span->rows + span->begin * row_bytes;
    __m512 acc = _mm512_load_ps(span->acc);
    for (size_t b = span->begin; b < span->end; b++, block += row_bytes) {
        struct cpu_tile_place at = cpu_tile_place(type, span->tile, span->n_in, b);
        struct panel_row x = panel_row_of(block, is_16, 1, 0);
        struct unpacked weights;
        prefetch_block(type, &at, b, span->prefetch_bytes);
        unpack_block(type, &at, 0, &weights);
        acc = chain_block(type, is_16, &weights, &x, acc);
    }
    _mm512_store_ps(span->acc, acc);
}

#include "kernels/cpu/cpu_one_body.h"

cpu_multiply *const cpu_one_avx512[TENSOR_TYPES][3] = ONE_TABLE;
