/* Tiles of 16 rows as two halves of 8. Nibbles: eight maddubs fit in 16 bits (16 x 15 x 128 =
 * 30720). Q8_0: signed 16-bit weights and activations, even and odd bytes apart, by pmaddwd. Every
 * integer is exact, so the chains are those of the definition. */
#include "kernels/cpu/cpu_linear_forms.h"

#define HALF_ROWS 8

INLINE __m256 load_halves(const uint8_t *bytes)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)bytes));
}

INLINE __m256i load_32(const void *bytes)
{
    return _mm256_loadu_si256((const __m256i *)bytes);
}

INLINE __m256i broadcast4(const void *bytes)
{
    int32_t word;
    memcpy(&word, bytes, sizeof word);
    return _mm256_set1_epi32(word);
}

/* Eight registers of unsigned nibbles, 8 rows x 4 k each, k ascending. */
INLINE void load_nibbles(const uint8_t *block, int half, __m256i w[8])
{
    const __m256i low = _mm256_set1_epi8(15);
    UNROLL(4)
    for (int g = 0; g < 4; g++) {
        __m256i both = load_32(block + GROUP_BYTES * g + 32 * half);
        w[2 * g] = _mm256_and_si256(both, low);
        w[2 * g + 1] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
    }
}

INLINE __m256i dot_nibbles(const __m256i w[8], const uint8_t *x)
{
    __m256i even = _mm256_maddubs_epi16(w[0], broadcast4(x));
    __m256i odd = _mm256_maddubs_epi16(w[1], broadcast4(x + 4));
    UNROLL(3)
    for (int g = 2; g < 8; g += 2) {
        even = _mm256_add_epi16(even, _mm256_maddubs_epi16(w[g], broadcast4(x + 4 * g)));
        odd = _mm256_add_epi16(odd, _mm256_maddubs_epi16(w[g + 1], broadcast4(x + 4 * g + 4)));
    }
    return _mm256_madd_epi16(_mm256_add_epi16(even, odd), _mm256_set1_epi16(1));
}

/* The float steps of one block and row; floats: da[m], sa[m], nb[m] of the block. */
INLINE void add_block(const uint32_t type, __m256i s, __m256 d, __m256 minimum,
                      const uint8_t *floats, const int m, int i, float *at)
{
    __m256 acc = _mm256_loadu_ps(at);
    __m256 scale = _mm256_mul_ps(d, _mm256_set1_ps(float_at(floats + 4 * i)));
    acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(s), scale, acc);
    if (type == TENSOR_Q4_1)
        acc = _mm256_fmadd_ps(minimum, _mm256_set1_ps(float_at(floats + 4 * m + 4 * i)), acc);
    _mm256_storeu_ps(at, acc);
}

INLINE void multiply_nibbles(const struct cpu_tile_span *span, const uint32_t type,
                             const bool is_16, const int m)
{
    const size_t row_bytes = is_16 ? PANEL_BYTES_16 : PANEL_BYTES_INT8;
    const uint8_t *x = (const uint8_t *)span->rows + span->begin * m * row_bytes;
    for (size_t b = span->begin; b < span->end; b++, x += m * row_bytes) {
        struct block_place at = place_of(span, type, b);
        const uint8_t *floats = x + (is_16 ? 2 : 1) * m * BLOCK_VALUES;
        prefetch_lines(at.block + span->prefetch_bytes, block_bytes_of(type));
        for (int half = 0; half < 2; half++) {
            __m256i w[8];
            load_nibbles(at.block, half, w);
            __m256 d = load_halves(at.scales + 16 * half), minimum = d;
            if (type == TENSOR_Q4_1)
                minimum = load_halves(at.scales + TILE_SCALES_BYTES + 16 * half);
            for (int i = 0; i < m; i++) {
                __m256i s = dot_nibbles(w, x + i * BLOCK_VALUES);
                if (is_16)
                    s = _mm256_add_epi32(_mm256_slli_epi32(s, 8),
                                         dot_nibbles(w, x + (m + i) * BLOCK_VALUES));
                if (type == TENSOR_Q4_0)
                    s = _mm256_add_epi32(s,
                                         _mm256_srai_epi32(broadcast4(floats + 8 * m + 4 * i), 4));
                add_block(type, s, d, minimum, floats, m, i,
                          span->acc + i * TILE_ROWS + HALF_ROWS * half);
            }
        }
    }
}

