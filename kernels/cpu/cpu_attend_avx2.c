/* Attention with 256-bit registers: 6 rows x 2 registers of accumulators. See cpu_attend.h for
 * what is computed. */
#include "kernels/cpu/cpu_attend.h"

#include "kernels/cpu/cpu_attend_body.h"
#include "kernels/cpu/cpu_math_avx2.h"
#include "kernels/cpu/cpu_page.h"

#define TILE_ROWS 6
#define WIDTH 8
#define PAIR 16           /* values of two registers: what one call of `chains` is wide ... */
#define WIDE_ROWS 3       /* ... or of four, for so few rows */
#define WIDEN_FROM_ROWS 7 /* fewer rows widen in the loop */
#define INLINE static inline __attribute__((always_inline))

/* 8 values, or codes, from value 8 j of a run on; a run of 4-bit codes begins with those of a block
 * that stand above where `above` says so. */
INLINE __m256 load8(const uint8_t *from, const int j, const enum kv_dtype dtype, __m128i above)
{
    __m256i wide;
    switch (dtype) {
    case KV_F16:
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + j * 16)));
    case KV_BF16:
        wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(from + j * 16)));
        return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
    case KV_Q8:
        wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(from + j * 8)));
        return _mm256_cvtepi32_ps(wide);
    case KV_Q4:
        wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(from + j % 2 * 8)));
        wide = j < 2 ? _mm256_srl_epi32(wide, above) : _mm256_srli_epi32(wide, 4);
        return _mm256_cvtepi32_ps(_mm256_and_si256(wide, _mm256_set1_epi32(15)));
    case KV_F32:
        break;
    }
    return _mm256_loadu_ps((const float *)from + j * WIDTH);
}

struct run { /* of neighbours in each row of a plane */
    const uint8_t *from; /* in row 0 */
    size_t stride;       /* bytes */
    int above;           /* 4 where it begins with codes that stand above, else 0 */
};

/* acc[r][0 .. 8 n_registers - 1] = chain over i in [begin, end) of fma(a[r][i], b[i][..]), from
 * fma(acc, scale[r], offset[r]) (scale NULL: from offset[r]). */
INLINE void chains(const int n_rows, const int n_registers, const enum kv_dtype dtype,
                   const float *a, size_t a_stride, const struct run *b, uint32_t begin,
                   uint32_t end, const float *scale, const float *offset, float *acc,
                   size_t acc_stride, struct attend_ahead ahead)
{
    const uint8_t *from = b->from;
    size_t stride = b->stride;
    __m128i above = _mm_cvtsi32_si128(b->above);
    __m256 sum[TILE_ROWS][4];
#pragma GCC unroll 8
    for (int r = 0; r < n_rows; r++) {
#pragma GCC unroll 8
        for (int j = 0; j < n_registers; j++) {
            sum[r][j] = _mm256_set1_ps(offset[r]);
            if (scale != NULL)
                sum[r][j] = _mm256_fmadd_ps(_mm256_loadu_ps(acc + r * acc_stride + j * WIDTH),
                                            _mm256_set1_ps(scale[r]), sum[r][j]);
        }
    }
    for (uint32_t i = begin; i < end; i++) {
        attend_prefetch(ahead, i);
        __m256 x[4], y[TILE_ROWS];
        if (n_registers == 2) { /* many rows: the page's registers stay, the rows pass */
            x[0] = load8(from + i * stride, 0, dtype, above);
            x[1] = load8(from + i * stride, 1, dtype, above);
#pragma GCC unroll 8
            for (int r = 0; r < n_rows; r++) {
                y[r] = _mm256_broadcast_ss(a + r * a_stride + i);
                sum[r][0] = _mm256_fmadd_ps(y[r], x[0], sum[r][0]);
                sum[r][1] = _mm256_fmadd_ps(y[r], x[1], sum[r][1]);
            }
        } else { /* few rows: the other way round */
#pragma GCC unroll 8
            for (int r = 0; r < n_rows; r++)
                y[r] = _mm256_broadcast_ss(a + r * a_stride + i);
#pragma GCC unroll 8
            for (int j = 0; j < n_registers; j++) {
                x[j] = load8(from + i * stride, j, dtype, above);
#pragma GCC unroll 8
                for (int r = 0; r < n_rows; r++)
                    sum[r][j] = _mm256_fmadd_ps(y[r], x[j], sum[r][j]);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < n_rows; r++)
#pragma GCC unroll 8
        for (int j = 0; j < n_registers; j++)
            _mm256_storeu_ps(acc + r * acc_stride + j * WIDTH, sum[r][j]);
}

typedef void chains_form(const float *a, size_t a_stride, const struct run *b, uint32_t begin,
                         uint32_t end, const float *scale, const float *offset, float *acc,
                         size_t acc_stride, struct attend_ahead ahead);

/* clang-format off */
#define FORM(rows, registers, dtype)                                                               \
    static void chains_##rows##_##registers##_##dtype(                                             \
        const float *a, size_t a_stride, const struct run *b, uint32_t begin, uint32_t end,        \
        const float *scale, const float *offset, float *acc, size_t acc_stride,                    \
        struct attend_ahead ahead)                                                                 \
    {                                                                                              \
        chains(rows, registers, dtype, a, a_stride, b, begin, end, scale, offset, acc, acc_stride, \
               ahead);                                                                             \
    }
#define FORMS(dtype)                                                                               \
    FORM(1, 2, dtype) FORM(2, 2, dtype) FORM(3, 2, dtype)                                          \
    FORM(4, 2, dtype) FORM(5, 2, dtype) FORM(6, 2, dtype)                                          \
    FORM(1, 4, dtype) FORM(2, 4, dtype) FORM(3, 4, dtype)
FORMS(KV_F16) FORMS(KV_F32) FORMS(KV_BF16) FORMS(KV_Q8) FORMS(KV_Q4)

#define NARROW(dtype)                                                                              \
    [dtype] = {chains_1_2_##dtype, chains_2_2_##dtype, chains_3_2_##dtype,                         \
               chains_4_2_##dtype, chains_5_2_##dtype, chains_6_2_##dtype}
#define WIDE(dtype) [dtype] = {chains_1_4_##dtype, chains_2_4_##dtype, chains_3_4_##dtype}
static chains_form *const narrow[KV_DTYPES][TILE_ROWS] = {
    NARROW(KV_F16), NARROW(KV_F32), NARROW(KV_BF16), NARROW(KV_Q8), NARROW(KV_Q4),
};
static chains_form *const wide[KV_DTYPES][WIDE_ROWS] = {
    WIDE(KV_F16), WIDE(KV_F32), WIDE(KV_BF16), WIDE(KV_Q8), WIDE(KV_Q4),
};
/* clang-format on */

/* All ones in the lanes of tokens t .. t + 7 that stand in [begin, end). */
INLINE __m256 visible(uint32_t begin, uint32_t end, uint32_t t)
{
    __m256i token =
        _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32((int)t));
    __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)begin), token);
    __m256i within = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)end), token);
    return _mm256_castsi256_ps(_mm256_andnot_si256(below, within));
}

