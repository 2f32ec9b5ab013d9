/* One row: decode, from the tile's own bytes. Small codes go through maddubs: as many sums as 16
 * bits hold exactly (8 x 2 x 15 x 128 = 30720, 4 x 2 x 31 x 128 = 31744, 2 x 2 x 63 x 128 = 32256).
 * Whole bytes become 16-bit values and meet activations that are so too. Small scales of Q2_K and
 * Q3_K multiply those sums where they widen to 32 bits. */
#include "kernels/cpu/cpu_dot_avx2.h"
#include "kernels/cpu/cpu_unpack_body.h"

/* The activations of a block as 16-bit values: 32-bit lane g holds values 4g and 4g + 2 (even), 4g
 * + 1 and 4g + 3 (odd). */
struct split_row {
    __m256i even, odd;
};

INLINE struct split_row split_row_of(const struct panel_row *x, const bool is_16)
{
    __m256i first = _mm256_loadu_si256((const __m256i *)x->x);
    struct split_row out;
    if (!is_16) {
        out.even = _mm256_srai_epi16(_mm256_slli_epi16(first, 8), 8);
        out.odd = _mm256_srai_epi16(first, 8);
        return out;
    }
    __m256i lo = _mm256_loadu_si256((const __m256i *)x->lo);
    out.even = _mm256_add_epi16(_mm256_slli_epi16(first, 8),
                                _mm256_srai_epi16(_mm256_slli_epi16(lo, 8), 8));
    out.odd = _mm256_add_epi16(_mm256_and_si256(first, _mm256_set1_epi16((short)0xff00)),
                               _mm256_srai_epi16(lo, 8));
    return out;
}

INLINE bool has_small_scales(const uint32_t type)
{
    return type == TENSOR_Q2_K || type == TENSOR_Q3_K;
}

/* Words of four codes that may be summed in 16 bits; 0: none. */
INLINE int words_that_fit(const uint32_t type)
{
    switch (type) {
    case TENSOR_Q4_0:
    case TENSOR_Q4_1:
    case TENSOR_Q4_K:
        return 8;
    case TENSOR_Q5_0:
    case TENSOR_Q5_1:
    case TENSOR_Q5_K:
    case TENSOR_MXFP4:
    case TENSOR_Q2_K:
    case TENSOR_Q3_K:
        return 4;
    case TENSOR_Q6_K:
        return 2;
    default:
        return 0;
    }
}

/* The sums over words [begin, begin + fit) in 16 bits, two a row. */
INLINE __m256i sum_small(const __m256i *w, const int begin, const int fit, const uint8_t *x)
{
    __m256i sum = _mm256_maddubs_epi16(w[begin], broadcast4(x + 4 * begin));
    UNROLL(7)
    for (int g = begin + 1; g < begin + fit; g++)
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w[g], broadcast4(x + 4 * g)));
    return sum;
}

INLINE __m256i dot_small(const __m256i *w, const int begin, const int end, const int fit,
                         const uint8_t *x)
{
    __m256i total = _mm256_setzero_si256();
    UNROLL(4)
    for (int g = begin; g < end; g += fit)
        total = _mm256_add_epi32(
            total, _mm256_madd_epi16(sum_small(w, g, fit, x), _mm256_set1_epi16(1)));
    return total;
}

/* Unsigned bytes of weights. */
INLINE __m256i dot_bytes(const __m256i *w, const int begin, const int end,
                         const struct split_row *x)
{
    const __m256i low = _mm256_set1_epi16(255);
    __m256i even = _mm256_setzero_si256(), odd = even;
    UNROLL(8)
    for (int g = begin; g < end; g++) {
        __m256i x_even = broadcast4((const uint8_t *)&x->even + 4 * g);
        __m256i x_odd = broadcast4((const uint8_t *)&x->odd + 4 * g);
        even = _mm256_add_epi32(even, _mm256_madd_epi16(_mm256_and_si256(w[g], low), x_even));
        odd = _mm256_add_epi32(odd, _mm256_madd_epi16(_mm256_srli_epi16(w[g], 8), x_odd));
    }
    return _mm256_add_epi32(even, odd);
}

/* The exact sum over words [begin, end) of a block; n = -128 * the sum of their activations. */
INLINE __m256i dot_words(const uint32_t type, const bool is_16, const __m256i *w, const int begin,
                         const int end, int32_t n, const struct panel_row *x,
                         const struct split_row *split)
{
    const int fit = words_that_fit(type), offset = offset_of(type);
    __m256i s;
    if (fit == 0)
        s = dot_bytes(w, begin, end, split);
    else
        s = dot_small(w, begin, end, fit, x->x);
    if (fit > 0 && is_16)
        s = _mm256_add_epi32(_mm256_slli_epi32(s, 8), dot_small(w, begin, end, fit, x->lo));
    if (offset != 0) /* 128 / offset is a power of two, and n a multiple of 128 */
        s = _mm256_add_epi32(s, _mm256_set1_epi32(n / (128 / offset)));
    return s;
}

/* The small scales of eight rows, and those of Q3_K as its values have them: 32 - scale. */
INLINE __m256i small_scales(const uint32_t type, const uint8_t *field)
{
    __m256i scale = vec_widen_bytes(field);
    return type == TENSOR_Q2_K ? _mm256_and_si256(scale, _mm256_set1_epi32(15))
                               : _mm256_sub_epi32(_mm256_set1_epi32(32), scale);
}

