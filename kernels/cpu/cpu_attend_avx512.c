/* Attention with 512-bit registers: 6 rows x 4 registers of accumulators. See cpu_attend.h for what is computed. */
#include "kernels/cpu/cpu_attend.h"

#include "kernels/cpu/cpu_math_avx512.h"

#define TILE_ROWS 6
#define WIDTH 16
#define WIDEN_FROM_ROWS 7 /* fewer rows widen f16 in the loop */
#define INLINE static inline __attribute__((always_inline))

INLINE __m512 load16(const void *from, size_t i, bool half)
{
    if (half)
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)((const uint16_t *)from + i)));
    return _mm512_loadu_ps((const float *)from + i);
}

/* acc[r][16 j ..] += chain over i in [begin, end) of fma(a[r][i], b[i][16 j ..]), from acc * scale[r] (scale NULL: from 0). One
 * prefetch of `ahead` for every 64 bytes of b that are read. */
INLINE void chains(const int n_rows, const int n_registers, const bool half, const float *a,
                   size_t a_stride, const void *b, size_t b_stride, uint32_t begin, uint32_t end,
                   const float *scale, float *acc, size_t acc_stride, const uint8_t *ahead)
{
    const int n_lines = half ? (n_registers + 1) / 2 : n_registers;
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
        if (ahead != NULL) {
            size_t line = i * b_stride * (half ? 2 : 4);
#pragma GCC unroll 8
            for (int j = 0; j < n_lines; j++)
                _mm_prefetch((const char *)ahead + line + j * 64, _MM_HINT_T0);
        }
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
                         size_t acc_stride, const uint8_t *ahead);

#define FORM(rows, registers, half)                                                                \
    static void chains_##rows##_##registers##_##half(                                              \
        const float *a, size_t a_stride, const void *b, size_t b_stride, uint32_t begin,           \
        uint32_t end, const float *scale, float *acc, size_t acc_stride, const uint8_t *ahead)     \
    {                                                                                              \
        chains(rows, registers, half, a, a_stride, b, b_stride, begin, end, scale, acc,            \
               acc_stride, ahead);                                                                 \
    }
#define FORMS_OF_ROWS(rows)                                                                        \
    FORM(rows, 1, 0)                                                                               \
    FORM(rows, 2, 0)                                                                               \
    FORM(rows, 3, 0) FORM(rows, 4, 0) FORM(rows, 1, 1) FORM(rows, 2, 1) FORM(rows, 3, 1)           \
        FORM(rows, 4, 1)
FORMS_OF_ROWS(1)
FORMS_OF_ROWS(2)
FORMS_OF_ROWS(3) FORMS_OF_ROWS(4) FORMS_OF_ROWS(5) FORMS_OF_ROWS(6)

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
    uint64_t bits =
        (end >= 64 ? UINT64_MAX : (UINT64_C(1) << end) - 1) & ~((UINT64_C(1) << begin) - 1);
    return begin >= end ? 0 : (__mmask16)(bits >> (j * WIDTH));
}

/* From scores to p in place; moves m and l, gives c. Registers outside of [first, last] hold no visible token. */
INLINE void soften(float *s, uint32_t begin, uint32_t end, uint32_t first, uint32_t last, float *m,
                   float *l, float *c)
{
    __m512 x[4], p[4];
    __m512 low = _mm512_set1_ps(*m);
    __m512 top = low;
    __mmask16 mask[4];
#pragma GCC unroll 8
    for (uint32_t j = 0; j < 4; j++) {
        mask[j] = j < first || j > last ? 0 : visible(begin, end, j);
        x[j] = _mm512_loadu_ps(s + j * WIDTH);
        top = _mm512_mask_max_ps(top, mask[j], top, x[j]);
    }
    float new_m = _mm512_reduce_max_ps(top); /* the order of a max is free */
    top = _mm512_set1_ps(new_m);
#pragma GCC unroll 8
    for (uint32_t j = 0; j < 4; j++)
        p[j] = _mm512_maskz_mov_ps(mask[j], cpu_exp2_avx512(_mm512_sub_ps(x[j], top)));
    *c = new_m == *m ? 1.0f : _mm512_cvtss_f32(cpu_exp2_avx512(_mm512_sub_ps(low, top)));
    *m = new_m;
    __m512 sum = _mm512_add_ps(_mm512_add_ps(p[0], p[1]), _mm512_add_ps(p[2], p[3]));
    _mm512_storeu_ps(l, _mm512_fmadd_ps(_mm512_loadu_ps(l), _mm512_set1_ps(*c), sum));
#pragma GCC unroll 8
    for (uint32_t j = 0; j < 4; j++)
        _mm512_storeu_ps(s + j * WIDTH, p[j]);
}

