/* Attention of a scene in double, from its definition; packed pages as ops.h defines them. */
#include "tests/kernels/scene_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/tensor_type.h"

static double exact_norm(const double *x, uint32_t n)
{
    double sum = 0;
    for (uint32_t d = 0; d < n; d++)
        sum += x[d] * x[d];
    return 1 / sqrt(sum / n + SCENE_EPS);
}

/* A head of q or of k (counted behind those of q), normed and rotated. */
static void exact_turn(const struct scene_shape *shape, uint32_t seq, uint32_t position,
                       uint32_t head, double *out)
{
    uint32_t n = shape->kv.k_dim, first = shape->first_rot, n_rot = n - first;
    bool is_k = head >= shape->n_heads, is_latent = shape->qk_norm == QK_NORM_LATENT && is_k;
    uint32_t n_normed = is_latent ? shape->kv.v_dim : shape->qk_norm == QK_NORM_BEFORE ? n : 0;
    double x[MODEL_HEAD_DIM_MAX] = {0};
    for (uint32_t d = 0; d < n; d++)
        x[d] = scene_value(seq, position, head * n + d);
    double norm = n_normed > 0 ? exact_norm(x, n_normed) : 1;
    for (uint32_t d = 0; d < n_normed; d++)
        x[d] *= norm * scene_norm_weight(is_k, d);
    for (uint32_t d = 0; d < n; d++) {
        bool adjacent = shape->style == ROPE_NORM;
        uint32_t e = d - first, half = n_rot / 2, pair = adjacent ? e / 2 : e % half;
        uint32_t other = first + (adjacent ? e ^ 1 : (e + half) % n_rot);
        double angle = position * pow(SCENE_BASE, -2.0 * pair / n_rot);
        if (shape->style == ROPE_NONE || d < first)
            out[d] = x[d];
        else if (other > d)
            out[d] = x[d] * cos(angle) - x[other] * sin(angle);
        else
            out[d] = x[d] * cos(angle) + x[other] * sin(angle);
    }
    norm = exact_norm(out, n);
    for (uint32_t d = 0; d < n && shape->qk_norm == QK_NORM_AFTER; d++)
        out[d] *= norm;
}

static double exact_temperature(const struct scene_shape *shape, uint32_t position)
{
    const struct q_temperature *temperature = &shape->q_temperature;
    if (temperature->scale == 0)
        return 1;
    uint32_t n = (position + temperature->offset) / temperature->length;
    return 1 + (double)temperature->scale * log(1.0 + n);
}

static double as_written(const struct scene_shape *shape, double x)
{
    if (shape->dtype == KV_F32)
        return x;
    if (shape->dtype != KV_BF16)
        return (double)f16_to_f32(f16_from_f32((float)x));
    int exponent; /* bf16: 8 bits of mantissa, the first not stored */
    double mantissa = frexp(x, &exponent);
    return ldexp(nearbyint(ldexp(mantissa, 8)), exponent - 8);
}

/* n values of f16, `stride` apart, as a packed page gives them back: its codes are made in f32, and
 * many an x lies on the border of two. */
static void pack_exactly(const struct scene_shape *shape, double *x, uint32_t n, uint32_t stride)
{
    float min = (float)x[0], max = min, top = shape->dtype == KV_Q4 ? 15 : 255;
    for (uint32_t i = 0; i < n; i++) {
        min = fminf(min, (float)x[(size_t)i * stride]);
        max = fmaxf(max, (float)x[(size_t)i * stride]);
    }
    float step = (max - min) / top;
    for (uint32_t i = 0; i < n && step > 0; i++) {
        float code = nearbyintf(((float)x[(size_t)i * stride] - min) / step);
        x[(size_t)i * stride] = (double)min + (double)step * (double)code;
    }
}

/* K and V of a page's 64 tokens as a row of a later page reads them. */
static void pack_page(const struct scene_shape *shape, double *k, double *v)
{
    const struct kv_shape *kv = &shape->kv;
    if (!kv_dtype_is_packed(shape->dtype))
        return;
    for (uint32_t d = 0; d < kv->k_dim; d++)
        pack_exactly(shape, k + d, PAGE_TOKENS, kv->k_dim);
    for (uint32_t t = 0; t < PAGE_TOKENS && !kv->v_in_k; t++)
        pack_exactly(shape, v + (size_t)t * kv->v_dim, kv->v_dim, 1);
}

