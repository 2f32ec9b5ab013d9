/* Attention with 512-bit registers: 6 rows x 4 registers of accumulators. See cpu_attend.h for
 * what is computed. */
#include "kernels/cpu/cpu_attend.h"

#include "kernels/cpu/cpu_attend_body.h"
#include "kernels/cpu/cpu_math_avx512.h"

#define TILE_ROWS 6
#define WIDTH 16
#define BATCH_ROWS 48     /* their p and one widened plane of 64 x 64 fit 32 KB of cache */
#define WIDEN_FROM_ROWS 7 /* fewer rows widen f16 in the loop */
#define INLINE static inline __attribute__((always_inline))

INLINE __m512 load16(const void *from, size_t i, bool half)
{
    if (half)
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)((const uint16_t *)from + i)));
    return _mm512_loadu_ps((const float *)from + i);
}

/* acc[r][16 j ..] += chain over i in [begin, end) of fma(a[r][i], b[i][16 j ..]), from acc *
 * scale[r] (scale NULL: from 0). With each i, ahead_step bytes of `ahead` are prefetched, into the
 * second level: two heads of pages fill a first level of 32 KB. */
INLINE void chains(const int n_rows, const int n_registers, const bool half, const float *a,
                   size_t a_stride, const void *b, size_t b_stride, uint32_t begin, uint32_t end,
                   const float *scale, float *acc, size_t acc_stride, const uint8_t *ahead,
                   size_t ahead_step)
{
    __m512 sum[TILE_ROWS][4];
#pragma GCC unroll 8
    for (int r = 0; r < n_rows; r++) {
#pragma GCC unroll 8
        for (int j = 0; j < n_registers; j++) {
            if (scale == NULL)
                sum[r][j] = _mm512_setzero_ps();
            else
                sum[r][j] = _mm512_mul_ps(_mm512_loadu_ps(acc + r * acc_stride + j * WIDTH),
                                          _mm512_set1_ps(scale[r]));
        }
    }
    for (uint32_t i = begin; i < end; i++) {
        __m512 x[4];
#pragma GCC unroll 8
        for (int j = 0; j < n_registers; j++)
            x[j] = load16(b, i * b_stride + j * WIDTH, half);
        for (size_t line = 0; line < ahead_step; line += 64)
            _mm_prefetch((const char *)ahead + i * ahead_step + line, _MM_HINT_T1);
#pragma GCC unroll 8
        for (int r = 0; r < n_rows; r++) {
            __m512 y = _mm512_set1_ps(a[r * a_stride + i]);
#pragma GCC unroll 8
            for (int j = 0; j < n_registers; j++)
                sum[r][j] = _mm512_fmadd_ps(y, x[j], sum[r][j]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < n_rows; r++)
#pragma GCC unroll 8
        for (int j = 0; j < n_registers; j++)
            _mm512_storeu_ps(acc + r * acc_stride + j * WIDTH, sum[r][j]);
}

typedef void chains_form(const float *a, size_t a_stride, const void *b, size_t b_stride,
                         uint32_t begin, uint32_t end, const float *scale, float *acc,
                         size_t acc_stride, const uint8_t *ahead, size_t ahead_step);

#define FORM(rows, registers, half)                                                                \
    static void chains_##rows##_##registers##_##half(                                              \
        const float *a, size_t a_stride, const void *b, size_t b_stride, uint32_t begin,           \
        uint32_t end, const float *scale, float *acc, size_t acc_stride, const uint8_t *ahead,     \
        size_t ahead_step)                                                                         \
    {                                                                                              \
        chains(rows, registers, half, a, a_stride, b, b_stride, begin, end, scale, acc,            \
               acc_stride, ahead, ahead_step);                                                     \
    }
#define FORMS_OF_ROWS(rows)                                                                        \
    FORM(rows, 1, 0)                                                                               \
    FORM(rows, 2, 0)                                                                               \
    FORM(rows, 3, 0)                                                                               \
    FORM(rows, 4, 0) FORM(rows, 1, 1) FORM(rows, 2, 1) FORM(rows, 3, 1) FORM(rows, 4, 1)
FORMS_OF_ROWS(1)
FORMS_OF_ROWS(2)
FORMS_OF_ROWS(3)
FORMS_OF_ROWS(4)
FORMS_OF_ROWS(5)
FORMS_OF_ROWS(6)

#define NAMES(rows, half)                                                                          \
    {                                                                                              \
        chains_##rows##_1_##half, chains_##rows##_2_##half, chains_##rows##_3_##half,              \
            chains_##rows##_4_##half                                                               \
    }
static chains_form *const forms[2][TILE_ROWS][4] = {
    {NAMES(1, 0), NAMES(2, 0), NAMES(3, 0), NAMES(4, 0), NAMES(5, 0), NAMES(6, 0)},
    {NAMES(1, 1), NAMES(2, 1), NAMES(3, 1), NAMES(4, 1), NAMES(5, 1), NAMES(6, 1)},
};

/* Bits t of [begin, end) that fall on register j. */
INLINE __mmask16 visible(uint32_t begin, uint32_t end, uint32_t j)
{
    if (begin >= end)
        return 0;
    uint64_t bits = UINT64_MAX >> (PAGE_TOKENS - (end - begin)) << begin;
    return (__mmask16)(bits >> (j * WIDTH));
}

/* From scores to p in place; moves m and l, gives c. `full`: every row sees all tokens. Registers
 * outside of [first, last] hold no visible token and no score. What stands at a token that the row
 * does not see may be above m: its exp2 is thrown away. */
INLINE void soften(const bool full, float (*s)[PAGE_TOKENS], uint32_t n_rows, const uint8_t *begin,
                   const uint8_t *end, uint32_t first, uint32_t last, float *m, float *l, float *c)
{
    _Alignas(64) float top[WIDTH] = {0};
    __mmask16 mask[TILE_ROWS][4];
    for (uint32_t r = 0; r < n_rows; r++) {
        __m512 max = _mm512_set1_ps(ATTEND_M_START);
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++) {
            mask[r][j] = full ? 0xffff : j < first || j > last ? 0 : visible(begin[r], end[r], j);
            max = _mm512_mask_max_ps(max, mask[r][j], max, _mm512_load_ps(s[r] + j * WIDTH));
        }
        top[r] = _mm512_reduce_max_ps(max); /* the order of a max is free */
    }
    __mmask16 rows = (__mmask16)((1u << n_rows) - 1);
    __m512 m_old = _mm512_maskz_loadu_ps(rows, m);
    __m512 m_new = _mm512_max_ps(m_old, _mm512_load_ps(top));
    __mmask16 moved = _mm512_cmp_ps_mask(m_new, m_old, _CMP_NEQ_UQ);
    __m512 cs = _mm512_mask_mov_ps(_mm512_set1_ps(1.0f), moved,
                                   cpu_exp2_below_avx512(_mm512_sub_ps(m_old, m_new)));
    _mm512_mask_storeu_ps(m, rows, m_new);
    _mm512_store_ps(top, m_new);
    _mm512_storeu_ps(c, cs);
    for (uint32_t r = 0; r < n_rows; r++) {
        __m512 max = _mm512_set1_ps(top[r]), p[4];
#pragma GCC unroll 4
        for (uint32_t j = 0; j < 4; j++) {
            p[j] = cpu_exp2_below_avx512(_mm512_sub_ps(_mm512_load_ps(s[r] + j * WIDTH), max));
            p[j] = full ? p[j] : _mm512_maskz_mov_ps(mask[r][j], p[j]);
            _mm512_store_ps(s[r] + j * WIDTH, p[j]);
        }
        __m512 sum = _mm512_add_ps(_mm512_add_ps(p[0], p[1]), _mm512_add_ps(p[2], p[3]));
        float *lanes = l + r * ATTEND_LANES;
        _mm512_storeu_ps(lanes, _mm512_fmadd_ps(_mm512_loadu_ps(lanes), _mm512_set1_ps(c[r]), sum));
    }
}

