/* The definition of attention: see cpu_attend.h. The fast forms take shapes that they like and come
 * here with all others. */
#include "kernels/cpu/cpu_attend.h"

#include "kernels/cpu/cpu_attend_body.h"
#include "kernels/tensor_type.h"

static float v_at(const float *k, const float *v, uint32_t v_dim, uint32_t t, uint32_t d)
{
    return v == NULL ? k[(size_t)d * PAGE_TOKENS + t] : v[(size_t)t * v_dim + d];
}

static void step_row(const struct attend_tile *tile, const float *k, const float *v, uint32_t r)
{
    const float *q = tile->q + (size_t)r * tile->k_dim;
    uint32_t begin = tile->begin[r], end = tile->end[r];
    float p[PAGE_TOKENS] = {0};
    float m = tile->m[r];
    for (uint32_t t = begin; t < end; t++) {
        for (uint32_t d = 0; d < tile->k_dim; d++)
            p[t] = fmaf(q[d], k[(size_t)d * PAGE_TOKENS + t], p[t]);
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
            o[d] = fmaf(p[t], v_at(k, v, tile->v_dim, t, d), o[d]);
    }
    tile->m[r] = m;
}

static const float *widen(const uint16_t *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = f16_to_f32(from[i]);
    return to;
}

static void scalar_step(const struct attend_tile *tile, const struct attend_page *page,
                        float *widened)
{
    const float *k = page->k, *v = page->v;
    if (page->dtype == KV_F16) {
        k = widen(page->k, (size_t)PAGE_TOKENS * tile->k_dim, widened);
        if (page->v != NULL)
            v = widen(page->v, (size_t)PAGE_TOKENS * tile->v_dim,
                      widened + (size_t)PAGE_TOKENS * tile->k_dim);
    }
    for (uint32_t r = 0; r < tile->n_rows; r++)
        step_row(tile, k, v, r);
}

const struct cpu_attend_ops cpu_attend_scalar = {scalar_step, attend_merge, attend_divide};
