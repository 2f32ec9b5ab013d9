/* kernels/cpu/cpu_attend.h: one softmax step over a page, by instruction set, and the state that it
 * moves.
 *
 * A tile is n_rows rows (queries x heads) that read the same kv head. For each row r, with visible
 * tokens [begin[r], end[r]):
 *
 *   s[t]  = chain over d ascending of fma(q[d], k[d][t], s)          from 0
 *   m'    = max(m, s[t] of the visible t)                             m starts at -1e30
 *   c     = m' == m ? 1 : exp2(m - m')
 *   p[t]  = exp2(s[t] - m'), an exact 0 where t is not visible
 *   l[i]  = fma(l[i], c, (p[i] + p[16 + i]) + (p[32 + i] + p[48 + i]))   16 lanes
 *   o[d]  = chain over t ascending of fma(p[t], v[t][d], o)           from o[d] * c
 *
 * A packed page has codes c with k[d][t] = least[d] + step[d] c and v[t][d] = least[t] + step[t] c.
 * Scales are folded into q and p, so that the loops over codes are those over values:
 *
 *   s[t]  = chain over d ascending of fma(q[d] * step[d], c[d][t], s)    from z
 *   z     = fold of 16 lanes, d ascending by 16, of fma(q[d], least[d], lane)
 *   o[d]  = chain over t ascending of fma(p[t] * step[t], c[t][d], o)    from fma(o[d], c, w)
 *   w     = fold of 16 lanes, t ascending by 16, of fma(p[t], least[t], lane)
 *
 * where p below ATTEND_P_LEAST counts as 0: times a small step it would be no normal number, and
 * products of those take a core a hundred times as long; beside the greatest p, 1, it is nothing.
 *
 * A latent page, whose V would want K's scales in the other direction, is widened to values
 * fma(step[d], c, least[d]) first.
 *
 * At the end of a span the lanes of l are folded (cpu_fold16). Spans merge in ascending order: m =
 * max(a.m, b.m), ca and cb as c above, l = fma(b.l, cb, a.l * ca), o = fma(b.o, cb, a.o * ca). The
 * output is o / l + 0: the last addition makes zeros positive, so that tokens with p = 0 may be
 * skipped or not (they can change nothing but the sign of a zero).
 */
#ifndef QUIRE_KERNELS_CPU_ATTEND_H
#define QUIRE_KERNELS_CPU_ATTEND_H

#include "kernels/ops.h"

#define ATTEND_M_START (-1e30f)
#define ATTEND_LANES 16
#define ATTEND_P_LEAST 0x1p-80f

struct attend_tile {
    uint32_t n_rows, k_dim, v_dim;
    const float *q;             /* [n_rows, k_dim] */
    float *m;                   /* [n_rows] */
    float *l;                   /* [n_rows, 16] */
    float *o;                   /* [n_rows, v_dim] */
    const uint8_t *begin, *end; /* [n_rows]; begin == end == 0: nothing is visible */
};

struct attend_page { /* one kv head of one page and layer, as cpu_page.h lays it out */
    const void *k;   /* [k_dim, 64] */
    const void *v;   /* [64, v_dim]; NULL: V is the first v_dim values of K */
    const float *k_least, *k_step, *v_least, *v_step; /* of packed pages: [k_dim], [64] */
    enum kv_dtype dtype;
    const uint8_t *ahead; /* a head of a page that will be read soon: prefetched at the pace of
                             reading; or NULL */
    size_t ahead_k_bytes, ahead_v_bytes; /* of it, while K is read and while V is */
};

struct attend_state { /* of n_rows rows after a span, or after several */
    float *o;         /* [n_rows, v_dim] */
    float *m, *l;     /* [n_rows] */
};

struct cpu_attend_ops {
    /* `widened` has room for [64, k_dim + v_dim] floats, 64-byte aligned. */
    void (*step)(const struct attend_tile *tile, const struct attend_page *page, float *widened);
    void (*merge)(const struct attend_state *from, uint32_t n_rows, uint32_t v_dim,
                  const struct attend_state *into);
    void (*divide)(const float *o, float l, uint32_t v_dim, float *out); /* out may be o */
};

extern const struct cpu_attend_ops cpu_attend_scalar, cpu_attend_avx2, cpu_attend_avx512;

#endif