/* The activations of a block as 16-bit values: 32-bit lane g holds values 4g and 4g + 2 (even), 4g
 * + 1 and 4g + 3 (odd). */
struct wide_rows {
    __m256i even[PANEL_ROWS], odd[PANEL_ROWS];
};

INLINE void widen_rows(const uint8_t *x, const bool is_16, const int m, struct wide_rows *out)
{
    const __m256i high = _mm256_set1_epi16((short)0xff00);
    for (int i = 0; i < m; i++) {
        __m256i first = load_32(x + i * BLOCK_VALUES);
        if (!is_16) {
            out->even[i] = _mm256_srai_epi16(_mm256_slli_epi16(first, 8), 8);
            out->odd[i] = _mm256_srai_epi16(first, 8);
            continue;
        }
        __m256i lo = load_32(x + (m + i) * BLOCK_VALUES);
        out->even[i] = _mm256_add_epi16(_mm256_slli_epi16(first, 8),
                                        _mm256_srai_epi16(_mm256_slli_epi16(lo, 8), 8));
        out->odd[i] = _mm256_add_epi16(_mm256_and_si256(first, high), _mm256_srai_epi16(lo, 8));
    }
}

INLINE void multiply_bytes(const struct cpu_tile_span *span, const bool is_16, const int m)
{
    const size_t row_bytes = is_16 ? PANEL_BYTES_16 : PANEL_BYTES_INT8;
    const uint8_t *x = (const uint8_t *)span->rows + span->begin * m * row_bytes;
    const __m256i sign = _mm256_set1_epi8((char)0x80);
    for (size_t b = span->begin; b < span->end; b++, x += m * row_bytes) {
        struct block_place at = place_of(span, TENSOR_Q8_0, b);
        const uint8_t *floats = x + (is_16 ? 2 : 1) * m * BLOCK_VALUES;
        struct wide_rows wide;
        widen_rows(x, is_16, m, &wide);
        prefetch_lines(at.block + span->prefetch_bytes, TILE_Q8_BYTES);
        for (int half = 0; half < 2; half++) {
            __m256i s[PANEL_ROWS];
            UNROLL(12)
            for (int i = 0; i < m; i++)
                s[i] = _mm256_setzero_si256();
            for (int g = 0; g < 8; g++) {
                __m256i w = load_32(at.block + GROUP_BYTES * g + 32 * half);
                w = _mm256_xor_si256(w, sign);
                __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8);
                __m256i odd = _mm256_srai_epi16(w, 8);
                UNROLL(12)
                for (int i = 0; i < m; i++) {
                    __m256i x_even = broadcast4((const uint8_t *)&wide.even[i] + 4 * g);
                    __m256i x_odd = broadcast4((const uint8_t *)&wide.odd[i] + 4 * g);
                    s[i] = _mm256_add_epi32(s[i], _mm256_madd_epi16(even, x_even));
                    s[i] = _mm256_add_epi32(s[i], _mm256_madd_epi16(odd, x_odd));
                }
            }
            __m256 d = load_halves(at.scales + 16 * half);
            UNROLL(12)
            for (int i = 0; i < m; i++)
                add_block(TENSOR_Q8_0, s[i], d, d, floats, m, i,
                          span->acc + i * TILE_ROWS + HALF_ROWS * half);
        }
    }
}

INLINE void multiply_blocks(const struct cpu_tile_span *span, const uint32_t type, const bool is_16,
                            const int m)
{
    if (type == TENSOR_Q8_0)
        multiply_bytes(span, is_16, m);
    else
        multiply_nibbles(span, type, is_16, m);
}

INLINE void multiply_value(__m256 w, const float *x, size_t stride, __m256 *acc, const int m)
{
    UNROLL(12)
    for (int i = 0; i < m; i++)
        acc[i] = _mm256_fmadd_ps(w, _mm256_set1_ps(x[i * stride]), acc[i]);
}

