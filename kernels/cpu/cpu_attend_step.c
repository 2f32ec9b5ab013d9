/* The definition of attention: see cpu_attend.h. The fast forms take shapes that they like and come
 * here with all others. */
#include "kernels/cpu/cpu_attend.h"

#include "kernels/cpu/cpu_attend_body.h"
#include "kernels/cpu/cpu_page.h"
#include "kernels/tensor_type.h"

/* A page as floats: values, or codes beside their scales. */
struct plain_page {
    const float *k, *v; /* v NULL: in k */
    const float *k_least, *k_step, *v_least, *v_step; /* NULL: values */
};

static float v_at(const struct plain_page *page, uint32_t v_dim, uint32_t t, uint32_t d)
{
    return page->v == NULL ? page->k[(size_t)d * PAGE_TOKENS + t] : page->v[(size_t)t * v_dim + d];
}

static float score(const float *q, uint32_t k_dim, const struct plain_page *page, uint32_t t,
                   float z)
{
    for (uint32_t d = 0; d < k_dim; d++)
        z = fmaf(page->k_step == NULL ? q[d] : q[d] * page->k_step[d],
                 page->k[(size_t)d * PAGE_TOKENS + t], z);
    return z;
}

static void step_row(const struct attend_tile *tile, const struct plain_page *page, uint32_t r)
{
    const float *q = tile->q + (size_t)r * tile->k_dim;
    uint32_t begin = tile->begin[r], end = tile->end[r];
    float p[PAGE_TOKENS] = {0};
    float m = tile->m[r], w = 0;
    float z = page->k_step == NULL ? 0 : attend_offset(q, page->k_least, tile->k_dim);
    for (uint32_t t = begin; t < end; t++) {
        p[t] = score(q, tile->k_dim, page, t, z);
        m = p[t] > m ? p[t] : m;
    }
    float c = attend_rescale(tile->m[r], m);
    for (uint32_t t = begin; t < end; t++)
        p[t] = cpu_exp2(p[t] - m);

    float *l = tile->l + (size_t)r * ATTEND_LANES;
    for (uint32_t i = 0; i < ATTEND_LANES; i++)
        l[i] = fmaf(l[i], c, (p[i] + p[16 + i]) + (p[32 + i] + p[48 + i]));
    if (page->v_step != NULL)
        w = attend_scale_p(p, page->v_least, page->v_step);
    float *o = tile->o + (size_t)r * tile->v_dim;
    for (uint32_t d = 0; d < tile->v_dim; d++) {
        o[d] = fmaf(o[d], c, w);
        for (uint32_t t = begin; t < end; t++)
            o[d] = fmaf(p[t], v_at(page, tile->v_dim, t, d), o[d]);
    }
    tile->m[r] = m;
}

/* Value, or code, i of a row. */
static float widen_one(const uint8_t *row, uint32_t i, enum kv_dtype dtype)
{
    uint16_t half;
    uint32_t bits;
    float value;
    switch (dtype) {
    case KV_Q8:
        return row[i];
    case KV_Q4:
        row += i / CPU_PAGE_BLOCK * (CPU_PAGE_BLOCK / 2) + i % (CPU_PAGE_BLOCK / 2);
        return (float)(i % CPU_PAGE_BLOCK < CPU_PAGE_BLOCK / 2 ? *row & 15 : *row >> 4);
    case KV_F32:
        memcpy(&value, row + i * sizeof value, sizeof value);
        return value;
    case KV_F16:
    case KV_BF16:
        break;
    }
    memcpy(&half, row + i * sizeof half, sizeof half);
    if (dtype == KV_F16)
        return f16_to_f32(half);
    bits = (uint32_t)half << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static const float *widen(const void *from, uint32_t n_rows, uint32_t n, enum kv_dtype dtype,
                          float *to)
{
    const uint8_t *row = from;
    for (uint32_t r = 0; r < n_rows; r++, row += cpu_page_row_bytes(n, dtype))
        for (uint32_t i = 0; i < n; i++)
            to[(size_t)r * n + i] = widen_one(row, i, dtype);
    return to;
}

static void scalar_step(const struct attend_tile *tile, const struct attend_page *page,
                        float *widened)
{
    float *v_widened = widened + (size_t)PAGE_TOKENS * tile->k_dim;
    struct plain_page plain = {
        .k = widen(page->k, tile->k_dim, PAGE_TOKENS, page->dtype, widened)};
    if (page->v != NULL)
        plain.v = widen(page->v, PAGE_TOKENS, tile->v_dim, page->dtype, v_widened);
    if (kv_dtype_is_packed(page->dtype) && page->v == NULL) {
        for (uint32_t i = 0; i < tile->k_dim * PAGE_TOKENS; i++)
            widened[i] = fmaf(page->k_step[i / PAGE_TOKENS], widened[i],
                              page->k_least[i / PAGE_TOKENS]);
    } else if (kv_dtype_is_packed(page->dtype)) {
        plain.k_least = page->k_least;
        plain.k_step = page->k_step;
        plain.v_least = page->v_least;
        plain.v_step = page->v_step;
    }
    for (uint32_t r = 0; r < tile->n_rows; r++)
        step_row(tile, &plain, r);
}

const struct cpu_attend_ops cpu_attend_scalar = {scalar_step, attend_merge, attend_divide};
