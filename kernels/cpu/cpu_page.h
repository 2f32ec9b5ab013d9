/* kernels/cpu/cpu_page.h: where values stand inside a page of this backend (cpu_kernels.md 14).
 *
 *   one layer of one page:  head 0: K [k_dim][64 tokens], V [64 tokens][v_dim]   head 1: ...
 *
 * A packed head has codes in their place, and before each plane the least value and the step of
 * each of its rows, f32. Parts begin on cache lines:
 *
 *   | K least [k_dim] | K steps [k_dim] | K codes | V least [64] | V steps [64] | V codes |
 *
 * Codes of 4 bits stand in blocks of 32: byte i has value i below and value 16 + i above, so that a
 * register of widened bytes is one of neighbours. With v_in_k there is no V plane: V of a token is
 * the first v_dim values of its K.
 */
#ifndef QUIRE_KERNELS_CPU_PAGE_H
#define QUIRE_KERNELS_CPU_PAGE_H

#include "kernels/kv_page.h"

#define CPU_PAGE_BLOCK 32 /* codes of 4 bits that lie together */

struct cpu_head_layout { /* bytes from the head's start; without packing no scales */
    size_t k_least, k_step, k;
    size_t v_least, v_step, v;
    size_t v_part; /* where what belongs to V begins; the head's end where there is none */
    size_t bytes;
};

/* A row of n values. */
static inline size_t cpu_page_row_bytes(size_t n, enum kv_dtype dtype)
{
    if (dtype == KV_Q8)
        return n;
    if (dtype == KV_Q4)
        return (n + CPU_PAGE_BLOCK - 1) / CPU_PAGE_BLOCK * (CPU_PAGE_BLOCK / 2);
    return n * kv_dtype_bytes(dtype);
}

static inline size_t cpu_page_take(size_t *at, size_t bytes, bool whole_lines)
{
    size_t begin = *at;
    *at += whole_lines ? (bytes + 63) / 64 * 64 : bytes;
    return begin;
}

static inline struct cpu_head_layout cpu_page_head(const struct kv_shape *shape,
                                                   enum kv_dtype dtype)
{
    bool packs = kv_dtype_is_packed(dtype);
    size_t k = shape->k_dim, v = shape->v_in_k ? 0 : shape->v_dim, at = 0;
    size_t n_k = packs ? k * sizeof(float) : 0;
    size_t n_v = packs && v > 0 ? PAGE_TOKENS * sizeof(float) : 0;
    struct cpu_head_layout layout;

    layout.k_least = cpu_page_take(&at, n_k, packs);
    layout.k_step = cpu_page_take(&at, n_k, packs);
    layout.k = cpu_page_take(&at, k * cpu_page_row_bytes(PAGE_TOKENS, dtype), packs);
    layout.v_part = layout.v_least = cpu_page_take(&at, n_v, packs);
    layout.v_step = cpu_page_take(&at, n_v, packs);
    layout.v = cpu_page_take(&at, PAGE_TOKENS * cpu_page_row_bytes(v, dtype), packs);
    layout.bytes = at;
    return layout;
}

#endif
