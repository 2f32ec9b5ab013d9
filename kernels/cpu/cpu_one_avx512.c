/* One row: decode, from the tile's own bytes. */
#include "kernels/cpu/cpu_dot_avx512.h"
#include "kernels/cpu/cpu_unpack_body.h"

INLINE void multiply_one(const struct cpu_span *span, const uint32_t type, const bool is_16)
{
    const size_t row_bytes = row_bytes_of(is_16);
    const uint8_t *block = (const uint8_t *)span->rows + span->begin * row_bytes;
    __m512 acc = _mm512_load_ps(span->acc);
    for (size_t b = span->begin; b < span->end; b++, block += row_bytes) {
        struct cpu_tile_place at = cpu_tile_place(type, span->tile, span->n_in, b);
        struct panel_row x = panel_row_of(block, is_16, 1, 0);
        struct unpacked weights;
        prefetch_block(type, &at, b, span->prefetch_bytes);
        unpack_block(type, &at, 0, &weights);
        acc = chain_block(cpu_form_of(type), is_16, offset_of(type), weights.w, weights.d,
                          weights.m, &x, acc);
    }
    _mm512_store_ps(span->acc, acc);
}

#include "kernels/cpu/cpu_one_body.h"

cpu_multiply *const cpu_one_avx512[TENSOR_TYPES][3] = ONE_TABLE;
