/* The definition of attention: see cpu_attend.h. The fast forms take shapes that they like and come
 * here with all others. */
#include "kernels/cpu/cpu_attend.h"

#include "kernels/cpu/cpu_attend_body.h"
#include "kernels/tensor_type.h"

static float value_at(const void *plane, enum kv_dtype dtype, size_t i)
{
    return dtype == KV_F32 ? ((const float *)plane)[i] : f16_to_f32(((const uint16_t *)plane)[i]);
}

static float v_at(const struct attend_page *page, uint32_t v_dim, uint32_t t, uint32_t d)
{
    if (page->v == NULL)
        return value_at(page->k, page->dtype, (size_t)d * PAGE_TOKENS + t);
    return value_at(page->v, page->dtype, (size_t)t * v_dim + d);
}

static void step_row(const struct attend_tile *tile, const struct attend_page *page, uint32_t r)
{
    const float *q = tile->q + (size_t)r * tile->k_dim;
    uint32_t begin = tile->begin[r], end = tile->end[r];
    float p[PAGE_TOKENS] = {0};
    float m = tile->m[r];
    for (uint32_t t = begin; t < end; t++) {
        for (uint32_t d = 0; d < tile->k_dim; d++)
            p[t] = fmaf(q[d], value_at(page->k, page->dtype, (size_t)d * PAGE_TOKENS + t), p[t]);
        m = p[t] > m ? p[t] : m;
    }
    float c = attend_rescale(tile->m[r], m);
    for (uint32_t t = begin; t < end; t++)
        p[t] = cpu_exp2(p[t] - m);

    float *l = tile->l + (size_t)r * ATTEND_LANES;
    for (uint32_t i = 0; i < ATTEND_LANES; i++)
        l[i] = fmaf(l[i], c, (p[i] + p[16 + i]) + (p[32 + i] + p[48 + i]));
    float *o = tile->o + (size_t)r * tile->v_dim;
    for (uint32_t d = 0; d < tile->v_dim; d++) {
        o[d] *= c;
        for (uint32_t t = begin; t < end; t++)
            o[d] = fmaf(p[t], v_at(page, tile->v_dim, t, d), o[d]);
    }
    tile->m[r] = m;
}

static void scalar_step(const struct attend_tile *tile, const struct attend_page *page,
                        float *widened)
{
    (void)widened;
    for (uint32_t r = 0; r < tile->n_rows; r++)
        step_row(tile, page, r);
}

const struct cpu_attend_ops cpu_attend_scalar = {scalar_step, attend_merge, attend_divide};
