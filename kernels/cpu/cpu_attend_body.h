/* kernels/cpu/cpu_attend_body.h: scales of packed pages, and the ends of a span, in plain C,
 * compiled once an instruction set (static, so that no copy leaks from one to another). Every
 * operation is written out, so the compiler may only choose how many lanes it takes at once.
 */
#ifndef QUIRE_KERNELS_CPU_ATTEND_BODY_H
#define QUIRE_KERNELS_CPU_ATTEND_BODY_H

#include "kernels/cpu/cpu_attend.h"
#include "kernels/cpu/cpu_math.h"

/* A plane is walked in passes over its rows (tokens of V, dims of K); with each row `step` bytes
 * are prefetched from `from` on, each line once: memory works as evenly as the processor. */
struct attend_ahead {
    const uint8_t *from; /* a line's begin */
    size_t step;
};

static inline struct attend_ahead attend_ahead(const uint8_t *from, size_t bytes, uint32_t n_rows,
                                               uint32_t n_passes)
{
    size_t n = (size_t)n_rows * n_passes;
    return (struct attend_ahead){from, (bytes + n - 1) / n};
}

/* What the next pass prefetches. */
static inline struct attend_ahead attend_ahead_next(struct attend_ahead ahead, uint32_t n_rows)
{
    if (ahead.step > 0)
        ahead.from += ahead.step * n_rows;
    return ahead;
}

static inline void attend_prefetch(struct attend_ahead ahead, uint32_t row)
{
    size_t at = (row * ahead.step + 63) / 64 * 64, end = (row + 1) * ahead.step;
    for (; at < end; at += 64)
        __builtin_prefetch(ahead.from + at, 0, 2); /* second level: a head fills the first */
}

static inline float attend_rescale(float m_old, float m_new)
{
    return m_new == m_old ? 1.0f : cpu_exp2(m_old - m_new);
}

/* Fold of 16 lanes of fma(x[i], least[i], lane). */
static inline float attend_offset(const float *restrict x, const float *restrict least, uint32_t n)
{
    float lanes[ATTEND_LANES] = {0};
    uint32_t i = 0;
    for (; i + ATTEND_LANES <= n; i += ATTEND_LANES)
        for (uint32_t j = 0; j < ATTEND_LANES; j++)
            lanes[j] = fmaf(x[i + j], least[i + j], lanes[j]);
    for (uint32_t j = 0; i + j < n; j++)
        lanes[j] = fmaf(x[i + j], least[i + j], lanes[j]);
    return cpu_fold16(lanes);
}

static inline void attend_scale(const float *restrict x, const float *restrict step, uint32_t n,
                                float *restrict out)
{
    for (uint32_t i = 0; i < n; i++)
        out[i] = x[i] * step[i];
}

/* p of a page takes the scales of its V; gives w. */
static inline float attend_scale_p(float *restrict p, const float *restrict least,
                                   const float *restrict step)
{
    for (uint32_t t = 0; t < PAGE_TOKENS; t++)
        p[t] = p[t] < ATTEND_P_LEAST ? 0.0f : p[t];
    float w = attend_offset(p, least, PAGE_TOKENS);
    for (uint32_t t = 0; t < PAGE_TOKENS; t++)
        p[t] *= step[t];
    return w;
}

static void attend_merge_row(const float *restrict o_from, float c_from, float *restrict o,
                             float c_into, uint32_t v_dim)
{
    for (uint32_t d = 0; d < v_dim; d++)
        o[d] = fmaf(o_from[d], c_from, o[d] * c_into);
}

static void attend_merge(const struct attend_state *from, uint32_t n_rows, uint32_t v_dim,
                         const struct attend_state *into)
{
    for (uint32_t r = 0; r < n_rows; r++) {
        float m = from->m[r] > into->m[r] ? from->m[r] : into->m[r];
        float c_into = attend_rescale(into->m[r], m), c_from = attend_rescale(from->m[r], m);
        into->m[r] = m;
        into->l[r] = fmaf(from->l[r], c_from, into->l[r] * c_into);
        attend_merge_row(from->o + (size_t)r * v_dim, c_from, into->o + (size_t)r * v_dim, c_into,
                         v_dim);
    }
}

static void attend_divide(const float *o, float l, uint32_t v_dim, float *out)
{
    for (uint32_t d = 0; d < v_dim; d++)
        out[d] = o[d] / l + 0.0f;
}

#endif
