/* Attention with 512-bit registers: 6 rows x 4 registers of accumulators. See cpu_attend.h for
 * what is computed. */
#include "kernels/cpu/cpu_attend.h"

#include "kernels/cpu/cpu_attend_plane_avx512.h"
#include "kernels/cpu/cpu_math_avx512.h"
#include "kernels/cpu/cpu_page.h"

#define TILE_ROWS 6
#define BATCH_ROWS 48     /* their p and one widened plane of 64 x 64 fit 32 KB of cache */
#define WIDEN_FROM_ROWS 7 /* fewer rows widen in the loop */

/* Rows of b are b_stride bytes apart. acc[r][16 j ..] = chain over i in [begin, end) of
 * fma(a[r][i], b[i][16 j ..]), from fma(acc, scale[r], offset[r]) (scale NULL: from offset[r]). */
INLINE void chains(const int n_rows, const int n_registers, const enum kv_dtype dtype,
                   const float *a, size_t a_stride, const uint8_t *b, size_t b_stride,
                   uint32_t begin, uint32_t end, const float *scale, const float *offset,
                   float *acc, size_t acc_stride, struct attend_ahead ahead)
{
    __m512 sum[TILE_ROWS][4];
#pragma GCC unroll 8
    for (int r = 0; r < n_rows; r++) {
#pragma GCC unroll 8
        for (int j = 0; j < n_registers; j++) {
            sum[r][j] = _mm512_set1_ps(offset[r]);
            if (scale != NULL)
                sum[r][j] = _mm512_fmadd_ps(_mm512_loadu_ps(acc + r * acc_stride + j * WIDTH),
                                            _mm512_set1_ps(scale[r]), sum[r][j]);
        }
    }
    for (uint32_t i = begin; i < end; i++) {
        __m512 x[4];
#pragma GCC unroll 8
        for (int j = 0; j < n_registers; j++)
            x[j] = load16(b + i * b_stride, j, dtype);
        attend_prefetch(ahead, i);
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

typedef void chains_form(const float *a, size_t a_stride, const uint8_t *b, size_t b_stride,
                         uint32_t begin, uint32_t end, const float *scale, const float *offset,
                         float *acc, size_t acc_stride, struct attend_ahead ahead);

#define FORM(rows, registers, dtype)                                                               \
    static void chains_##rows##_##registers##_##dtype(                                             \
        const float *a, size_t a_stride, const uint8_t *b, size_t b_stride, uint32_t begin,        \
        uint32_t end, const float *scale, const float *offset, float *acc, size_t acc_stride,      \
        struct attend_ahead ahead)                                                                 \
    {                                                                                              \
        chains(rows, registers, dtype, a, a_stride, b, b_stride, begin, end, scale, offset, acc,   \
               acc_stride, ahead);                                                                 \
    }
#define FORMS_OF_ROWS(rows, dtype)                                                                 \
    FORM(rows, 1, dtype)                                                                           \
    FORM(rows, 2, dtype)                                                                           \
    FORM(rows, 3, dtype)                                                                           \
    FORM(rows, 4, dtype)
#define FORMS(dtype)                                                                               \
    FORMS_OF_ROWS(1, dtype)                                                                        \
    FORMS_OF_ROWS(2, dtype)                                                                        \
    FORMS_OF_ROWS(3, dtype)                                                                        \
    FORMS_OF_ROWS(4, dtype)                                                                        \
    FORMS_OF_ROWS(5, dtype)                                                                        \
    FORMS_OF_ROWS(6, dtype)
FORMS(KV_F16)
FORMS(KV_F32)
FORMS(KV_BF16)
FORMS(KV_Q8)
FORMS(KV_Q4)

#define NAMES_OF_ROWS(rows, dtype)                                                                 \
    {                                                                                              \
        chains_##rows##_1_##dtype, chains_##rows##_2_##dtype, chains_##rows##_3_##dtype,           \
            chains_##rows##_4_##dtype                                                              \
    }
#define NAMES(dtype)                                                                               \
    [dtype] = {NAMES_OF_ROWS(1, dtype), NAMES_OF_ROWS(2, dtype), NAMES_OF_ROWS(3, dtype),          \
               NAMES_OF_ROWS(4, dtype), NAMES_OF_ROWS(5, dtype), NAMES_OF_ROWS(6, dtype)}
static chains_form *const forms[KV_DTYPES][TILE_ROWS][4] = {
    NAMES(KV_F16), NAMES(KV_F32), NAMES(KV_BF16), NAMES(KV_Q8), NAMES(KV_Q4),
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
    float c[BATCH_ROWS + WIDTH], w[BATCH_ROWS];
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

/* Queries that meet codes take their scales: n_rows rows of them to `scaled`, and what the least
 * values of the page add to all scores of a row. */
static void scale_queries(const struct plane *k, const float *q, uint32_t n_rows, uint32_t k_dim,
                          float *scaled, float *offset)
{
    for (uint32_t r = 0; r < n_rows; r++) {
        offset[r] = attend_offset(q + (size_t)r * k_dim, k->least, k_dim);
        attend_scale(q + (size_t)r * k_dim, k->step, k_dim, scaled + (size_t)r * k_dim);
    }
}

static void score(struct batch *batch, const struct plane *k)
{
    const struct attend_tile *tile = batch->tile;
    bool is_code = k->step != NULL;
    size_t row_bytes = cpu_page_row_bytes(PAGE_TOKENS, k->dtype);
    size_t register_bytes = row_bytes / (PAGE_TOKENS / WIDTH);
    float scaled[TILE_ROWS * MODEL_HEAD_DIM_MAX], offset[TILE_ROWS] = {0};
    for (uint32_t at = 0, i = 0; at < batch->n_rows; at += TILE_ROWS, i++) {
        if (batch->seen[i].high == 0)
            continue;
        uint32_t first = batch->seen[i].low / WIDTH, last = (batch->seen[i].high - 1) / WIDTH;
        uint32_t n_rows = tile_rows(batch, at);
        const float *q = tile->q + (size_t)(batch->row + at) * tile->k_dim;
        if (is_code) {
            scale_queries(k, q, n_rows, tile->k_dim, scaled, offset);
            q = scaled;
        }
        if (k->dtype == KV_Q4) { /* two registers a block */
            first = 0;
            last = PAGE_TOKENS / WIDTH - 1;
        }
        forms[k->dtype][n_rows - 1][last - first](
            q, tile->k_dim, k->rows + first * register_bytes, row_bytes, 0, tile->k_dim, NULL,
            offset, &batch->p[at][first * WIDTH], PAGE_TOKENS,
            at == 0 ? k->ahead : (struct attend_ahead){.step = 0});
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

/* p takes the scales of codes, as queries do. */
static void scale_p(struct batch *batch, const struct plane *v)
{
    for (uint32_t r = 0; r < batch->n_rows; r++) {
        batch->w[r] = 0;
        if (v->step == NULL || batch->seen[r / TILE_ROWS].high == 0)
            continue;
        batch->w[r] = attend_scale_p(batch->p[r], v->least, v->step);
    }
}

#define GATHER_VALUES (4 * WIDTH) /* of a pass over the tokens of V */

static void gather_values(const struct batch *batch, const struct plane *v)
{
    const struct attend_tile *tile = batch->tile;
    size_t row_bytes = cpu_page_row_bytes(tile->v_dim, v->dtype);
    for (uint32_t at = 0, i = 0; at < batch->n_rows; at += TILE_ROWS, i++) {
        struct attend_ahead ahead = at == 0 ? v->ahead : (struct attend_ahead){.step = 0};
        for (uint32_t d = 0; batch->seen[i].high > 0 && d < tile->v_dim; d += GATHER_VALUES) {
            uint32_t n_registers = (tile->v_dim - d) / WIDTH;
            n_registers = n_registers < 4 ? n_registers : 4;
            forms[v->dtype][tile_rows(batch, at) - 1][n_registers - 1](
                batch->p[at], PAGE_TOKENS, v->rows + cpu_page_row_bytes(d, v->dtype), row_bytes,
                batch->seen[i].low, batch->seen[i].high, batch->c + at, batch->w + at,
                tile->o + (size_t)(batch->row + at) * tile->v_dim + d, tile->v_dim, ahead);
            ahead = attend_ahead_next(ahead, PAGE_TOKENS);
        }
    }
}

static void avx512_step(const struct attend_tile *tile, const struct attend_page *page,
                        float *widened)
{
    if (tile->v_dim % WIDTH != 0) {
        cpu_attend_scalar.step(tile, page, widened);
        return;
    }
    bool is_packed = kv_dtype_is_packed(page->dtype), is_latent = page->v == NULL;
    bool widens = page->dtype != KV_F32 && !is_latent && tile->n_rows >= WIDEN_FROM_ROWS;
    struct plane k = {.rows = page->k, .dtype = page->dtype};
    struct plane v = {.rows = page->v, .dtype = page->dtype};
    if (is_packed) {
        k.least = page->k_least;
        k.step = page->k_step;
        v.least = page->v_least;
        v.step = page->v_step;
    }
    if (is_latent)
        widen_latent(tile, page, widened, &k, &v);
    if (page->ahead != NULL) {
        uint32_t n_passes = (tile->v_dim + GATHER_VALUES - 1) / GATHER_VALUES;
        k.ahead = attend_ahead(page->ahead, page->ahead_k_bytes, tile->k_dim, 1);
        v.ahead = attend_ahead(page->ahead + page->ahead_k_bytes, page->ahead_v_bytes, PAGE_TOKENS,
                               n_passes);
    }
    struct batch batch;
    batch.tile = tile;
    for (uint32_t row = 0; row < tile->n_rows; row += BATCH_ROWS) {
        batch.row = row;
        batch.n_rows = tile->n_rows - row < BATCH_ROWS ? tile->n_rows - row : BATCH_ROWS;
        see(&batch);
        struct plane k_read = widens ? widen(&k, tile->k_dim, PAGE_TOKENS, widened) : k;
        score(&batch, &k_read);
        soften_batch(&batch);
        scale_p(&batch, &v);
        struct plane v_read = widens ? widen(&v, PAGE_TOKENS, tile->v_dim, widened) : v;
        gather_values(&batch, &v_read);
        k.ahead.step = v.ahead.step = 0;
    }
}

const struct cpu_attend_ops cpu_attend_avx512 = {avx512_step, attend_merge, attend_divide};