INLINE void multiply_plain(const struct cpu_tile_span *span, const uint32_t type, int half,
                           __m256 *acc, const int m)
{
    const size_t value_bytes = type == TENSOR_F32 ? 64 : 32, stride = span->n_in;
    const float *x = span->rows;
    const uint8_t *tile = span->tile + half * value_bytes / 2;
    const size_t last = (size_t)span->end * BLOCK_VALUES, end = last < stride ? last : stride;
    for (size_t k = (size_t)span->begin * BLOCK_VALUES; k < end; k++) {
        const uint8_t *at = tile + k * value_bytes;
        _mm_prefetch((const char *)at + span->prefetch_bytes, _MM_HINT_T0);
        __m256 w = type == TENSOR_F32 ? _mm256_loadu_ps((const float *)at) : load_halves(at);
        multiply_value(w, x + k, stride, acc, m);
    }
}

/* Byte j of each lane, the offset taken off, times d, plus the minimum: as the file's formula
 * rounds. */
INLINE __m256 dequantized(const uint32_t type, __m256i bytes, int j, __m256 d, __m256 minimum)
{
    int32_t offset = type == TENSOR_Q8_0 ? 128 : type == TENSOR_Q4_0 ? 8 : 0;
    __m256i n = _mm256_and_si256(_mm256_srli_epi32(bytes, 8 * j), _mm256_set1_epi32(255));
    n = _mm256_sub_epi32(n, _mm256_set1_epi32(offset));
    __m256 product = _mm256_mul_ps(d, _mm256_cvtepi32_ps(n));
    return type == TENSOR_Q4_1 ? _mm256_add_ps(product, minimum) : product;
}

INLINE void multiply_dequantized(const struct cpu_tile_span *span, const uint32_t type, int half,
                                 __m256 *acc, const int m)
{
    const size_t stride = span->n_in;
    for (size_t b = span->begin; b < span->end; b++) {
        struct block_place at = place_of(span, type, b);
        const float *x = (const float *)span->rows + b * BLOCK_VALUES;
        __m256 d = load_halves(at.scales + 16 * half), minimum = d;
        if (type == TENSOR_Q4_1)
            minimum = load_halves(at.scales + TILE_SCALES_BYTES + 16 * half);
        prefetch_lines(at.block + span->prefetch_bytes, block_bytes_of(type));
        for (int g = 0; g < 8; g++) {
            int group = type == TENSOR_Q8_0 ? g : g / 2;
            __m256i bytes = load_32(at.block + GROUP_BYTES * group + 32 * half);
            if (type != TENSOR_Q8_0) {
                bytes = g % 2 == 0 ? bytes : _mm256_srli_epi16(bytes, 4);
                bytes = _mm256_and_si256(bytes, _mm256_set1_epi8(15));
            }
            UNROLL(4)
            for (int j = 0; j < 4; j++)
                multiply_value(dequantized(type, bytes, j, d, minimum), x + 4 * g + j, stride, acc,
                               m);
        }
    }
}

INLINE void multiply_floats(const struct cpu_tile_span *span, const uint32_t type, const int m)
{
    for (int half = 0; half < 2; half++) {
        __m256 acc[PANEL_ROWS];
        UNROLL(12)
        for (int i = 0; i < m; i++)
            acc[i] = _mm256_loadu_ps(span->acc + i * TILE_ROWS + HALF_ROWS * half);
        if (type == TENSOR_F32 || type == TENSOR_F16)
            multiply_plain(span, type, half, acc, m);
        else
            multiply_dequantized(span, type, half, acc, m);
        UNROLL(12)
        for (int i = 0; i < m; i++)
            _mm256_storeu_ps(span->acc + i * TILE_ROWS + HALF_ROWS * half, acc[i]);
    }
}

LINEAR_FORMS

cpu_tile_multiply *const cpu_linear_avx2[TILE_SLOTS][3][PANEL_ROWS] = LINEAR_TABLE;