/* The exact sum over half a block of bare codes (of Q3_K less 4), times the half's scales. */
INLINE __m256i dot_scaled(const uint32_t type, const bool is_16, const __m256i *w, const int half,
                          const uint8_t *field, int32_t n, const struct panel_row *x)
{
    __m256i scale = small_scales(type, field + TILE_FIELD_BYTES * half);
    __m256i twice = _mm256_blend_epi16(scale, _mm256_slli_epi32(scale, 16), 0xaa);
    __m256i s = _mm256_madd_epi16(sum_small(w, 4 * half, 4, x->x), twice);
    if (is_16)
        s = _mm256_add_epi32(_mm256_slli_epi32(s, 8),
                             _mm256_madd_epi16(sum_small(w, 4 * half, 4, x->lo), twice));
    if (type == TENSOR_Q3_K)
        s = _mm256_add_epi32(s, _mm256_mullo_epi32(scale, _mm256_set1_epi32(n / 32)));
    return s;
}

INLINE __m256 chain_block(const uint32_t type, const bool is_16, const struct unpacked *weights,
                          const uint8_t *field, const struct panel_row *x,
                          const struct split_row *split, __m256 acc)
{
    const enum cpu_form form = cpu_form_of(type);
    int32_t nb = int_at(x->nb), nh = int_at(x->nh);
    __m256i s;
    if (has_small_scales(type))
        s = _mm256_add_epi32(dot_scaled(type, is_16, weights->w, 0, field, nh, x),
                             dot_scaled(type, is_16, weights->w, 1, field, nb - nh, x));
    else
        s = dot_words(type, is_16, weights->w, 0, 8, nb, x, split);
    return add_minima(form, weights->m, x, add_block(s, weights->d[0], x, acc));
}

/* One block of FORM_TWO: what stands for t. */
INLINE __m256 chain_two(const uint32_t type, const bool is_16, const struct cpu_tile_place *at,
                        const int part, const struct panel_row *x, __m256 t)
{
    const uint8_t *field = at->field + VEC_ROWS * part;
    __m256i w[8];
    int32_t nb = int_at(x->nb), nh = int_at(x->nh);
    unpack_codes(type, at, part, w);
    __m256i first = dot_words(type, is_16, w, 0, 4, nh, x, NULL);
    __m256i second = dot_words(type, is_16, w, 4, 8, nb - nh, x, NULL);
    first = _mm256_mullo_epi32(first, group_scales(field, 0));
    second = _mm256_mullo_epi32(second, group_scales(field, 1));
    return add_product(_mm256_add_epi32(first, second), x, t);
}

INLINE void multiply_one_groups(const struct cpu_span *span, const uint32_t type, const bool is_16)
{
    const size_t row_bytes = row_bytes_of(is_16);
    const uint8_t *block = (const uint8_t *)span->rows + span->begin * row_bytes;
    __m256 acc[2] = {_mm256_load_ps(span->acc), _mm256_load_ps(span->acc + VEC_ROWS)};
    for (size_t b = span->begin; b < span->end; b += GROUP_BLOCKS) {
        struct cpu_tile_place at;
        __m256 t[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
        for (size_t i = b; i < b + GROUP_BLOCKS; i++, block += row_bytes) {
            at = cpu_tile_place(type, span->tile, span->n_in, i);
            struct panel_row x = panel_row_of(block, is_16, 1, 0);
            prefetch_block(type, &at, i, span->prefetch_bytes);
            t[0] = chain_two(type, is_16, &at, 0, &x, t[0]);
            t[1] = chain_two(type, is_16, &at, 1, &x, t[1]);
        }
        acc[0] = _mm256_fmadd_ps(t[0], group_d(&at, 0), acc[0]);
        acc[1] = _mm256_fmadd_ps(t[1], group_d(&at, 1), acc[1]);
    }
    _mm256_store_ps(span->acc, acc[0]);
    _mm256_store_ps(span->acc + VEC_ROWS, acc[1]);
}

INLINE void multiply_one(const struct cpu_span *span, const uint32_t type, const bool is_16)
{
    if (cpu_form_of(type) == FORM_TWO) {
        multiply_one_groups(span, type, is_16);
        return;
    }
    const size_t row_bytes = row_bytes_of(is_16);
    const uint8_t *block = (const uint8_t *)span->rows + span->begin * row_bytes;
    __m256 acc[2] = {_mm256_load_ps(span->acc), _mm256_load_ps(span->acc + VEC_ROWS)};
    for (size_t b = span->begin; b < span->end; b++, block += row_bytes) {
        struct cpu_tile_place at = cpu_tile_place(type, span->tile, span->n_in, b);
        struct panel_row x = panel_row_of(block, is_16, 1, 0);
        struct split_row split = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        prefetch_block(type, &at, b, span->prefetch_bytes);
        if (words_that_fit(type) == 0)
            split = split_row_of(&x, is_16);
        UNROLL(2)
        for (int part = 0; part < 2; part++) {
            struct unpacked weights;
            if (has_small_scales(type))
                unpack_bare_codes(type, &at, part, weights.w);
            else
                unpack_codes(type, &at, part, weights.w);
            unpack_scales(type, &at, part, &weights);
            acc[part] = chain_block(type, is_16, &weights, at.field + VEC_ROWS * part, &x, &split,
                                    acc[part]);
        }
    }
    _mm256_store_ps(span->acc, acc[0]);
    _mm256_store_ps(span->acc + VEC_ROWS, acc[1]);
}

#include "kernels/cpu/cpu_one_body.h"

cpu_multiply *const cpu_one_avx2[TENSOR_TYPES][3] = ONE_TABLE;