struct batch { /* up to BATCH_ROWS rows on their way through one page */
    const struct attend_tile *tile;
    uint32_t row, n_rows;
    struct {
        uint32_t low,
            high;  /* no row of this tile sees a token outside of them; high 0: nothing to see */
        bool full; /* every row sees all tokens */
    } seen[BATCH_ROWS / TILE_ROWS];
    float c[BATCH_ROWS + WIDTH];
    _Alignas(64) float p[BATCH_ROWS][PAGE_TOKENS];
};

static void see(struct batch *batch)
{
    for (uint32_t at = 0, i = 0; at < batch->n_rows; at += TILE_ROWS, i++) {
        const uint8_t *begin = batch->tile->begin + batch->row + at;
        const uint8_t *end = batch->tile->end + batch->row + at;
        uint32_t low = begin[0], high = end[0];
        bool full = low == 0 && high == PAGE_TOKENS;
        for (uint32_t r = 1; r < TILE_ROWS && at + r < batch->n_rows; r++) {
            low = begin[r] < low ? begin[r] : low;
            high = end[r] > high ? end[r] : high;
            full &= begin[r] == 0 && end[r] == PAGE_TOKENS;
        }
        batch->seen[i].low = low;
        batch->seen[i].high = high;
        batch->seen[i].full = full;
    }
}