INLINE float max_of(__m256 x)
{
    float lanes[WIDTH];
    _mm256_storeu_ps(lanes, x);
    float max = lanes[0];
    for (int i = 1; i < WIDTH; i++)
        max = lanes[i] > max ? lanes[i] : max;
    return max;
}

/* From scores to p in place; moves m and l, gives c. */
static void soften(float *s, uint32_t begin, uint32_t end, float *m, float *l, float *c)
{
    __m256 low = _mm256_set1_ps(*m), top = low, p[8];
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++)
        top = _mm256_max_ps(top, _mm256_blendv_ps(low, _mm256_loadu_ps(s + j * WIDTH),
                                                  visible(begin, end, j * WIDTH)));
    float new_m = max_of(top);
    top = _mm256_set1_ps(new_m);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        p[j] = cpu_exp2_avx2(_mm256_sub_ps(_mm256_loadu_ps(s + j * WIDTH), top));
        p[j] = _mm256_and_ps(p[j], visible(begin, end, j * WIDTH));
        _mm256_storeu_ps(s + j * WIDTH, p[j]);
    }
    *c = attend_rescale(*m, new_m);
    *m = new_m;
    __m256 cs = _mm256_set1_ps(*c);
    for (int half = 0; half < 2; half++) {
        __m256 sum = _mm256_add_ps(_mm256_add_ps(p[half], p[2 + half]),
                                   _mm256_add_ps(p[4 + half], p[6 + half]));
        float *lanes = l + half * WIDTH;
        _mm256_storeu_ps(lanes, _mm256_fmadd_ps(_mm256_loadu_ps(lanes), cs, sum));
    }
}

struct plane { /* rows of values or codes; scales of codes, else NULL */
    const uint8_t *rows;
    enum kv_dtype dtype;
    const float *least, *step;
    struct attend_ahead ahead;
};

/* Values of a plane's rows that one pass takes. */
INLINE uint32_t pass_values(uint32_t n_rows)
{
    return n_rows <= WIDE_ROWS ? 2 * PAIR : PAIR;
}