static uint32_t exact_first(const struct scene_shape *shape, uint32_t position)
{
    if (shape->kind == KV_SLIDING)
        return position + 1 > shape->window ? position + 1 - shape->window : 0;
    return shape->kind == KV_CHUNKED ? position - position % shape->window : 0;
}

/* K and V of the tokens from `first`, the first of a page, to the row's own: [tokens, dim]. */
static void exact_keys(const struct scene_shape *shape, uint32_t seq, uint32_t first,
                       uint32_t position, uint32_t kv_head, double *k, double *v)
{
    const struct kv_shape *kv = &shape->kv;
    uint32_t v_at = (shape->n_heads + kv->n_kv_heads) * kv->k_dim + kv_head * kv->v_dim;
    for (uint32_t t = first; t <= position; t++) {
        double *k_row = k + (size_t)(t - first) * kv->k_dim;
        double *v_row = v + (size_t)(t - first) * kv->v_dim;
        exact_turn(shape, seq, t, shape->n_heads + kv_head, k_row);
        for (uint32_t d = 0; d < kv->k_dim; d++)
            k_row[d] = as_written(shape, k_row[d]);
        for (uint32_t d = 0; d < kv->v_dim && !kv->v_in_k; d++)
            v_row[d] = as_written(shape, (double)scene_value(seq, t, v_at + d));
    }
    for (uint32_t t = first; t / PAGE_TOKENS < position / PAGE_TOKENS; t += PAGE_TOKENS)
        pack_page(shape, k + (size_t)(t - first) * kv->k_dim, v + (size_t)(t - first) * kv->v_dim);
    for (uint32_t t = first; t <= position && kv->v_in_k; t++)
        memcpy(v + (size_t)(t - first) * kv->v_dim, k + (size_t)(t - first) * kv->k_dim,
               kv->v_dim * sizeof *v);
}

static void exact_head(const struct scene_shape *shape, uint32_t seq, uint32_t position,
                       uint32_t head, double *out)
{
    const struct kv_shape *kv = &shape->kv;
    uint32_t kv_head = head * kv->n_kv_heads / shape->n_heads, first = exact_first(shape, position);
    uint32_t page = first / PAGE_TOKENS * PAGE_TOKENS;
    double *score = malloc((position + 1) * sizeof *score), max = -INFINITY, sum = 0;
    double *k = malloc((size_t)(position + 1) * kv->k_dim * sizeof *k), q[MODEL_HEAD_DIM_MAX];
    double *v = malloc((size_t)(position + 1) * kv->v_dim * sizeof *v);
    double scale = exact_temperature(shape, position) / sqrt((double)kv->k_dim);
    exact_turn(shape, seq, position, head, q);
    exact_keys(shape, seq, page, position, kv_head, k, v);
    for (uint32_t t = first; t <= position; t++) {
        score[t] = 0;
        for (uint32_t d = 0; d < kv->k_dim; d++)
            score[t] += q[d] * scale * k[(size_t)(t - page) * kv->k_dim + d];
        max = fmax(max, score[t]);
    }
    memset(out, 0, kv->v_dim * sizeof *out);
    for (uint32_t t = first; t <= position; t++) {
        double p = exp(score[t] - max);
        sum += p;
        for (uint32_t d = 0; d < kv->v_dim; d++)
            out[d] += p * v[(size_t)(t - page) * kv->v_dim + d];
    }
    for (uint32_t d = 0; d < kv->v_dim; d++)
        out[d] /= sum;
    free(k);
    free(v);
    free(score);
}

double *scene_attend_exact(const struct scene *scene, const struct scene_rows *items,
                           uint32_t n_items)
{
    const struct scene_shape *shape = &scene->shape;
    uint32_t v_dim = shape->kv.v_dim;
    double *out = malloc(sizeof *out * scene_n_rows(items, n_items) * shape->n_heads * v_dim),
           *at = out;
    for (uint32_t i = 0; i < n_items; i++)
        for (uint32_t j = 0; j < items[i].n; j++)
            for (uint32_t h = 0; h < shape->n_heads; h++, at += v_dim)
                exact_head(shape, items[i].seq, items[i].position + j, h, at);
    return out;
}