static uint32_t tile_rows(const struct batch *batch, uint32_t at)
{
    return batch->n_rows - at < TILE_ROWS ? batch->n_rows - at : TILE_ROWS;
}

static void score(struct batch *batch, const void *k, bool half, const uint8_t *ahead,
                  size_t ahead_step)
{
    const struct attend_tile *tile = batch->tile;
    for (uint32_t at = 0, i = 0; at < batch->n_rows; at += TILE_ROWS, i++) {
        if (batch->seen[i].high == 0)
            continue;
        uint32_t first = batch->seen[i].low / WIDTH, last = (batch->seen[i].high - 1) / WIDTH;
        forms[half][tile_rows(batch, at) - 1][last - first](
            tile->q + (size_t)(batch->row + at) * tile->k_dim, tile->k_dim,
            (const uint8_t *)k + first * WIDTH * (half ? 2 : 4), PAGE_TOKENS, 0, tile->k_dim, NULL,
            &batch->p[at][first * WIDTH], PAGE_TOKENS, ahead, at == 0 ? ahead_step : 0);
    }
}

static void soften_batch(struct batch *batch)
{
    for (uint32_t at = 0, i = 0; at < batch->n_rows; at += TILE_ROWS, i++) {
        uint32_t n_rows = tile_rows(batch, at), row = batch->row + at;
        const uint8_t *begin = batch->tile->begin + row, *end = batch->tile->end + row;
        float *m = batch->tile->m + row, *l = batch->tile->l + (size_t)row * ATTEND_LANES;
        if (batch->seen[i].full)
            soften(true, batch->p + at, n_rows, begin, end, 0, 3, m, l, batch->c + at);
        else if (batch->seen[i].high > 0)
            soften(false, batch->p + at, n_rows, begin, end, batch->seen[i].low / WIDTH,
                   (batch->seen[i].high - 1) / WIDTH, m, l, batch->c + at);
    }
}

static void gather_values(const struct batch *batch, const void *v, bool half, const uint8_t *ahead,
                          size_t ahead_step)
{
    const struct attend_tile *tile = batch->tile;
    size_t value_bytes = half ? 2 : 4;
    for (uint32_t at = 0, i = 0; at < batch->n_rows; at += TILE_ROWS, i++) {
        for (uint32_t d = 0; batch->seen[i].high > 0 && d < tile->v_dim; d += 4 * WIDTH) {
            uint32_t n_registers = (tile->v_dim - d) / WIDTH;
            n_registers = n_registers < 4 ? n_registers : 4;
            forms[half][tile_rows(batch, at) - 1][n_registers - 1](
                batch->p[at], PAGE_TOKENS, (const uint8_t *)v + d * value_bytes, tile->v_dim,
                batch->seen[i].low, batch->seen[i].high, batch->c + at,
                tile->o + (size_t)(batch->row + at) * tile->v_dim + d, tile->v_dim, ahead,
                at == 0 && d == 0 ? ahead_step : 0);
        }
    }
}