/* From value i, a multiple of PAIR, of rows of n on. */
static struct run run_at(const struct plane *plane, uint32_t n, uint32_t i)
{
    struct run run = {.from = plane->rows, .stride = cpu_page_row_bytes(n, plane->dtype)};
    if (plane->dtype == KV_Q4) {
        run.from += i / CPU_PAGE_BLOCK * (CPU_PAGE_BLOCK / 2);
        run.above = i % CPU_PAGE_BLOCK != 0 ? 4 : 0;
    } else {
        run.from += cpu_page_row_bytes(i, plane->dtype);
    }
    return run;
}

/* Scores of tokens [low, high), and a few beside them. */
static void score_rows(const struct attend_tile *tile, uint32_t row, uint32_t n_rows,
                       const struct plane *k, uint32_t low, uint32_t high,
                       float (*p)[PAGE_TOKENS])
{
    const float *q = tile->q + (size_t)row * tile->k_dim;
    float scaled[TILE_ROWS * MODEL_HEAD_DIM_MAX], offset[TILE_ROWS] = {0};
    for (uint32_t r = 0; k->step != NULL && r < n_rows; r++) {
        const float *from = q + (size_t)r * tile->k_dim;
        offset[r] = attend_offset(from, k->least, tile->k_dim);
        attend_scale(from, k->step, tile->k_dim, scaled + (size_t)r * tile->k_dim);
    }
    q = k->step != NULL ? scaled : q;
    uint32_t step = pass_values(n_rows), first = low / step * step;
    chains_form *form =
        n_rows <= WIDE_ROWS ? wide[k->dtype][n_rows - 1] : narrow[k->dtype][n_rows - 1];
    struct attend_ahead ahead = row == 0 ? k->ahead : (struct attend_ahead){.step = 0};
    for (uint32_t t = first; t < high; t += step) {
        struct run run = run_at(k, PAGE_TOKENS, t);
        form(q, tile->k_dim, &run, 0, tile->k_dim, NULL, offset, &p[0][t], PAGE_TOKENS, ahead);
        ahead = attend_ahead_next(ahead, tile->k_dim);
    }
}

/* The first rows of a page prefetch. */
static void step_rows(const struct attend_tile *tile, uint32_t row, uint32_t n_rows,
                      const struct plane *k, const struct plane *v)
{
    const uint8_t *begin = tile->begin + row, *end = tile->end + row;
    uint32_t low = begin[0], high = end[0];
    for (uint32_t r = 1; r < n_rows; r++) {
        low = begin[r] < low ? begin[r] : low;
        high = end[r] > high ? end[r] : high;
    }
    if (high == 0)
        return;
    _Alignas(64) float p[TILE_ROWS][PAGE_TOKENS] = {0};
    float c[TILE_ROWS], w[TILE_ROWS] = {0};
    score_rows(tile, row, n_rows, k, low, high, p);
    for (uint32_t r = 0; r < n_rows; r++) {
        soften(p[r], begin[r], end[r], &tile->m[row + r],
               tile->l + (size_t)(row + r) * ATTEND_LANES, &c[r]);
        if (v->step != NULL)
            w[r] = attend_scale_p(p[r], v->least, v->step);
    }
    uint32_t step = pass_values(n_rows);
    chains_form *form =
        n_rows <= WIDE_ROWS ? wide[v->dtype][n_rows - 1] : narrow[v->dtype][n_rows - 1];
    struct attend_ahead ahead = row == 0 ? v->ahead : (struct attend_ahead){.step = 0};
    for (uint32_t d = 0; d < tile->v_dim; d += step) {
        if (tile->v_dim - d < step) {
            form = narrow[v->dtype][n_rows - 1];
            step = PAIR;
        }
        struct run run = run_at(v, tile->v_dim, d);
        form(&p[0][0], PAGE_TOKENS, &run, low, high, c, w,
             tile->o + (size_t)row * tile->v_dim + d, tile->v_dim, ahead);
        ahead = attend_ahead_next(ahead, PAGE_TOKENS);
    }
}

/* n_rows rows of n values (a multiple of 16) as floats; the plane that they are then. */
INLINE struct plane widen_rows(const struct plane *from, uint32_t n_rows, uint32_t n, float *to,
                               const enum kv_dtype dtype)
{
    struct plane widened = *from;
    widened.rows = (const uint8_t *)to;
    widened.dtype = KV_F32;
    for (uint32_t i = 0; i < n; i += PAIR) {
        struct run run = run_at(from, n, i);
        __m128i above = _mm_cvtsi32_si128(run.above);
        for (uint32_t r = 0; r < n_rows; r++) {
            const uint8_t *row = run.from + r * run.stride;
            _mm256_storeu_ps(to + (size_t)r * n + i, load8(row, 0, dtype, above));
            _mm256_storeu_ps(to + (size_t)r * n + i + WIDTH, load8(row, 1, dtype, above));
        }
    }
    return widened;
}