static void step_rows(const struct attend_tile *tile, uint32_t row, uint32_t n_rows, const void *k,
                      const void *v, bool half, const uint8_t *ahead)
{
    const uint8_t *begin = tile->begin + row, *end = tile->end + row;
    uint32_t low = begin[0], high = end[0];
    for (uint32_t r = 1; r < n_rows; r++) {
        low = begin[r] < low ? begin[r] : low;
        high = end[r] > high ? end[r] : high;
    }
    if (high == 0)
        return;
    uint32_t first = low / WIDTH, last = (high - 1) / WIDTH;
    size_t value_bytes = half ? 2 : 4;
    _Alignas(64) float p[TILE_ROWS][PAGE_TOKENS];
    float c[TILE_ROWS];
    forms[half][n_rows - 1][last - first](tile->q + (size_t)row * tile->k_dim, tile->k_dim,
                                          (const uint8_t *)k + first * WIDTH * value_bytes,
                                          PAGE_TOKENS, 0, tile->k_dim, NULL, &p[0][first * WIDTH],
                                          PAGE_TOKENS, ahead);
    for (uint32_t r = 0; r < n_rows; r++)
        soften(p[r], begin[r], end[r], first, last, &tile->m[row + r],
               tile->l + (size_t)(row + r) * ATTEND_LANES, &c[r]);

    const uint8_t *v_ahead = ahead == NULL ? NULL : ahead + PAGE_TOKENS * tile->k_dim * value_bytes;
    for (uint32_t d = 0; d < tile->v_dim; d += 4 * WIDTH) {
        uint32_t n_registers = (tile->v_dim - d) / WIDTH;
        n_registers = n_registers < 4 ? n_registers : 4;
        forms[half][n_rows - 1][n_registers - 1](
            &p[0][0], PAGE_TOKENS, (const uint8_t *)v + d * value_bytes, tile->v_dim, low, high, c,
            tile->o + (size_t)row * tile->v_dim + d, tile->v_dim,
            v_ahead == NULL ? NULL : v_ahead + d * value_bytes);
    }
}

static void widen(const uint16_t *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i += WIDTH)
        _mm512_store_ps(to + i, load16(from, i, true));
}

static void avx512_step(const struct attend_tile *tile, const struct attend_page *page,
                        float *widened)
{
    if (page->v == NULL || tile->v_dim % WIDTH != 0) {
        cpu_attend_scalar.step(tile, page, widened);
        return;
    }
    const void *k = page->k, *v = page->v;
    bool half = page->dtype == KV_F16;
    const uint8_t *ahead = page->ahead;
    if (half && tile->n_rows >= WIDEN_FROM_ROWS) {
        float *v_widened = widened + (size_t)PAGE_TOKENS * tile->k_dim;
        widen(k, (size_t)PAGE_TOKENS * tile->k_dim, widened);
        widen(v, (size_t)PAGE_TOKENS * tile->v_dim, v_widened);
        k = widened;
        v = v_widened;
        half = false;
        ahead = NULL;
    }
    for (uint32_t row = 0; row < tile->n_rows; row += TILE_ROWS) {
        uint32_t n_rows = tile->n_rows - row < TILE_ROWS ? tile->n_rows - row : TILE_ROWS;
        step_rows(tile, row, n_rows, k, v, half, row == 0 ? ahead : NULL);
    }
}

static float rescale(float m_old, float m_new)
{
    return m_new == m_old ? 1.0f : cpu_exp2(m_old - m_new);
}

static void avx512_merge(const struct attend_state *from, uint32_t n_rows, uint32_t v_dim,
                         const struct attend_state *into)
{
    if (v_dim % WIDTH != 0) {
        cpu_attend_scalar.merge(from, n_rows, v_dim, into);
        return;
    }
    for (uint32_t r = 0; r < n_rows; r++) {
        float m = from->m[r] > into->m[r] ? from->m[r] : into->m[r];
        float c_into = rescale(into->m[r], m), c_from = rescale(from->m[r], m);
        into->m[r] = m;
        into->l[r] = fmaf(from->l[r], c_from, into->l[r] * c_into);
        float *o = into->o + (size_t)r * v_dim;
        const float *o_from = from->o + (size_t)r * v_dim;
        for (uint32_t d = 0; d < v_dim; d += WIDTH) {
            __m512 kept = _mm512_mul_ps(_mm512_loadu_ps(o + d), _mm512_set1_ps(c_into));
            _mm512_storeu_ps(
                o + d, _mm512_fmadd_ps(_mm512_loadu_ps(o_from + d), _mm512_set1_ps(c_from), kept));
        }
    }
}

static void avx512_divide(const float *o, float l, uint32_t v_dim, float *out)
{
    for (uint32_t d = 0; d < v_dim; d++)
        out[d] = o[d] / l + 0.0f;
}

const struct cpu_attend_ops cpu_attend_avx512 = {avx512_step, avx512_merge, avx512_divide};