static const void *widen(const void *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i += WIDTH)
        _mm512_store_ps(to + i, load16(from, i, true));
    return to;
}

/* Rows and columns of 16 x 16 values change places. */
INLINE void transpose(__m512 r[WIDTH])
{
    __m512 t[WIDTH];
#pragma GCC unroll 8
    for (int i = 0; i < WIDTH; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < WIDTH; i += 4) {
        r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { /* quarters of a register */
        __m512 low = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
        __m512 high = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
        __m512 low_of_rest = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
        __m512 high_of_rest = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
        t[i] = _mm512_shuffle_f32x4(low, low_of_rest, 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(high, high_of_rest, 0x88);
        t[i + 8] = _mm512_shuffle_f32x4(low, low_of_rest, 0xdd);
        t[i + 12] = _mm512_shuffle_f32x4(high, high_of_rest, 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < WIDTH; i++)
        r[i] = t[i];
}

/* V out of K's first v_dim values: [64][v_dim]. */
static const void *values_of_keys(const void *k, bool half, uint32_t v_dim, float *to)
{
    for (uint32_t d = 0; d < v_dim; d += WIDTH)
        for (uint32_t t = 0; t < PAGE_TOKENS; t += WIDTH) {
            __m512 r[WIDTH];
#pragma GCC unroll 16
            for (uint32_t i = 0; i < WIDTH; i++)
                r[i] = load16(k, (size_t)(d + i) * PAGE_TOKENS + t, half);
            transpose(r);
#pragma GCC unroll 16
            for (uint32_t i = 0; i < WIDTH; i++)
                _mm512_storeu_ps(to + (size_t)(t + i) * v_dim + d, r[i]);
        }
    return to;
}

static void avx512_step(const struct attend_tile *tile, const struct attend_page *page,
                        float *widened)
{
    if (tile->v_dim % WIDTH != 0) {
        cpu_attend_scalar.step(tile, page, widened);
        return;
    }
    bool half = page->dtype == KV_F16, is_latent = page->v == NULL;
    bool widens = half && tile->n_rows >= WIDEN_FROM_ROWS;
    size_t k_values = (size_t)PAGE_TOKENS * tile->k_dim,
           v_values = (size_t)PAGE_TOKENS * tile->v_dim;
    size_t value_bytes = half ? 2 : 4;
    const uint8_t *k_ahead = page->ahead;
    const uint8_t *v_ahead =
        k_ahead == NULL || is_latent ? NULL : k_ahead + k_values * value_bytes;
    const void *values = page->v;
    if (is_latent)
        values = values_of_keys(page->k, half, tile->v_dim, widened + k_values);
    struct batch batch;
    batch.tile = tile;
    for (uint32_t row = 0; row < tile->n_rows; row += BATCH_ROWS) {
        batch.row = row;
        batch.n_rows = tile->n_rows - row < BATCH_ROWS ? tile->n_rows - row : BATCH_ROWS;
        see(&batch);
        const void *k = widens ? widen(page->k, k_values, widened) : page->k;
        score(&batch, k, half && !widens, k_ahead,
              row == 0 && k_ahead != NULL ? PAGE_TOKENS * value_bytes : 0);
        soften_batch(&batch);
        const void *v = widens && !is_latent ? widen(values, v_values, widened) : values;
        gather_values(&batch, v, half && !widens && !is_latent, v_ahead,
                      row == 0 && v_ahead != NULL ? tile->v_dim * value_bytes : 0);
    }
}

const struct cpu_attend_ops cpu_attend_avx512 = {avx512_step, attend_merge, attend_divide};
