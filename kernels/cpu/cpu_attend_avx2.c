/* Attention with 256-bit registers: 6 rows x 2 registers of accumulators. See cpu_attend.h for
 * what is computed. */
#include "kernels/cpu/cpu_attend.h"

#include "kernels/cpu/cpu_attend_body.h"
#include "kernels/cpu/cpu_math_avx2.h"

#define TILE_ROWS 6
#define WIDTH 8
#define PAIR 16           /* values of two registers: what one call of `chains` is wide ... */
#define WIDE_ROWS 3       /* ... or of four, for so few rows */
#define WIDEN_FROM_ROWS 7 /* fewer rows widen f16 in the loop */
#define INLINE static inline __attribute__((always_inline))

INLINE __m256 load8(const void *from, size_t i, bool half)
{
    if (half)
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)from + i)));
    return _mm256_loadu_ps((const float *)from + i);
}

/* acc[r][0 .. 8 n_registers - 1] = chain over i in [begin, end) of fma(a[r][i], b[i][..]), from
 * acc * scale[r] (scale NULL: from 0). With each i, ahead_step bytes of `ahead` are prefetched. */
INLINE void chains(const int n_rows, const int n_registers, const bool half, const float *a,
                   size_t a_stride, const void *b, size_t b_stride, uint32_t begin, uint32_t end,
                   const float *scale, float *acc, size_t acc_stride, const uint8_t *ahead,
                   size_t ahead_step)
{
    __m256 sum[TILE_ROWS][4];
#pragma GCC unroll 8
    for (int r = 0; r < n_rows; r++) {
#pragma GCC unroll 8
        for (int j = 0; j < n_registers; j++) {
            if (scale == NULL)
                sum[r][j] = _mm256_setzero_ps();
            else
                sum[r][j] = _mm256_mul_ps(_mm256_loadu_ps(acc + r * acc_stride + j * WIDTH),
                                          _mm256_set1_ps(scale[r]));
        }
    }
    for (uint32_t i = begin; i < end; i++) {
        for (size_t line = 0; line < ahead_step; line += 64)
            _mm_prefetch((const char *)ahead + i * ahead_step + line, _MM_HINT_T1);
        __m256 x[4], y[TILE_ROWS];
        if (n_registers == 2) { /* many rows: the page's registers stay, the rows pass */
            x[0] = load8(b, i * b_stride, half);
            x[1] = load8(b, i * b_stride + WIDTH, half);
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
                x[j] = load8(b, i * b_stride + j * WIDTH, half);
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

typedef void chains_form(const float *a, size_t a_stride, const void *b, size_t b_stride,
                         uint32_t begin, uint32_t end, const float *scale, float *acc,
                         size_t acc_stride, const uint8_t *ahead, size_t ahead_step);

/* clang-format off */
#define FORM(rows, registers, half)                                                                \
    static void chains_##rows##_##registers##_##half(                                              \
        const float *a, size_t a_stride, const void *b, size_t b_stride, uint32_t begin,           \
        uint32_t end, const float *scale, float *acc, size_t acc_stride, const uint8_t *ahead,     \
        size_t ahead_step)                                                                         \
    {                                                                                              \
        chains(rows, registers, half, a, a_stride, b, b_stride, begin, end, scale, acc,            \
               acc_stride, ahead, ahead_step);                                                     \
    }
FORM(1, 2, 0) FORM(2, 2, 0) FORM(3, 2, 0) FORM(4, 2, 0) FORM(5, 2, 0) FORM(6, 2, 0)
FORM(1, 2, 1) FORM(2, 2, 1) FORM(3, 2, 1) FORM(4, 2, 1) FORM(5, 2, 1) FORM(6, 2, 1)
FORM(1, 4, 0) FORM(2, 4, 0) FORM(3, 4, 0)
FORM(1, 4, 1) FORM(2, 4, 1) FORM(3, 4, 1)

static chains_form *const narrow[2][TILE_ROWS] = {
    {chains_1_2_0, chains_2_2_0, chains_3_2_0, chains_4_2_0, chains_5_2_0, chains_6_2_0},
    {chains_1_2_1, chains_2_2_1, chains_3_2_1, chains_4_2_1, chains_5_2_1, chains_6_2_1},
};
static chains_form *const wide[2][WIDE_ROWS] = {
    {chains_1_4_0, chains_2_4_0, chains_3_4_0},
    {chains_1_4_1, chains_2_4_1, chains_3_4_1},
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

struct planes { /* of a page; `ahead`: those of the page to prefetch, or NULL */
    const void *k, *v;
    bool k_half, v_half;
    const uint8_t *k_ahead, *v_ahead;
    size_t ahead_bytes; /* of a value */
};

/* The first rows of a page prefetch. */
static void step_rows(const struct attend_tile *tile, uint32_t row, uint32_t n_rows,
                      const struct planes *page)
{
    const uint8_t *begin = tile->begin + row, *end = tile->end + row;
    uint32_t low = begin[0], high = end[0];
    for (uint32_t r = 1; r < n_rows; r++) {
        low = begin[r] < low ? begin[r] : low;
        high = end[r] > high ? end[r] : high;
    }
    if (high == 0)
        return;
    bool half = page->k_half;
    size_t k_ahead = row == 0 && page->k_ahead != NULL ? PAGE_TOKENS * page->ahead_bytes : 0;
    size_t v_ahead = row == 0 && page->v_ahead != NULL ? tile->v_dim * page->ahead_bytes : 0;
    _Alignas(64) float p[TILE_ROWS][PAGE_TOKENS] = {0};
    float c[TILE_ROWS];
    uint32_t step = n_rows <= WIDE_ROWS ? 2 * PAIR : PAIR, first = low / step * step;
    chains_form *form = n_rows <= WIDE_ROWS ? wide[half][n_rows - 1] : narrow[half][n_rows - 1];
    for (uint32_t t = first; t < high; t += step)
        form(tile->q + (size_t)row * tile->k_dim, tile->k_dim,
             (const uint8_t *)page->k + t * (half ? 2 : 4), PAGE_TOKENS, 0, tile->k_dim, NULL,
             &p[0][t], PAGE_TOKENS, page->k_ahead, t == first ? k_ahead : 0);
    for (uint32_t r = 0; r < n_rows; r++)
        soften(p[r], begin[r], end[r], &tile->m[row + r],
               tile->l + (size_t)(row + r) * ATTEND_LANES, &c[r]);
    half = page->v_half;
    form = n_rows <= WIDE_ROWS ? wide[half][n_rows - 1] : narrow[half][n_rows - 1];
    for (uint32_t d = 0; d < tile->v_dim; d += step) {
        if (tile->v_dim - d < step) {
            form = narrow[half][n_rows - 1];
            step = PAIR;
        }
        form(&p[0][0], PAGE_TOKENS, (const uint8_t *)page->v + d * (half ? 2 : 4), tile->v_dim, low,
             high, c, tile->o + (size_t)row * tile->v_dim + d, tile->v_dim, page->v_ahead,
             d == 0 ? v_ahead : 0);
    }
}

static const void *widen(const void *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i += WIDTH)
        _mm256_store_ps(to + i, load8(from, i, true));
    return to;
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

/* V out of K's first v_dim values: [64][v_dim]. */
static const void *values_of_keys(const void *k, bool half, uint32_t v_dim, float *to)
{
    for (uint32_t d = 0; d < v_dim; d += WIDTH)
        for (uint32_t t = 0; t < PAGE_TOKENS; t += WIDTH) {
            __m256 r[WIDTH];
#pragma GCC unroll 8
            for (uint32_t i = 0; i < WIDTH; i++)
                r[i] = load8(k, (size_t)(d + i) * PAGE_TOKENS + t, half);
            transpose(r);
#pragma GCC unroll 8
            for (uint32_t i = 0; i < WIDTH; i++)
                _mm256_storeu_ps(to + (size_t)(t + i) * v_dim + d, r[i]);
        }
    return to;
}

static void avx2_step(const struct attend_tile *tile, const struct attend_page *page,
                      float *widened)
{
    if (tile->v_dim % PAIR != 0) {
        cpu_attend_scalar.step(tile, page, widened);
        return;
    }
    bool half = page->dtype == KV_F16, widens = half && tile->n_rows >= WIDEN_FROM_ROWS;
    size_t k_values = (size_t)PAGE_TOKENS * tile->k_dim,
           v_values = (size_t)PAGE_TOKENS * tile->v_dim;
    float *v_widened = widened + k_values;
    struct planes planes = {.k = widens ? widen(page->k, k_values, widened) : page->k,
                            .k_half = half && !widens,
                            .k_ahead = page->ahead,
                            .ahead_bytes = kv_dtype_bytes(page->dtype)};
    if (page->v == NULL) {
        planes.v = values_of_keys(planes.k, planes.k_half, tile->v_dim, v_widened);
    } else {
        planes.v = widens ? widen(page->v, v_values, v_widened) : page->v;
        planes.v_half = planes.k_half;
        if (page->ahead != NULL)
            planes.v_ahead = page->ahead + k_values * planes.ahead_bytes;
    }
    for (uint32_t row = 0; row < tile->n_rows; row += TILE_ROWS) {
        uint32_t n_rows = tile->n_rows - row < TILE_ROWS ? tile->n_rows - row : TILE_ROWS;
        step_rows(tile, row, n_rows, &planes);
    }
}

const struct cpu_attend_ops cpu_attend_avx2 = {avx2_step, attend_merge, attend_divide};
