/* kernels/cpu/cpu_page.h: where values stand inside a page of this backend (cpu_kernels.md 14).
 *
 *   one layer of one page:  head 0: K [k_dim][64 tokens], V [64 tokens][v_dim]   head 1: ...
 *
 * With v_in_k there is no V plane: V of a token is the first v_dim values of its K.
 */
#ifndef QUIRE_KERNELS_CPU_PAGE_H
#define QUIRE_KERNELS_CPU_PAGE_H

#include "kernels/kv_page.h"

static inline size_t cpu_page_k_bytes(const struct kv_shape *shape, enum kv_dtype dtype)
{
    return (size_t)PAGE_TOKENS * shape->k_dim * kv_dtype_bytes(dtype);
}

/* K and V plane of one head. */
static inline size_t cpu_page_head_bytes(const struct kv_shape *shape, enum kv_dtype dtype)
{
    size_t n_values = shape->k_dim + (shape->v_in_k ? 0 : shape->v_dim);
    return (size_t)PAGE_TOKENS * n_values * kv_dtype_bytes(dtype);
}

#endif