static struct plane widen(const struct plane *from, uint32_t n_rows, uint32_t n, float *to)
{
    switch (from->dtype) {
    case KV_F16:
        return widen_rows(from, n_rows, n, to, KV_F16);
    case KV_BF16:
        return widen_rows(from, n_rows, n, to, KV_BF16);
    case KV_Q8:
        return widen_rows(from, n_rows, n, to, KV_Q8);
    case KV_Q4:
        return widen_rows(from, n_rows, n, to, KV_Q4);
    case KV_F32:
        break;
    }
    return *from;
}

/* Rows and columns of 8 x 8 values change places. */
INLINE void transpose(__m256 r[WIDTH])
{
    __m256 t[WIDTH];
#pragma GCC unroll 4
    for (int i = 0; i < WIDTH; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < WIDTH; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m256 low = r[i], high = r[i + 4];
        r[i] = _mm256_permute2f128_ps(low, high, 0x20);
        r[i + 4] = _mm256_permute2f128_ps(low, high, 0x31);
    }
}

/* V out of K's first v_dim values: [64][v_dim]. K is floats. */
static const void *values_of_keys(const float *k, uint32_t v_dim, float *to)
{
    for (uint32_t d = 0; d < v_dim; d += WIDTH)
        for (uint32_t t = 0; t < PAGE_TOKENS; t += WIDTH) {
            __m256 r[WIDTH];
#pragma GCC unroll 8
            for (uint32_t i = 0; i < WIDTH; i++)
                r[i] = _mm256_loadu_ps(k + (size_t)(d + i) * PAGE_TOKENS + t);
            transpose(r);
#pragma GCC unroll 8
            for (uint32_t i = 0; i < WIDTH; i++)
                _mm256_storeu_ps(to + (size_t)(t + i) * v_dim + d, r[i]);
        }
    return to;
}

/* Codes, as floats, become values. */
static void unpack_keys(const struct attend_page *page, uint32_t k_dim, float *k)
{
    for (uint32_t d = 0; d < k_dim; d++, k += PAGE_TOKENS)
        for (uint32_t t = 0; t < PAGE_TOKENS; t += WIDTH)
            _mm256_storeu_ps(k + t, _mm256_fmadd_ps(_mm256_set1_ps(page->k_step[d]),
                                                    _mm256_loadu_ps(k + t),
                                                    _mm256_set1_ps(page->k_least[d])));
}

/* The planes of a latent page, as floats: both are read. */
static void widen_latent(const struct attend_tile *tile, const struct attend_page *page,
                         float *widened, struct plane *k, struct plane *v)
{
    float *values = widened + (size_t)PAGE_TOKENS * tile->k_dim;
    *k = widen(k, tile->k_dim, PAGE_TOKENS, widened);
    if (kv_dtype_is_packed(page->dtype))
        unpack_keys(page, tile->k_dim, widened);
    k->least = k->step = NULL;
    *v = (struct plane){.dtype = KV_F32,
                        .rows = values_of_keys((const float *)k->rows, tile->v_dim, values)};
}

static void avx2_step(const struct attend_tile *tile, const struct attend_page *page,
                      float *widened)
{
    if (tile->v_dim % PAIR != 0) {
        cpu_attend_scalar.step(tile, page, widened);
        return;
    }
    struct plane k = {.rows = page->k, .dtype = page->dtype};
    struct plane v = {.rows = page->v, .dtype = page->dtype};
    if (kv_dtype_is_packed(page->dtype)) {
        k.least = page->k_least;
        k.step = page->k_step;
        v.least = page->v_least;
        v.step = page->v_step;
    }
    if (page->v == NULL) {
        widen_latent(tile, page, widened, &k, &v);
    } else if (tile->n_rows >= WIDEN_FROM_ROWS) {
        k = widen(&k, tile->k_dim, PAGE_TOKENS, widened);
        v = widen(&v, PAGE_TOKENS, tile->v_dim, widened + (size_t)PAGE_TOKENS * tile->k_dim);
    }
    if (page->ahead != NULL) {
        uint32_t step = pass_values(tile->n_rows);
        k.ahead = attend_ahead(page->ahead, page->ahead_k_bytes, tile->k_dim, PAGE_TOKENS / step);
        v.ahead = attend_ahead(page->ahead + page->ahead_k_bytes, page->ahead_v_bytes, PAGE_TOKENS,
                               (tile->v_dim + step - 1) / step);
    }
    for (uint32_t row = 0; row < tile->n_rows; row += TILE_ROWS) {
        uint32_t n_rows = tile->n_rows - row < TILE_ROWS ? tile->n_rows - row : TILE_ROWS;
        step_rows(tile, row, n_rows, &k, &v);
    }
}

const struct cpu_attend_ops cpu_attend_avx2 = {avx2_step, attend_merge, attend_divide};
