/* Tiles of 16 rows in one register: lane r is row r. One body a (type, activations), forced inline
 * into M = 1..12 rows. */
#include "kernels/cpu/cpu_linear_forms.h"

INLINE __m512 load_halves(const uint8_t *bytes)
{
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)bytes));
}

INLINE __m512i load_line(const uint8_t *bytes)
{
    return _mm512_load_si512((const __m512i *)bytes);
}

INLINE __m512i broadcast4(const uint8_t *bytes)
{
    int32_t word;
    memcpy(&word, bytes, sizeof word);
    return _mm512_set1_epi32(word);
}

struct block_weights {
    __m512i w[8]; /* unsigned bytes: 16 rows x 4 k each, k ascending */
    __m512 d, m;
};

INLINE void load_weights(uint32_t type, const uint8_t *block, const uint8_t *scales,
                         struct block_weights *out)
{
    if (type == TENSOR_Q8_0) {
        UNROLL(8)
        for (int g = 0; g < 8; g++)
            out->w[g] = load_line(block + GROUP_BYTES * g);
    } else {
        const __m512i low = _mm512_set1_epi8(15);
        UNROLL(4)
        for (int g = 0; g < 4; g++) {
            __m512i both = load_line(block + GROUP_BYTES * g);
            out->w[2 * g] = _mm512_and_si512(both, low);
            out->w[2 * g + 1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
        }
    }
    out->d = load_halves(scales);
    out->m = type == TENSOR_Q4_1 ? load_halves(scales + TILE_SCALES_BYTES) : _mm512_setzero_ps();
}

/* The exact integer dot of a block with one row. x: the row's bytes; lo: its low bytes, one plane
 * further (16-bit). */
INLINE __m512i dot_row(uint32_t type, bool is_16, const struct block_weights *weights,
                       const uint8_t *x, const uint8_t *lo, const uint8_t *nb)
{
    __m512i s = _mm512_setzero_si512(), t = _mm512_setzero_si512();
    if (type == TENSOR_Q8_0)
        t = broadcast4(nb);
    else if (type == TENSOR_Q4_0)
        t = _mm512_srai_epi32(broadcast4(nb), 4);
    UNROLL(8)
    for (int g = 0; g < 8; g++) {
        if (is_16) {
            s = _mm512_dpbusd_epi32(s, weights->w[g], broadcast4(x + 4 * g));
            t = _mm512_dpbusd_epi32(t, weights->w[g], broadcast4(lo + 4 * g));
        } else if (g % 2 == 0) {
            s = _mm512_dpbusd_epi32(s, weights->w[g], broadcast4(x + 4 * g));
        } else {
            t = _mm512_dpbusd_epi32(t, weights->w[g], broadcast4(x + 4 * g));
        }
    }
    return _mm512_add_epi32(is_16 ? _mm512_slli_epi32(s, 8) : s, t);
}

INLINE void multiply_blocks(const struct cpu_tile_span *span, const uint32_t type, const bool is_16,
                            const int m)
{
    const size_t row_bytes = is_16 ? PANEL_BYTES_16 : PANEL_BYTES_INT8;
    const size_t front = cpu_tile_front_bytes(type, span->n_in);
    const size_t block_bytes = block_bytes_of(type);
    const uint8_t *block = span->tile + front + span->begin * block_bytes;
    const uint8_t *end = span->tile + front + span->end * block_bytes;
    const uint8_t *scales =
        type == TENSOR_Q4_1 ? block + TILE_Q4_BYTES : span->tile + span->begin * TILE_SCALES_BYTES;
    const uint8_t *x = (const uint8_t *)span->rows + span->begin * m * row_bytes;
    const size_t ahead = span->prefetch_bytes;

    __m512 acc[PANEL_ROWS];
    UNROLL(12)
    for (int i = 0; i < m; i++)
        acc[i] = _mm512_load_ps(span->acc + i * TILE_ROWS);

    for (; block < end; block += block_bytes, x += m * row_bytes) {
        struct block_weights weights;
        load_weights(type, block, scales, &weights);
        scales += type == TENSOR_Q4_1 ? TILE_Q4_1_BYTES : TILE_SCALES_BYTES;
        prefetch_lines(block + ahead, block_bytes);

        const uint8_t *floats = x + (is_16 ? 2 : 1) * m * BLOCK_VALUES;
        UNROLL(12)
        for (int i = 0; i < m; i++) {
            __m512i s = dot_row(type, is_16, &weights, x + i * BLOCK_VALUES,
                                x + (m + i) * BLOCK_VALUES, floats + 8 * m + 4 * i);
            __m512 scale = _mm512_mul_ps(weights.d, _mm512_set1_ps(float_at(floats + 4 * i)));
            acc[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(s), scale, acc[i]);
            if (type == TENSOR_Q4_1)
                acc[i] = _mm512_fmadd_ps(weights.m,
                                         _mm512_set1_ps(float_at(floats + 4 * m + 4 * i)), acc[i]);
        }
    }
    UNROLL(12)
    for (int i = 0; i < m; i++)
        _mm512_store_ps(span->acc + i * TILE_ROWS, acc[i]);
}

INLINE void multiply_value(__m512 w, const float *x, size_t stride, __m512 *acc, const int m)
{
    UNROLL(12)
    for (int i = 0; i < m; i++)
        acc[i] = _mm512_fmadd_ps(w, _mm512_set1_ps(x[i * stride]), acc[i]);
}

/* F32 and F16: one line or half a line a value of k. */
INLINE void multiply_plain(const struct cpu_tile_span *span, const uint32_t type, __m512 *acc,
                           const int m)
{
    const size_t value_bytes = type == TENSOR_F32 ? 64 : 32, stride = span->n_in;
    const float *x = span->rows;
    const size_t last = (size_t)span->end * BLOCK_VALUES;
    const size_t end = last < stride ? last : stride;
    for (size_t k = (size_t)span->begin * BLOCK_VALUES; k < end; k++) {
        const uint8_t *at = span->tile + k * value_bytes;
        _mm_prefetch((const char *)at + span->prefetch_bytes, _MM_HINT_T0);
        __m512 w = type == TENSOR_F32 ? _mm512_load_ps((const float *)at) : load_halves(at);
        multiply_value(w, x + k, stride, acc, m);
    }
}

/* Byte j of each lane, the offset taken off, times d, plus m: as the file's formula rounds. */
INLINE __m512 dequantized(const uint32_t type, __m512i bytes, int j, __m512 d, __m512 minimum)
{
    int32_t offset = type == TENSOR_Q8_0 ? 128 : type == TENSOR_Q4_0 ? 8 : 0;
    __m512i n = _mm512_and_si512(_mm512_srli_epi32(bytes, 8 * j), _mm512_set1_epi32(255));
    n = _mm512_sub_epi32(n, _mm512_set1_epi32(offset));
    __m512 product = _mm512_mul_ps(d, _mm512_cvtepi32_ps(n));
    return type == TENSOR_Q4_1 ? _mm512_add_ps(product, minimum) : product;
}

INLINE void multiply_dequantized(const struct cpu_tile_span *span, const uint32_t type, __m512 *acc,
                                 const int m)
{
    const size_t stride = span->n_in;
    for (size_t b = span->begin; b < span->end; b++) {
        struct block_place at = place_of(span, type, b);
        const float *x = (const float *)span->rows + b * BLOCK_VALUES;
        __m512 d = load_halves(at.scales), minimum = d;
        if (type == TENSOR_Q4_1)
            minimum = load_halves(at.scales + TILE_SCALES_BYTES);
        prefetch_lines(at.block + span->prefetch_bytes, block_bytes_of(type));
        for (int g = 0; g < 8; g++) {
            __m512i bytes = load_line(at.block + GROUP_BYTES * (type == TENSOR_Q8_0 ? g : g / 2));
            if (type != TENSOR_Q8_0) {
                bytes = g % 2 == 0 ? bytes : _mm512_srli_epi16(bytes, 4);
                bytes = _mm512_and_si512(bytes, _mm512_set1_epi8(15));
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
    __m512 acc[PANEL_ROWS];
    UNROLL(12)
    for (int i = 0; i < m; i++)
        acc[i] = _mm512_load_ps(span->acc + i * TILE_ROWS);
    if (type == TENSOR_F32 || type == TENSOR_F16)
        multiply_plain(span, type, acc, m);
    else
        multiply_dequantized(span, type, acc, m);
    UNROLL(12)
    for (int i = 0; i < m; i++)
        _mm512_store_ps(span->acc + i * TILE_ROWS, acc[i]);
}

LINEAR_FORMS

cpu_tile_multiply *const cpu_linear_avx512[TILE_SLOTS][3][PANEL_ROWS] = LINEAR_TABLE;
