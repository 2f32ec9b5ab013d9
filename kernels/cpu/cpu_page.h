/* kernels/cpu/cpu_page.h: where values stand inside a page of this backend (cpu_kernels.md 14).
 *
 *   one layer of one page:  head 0: K [k_dim][64 tokens], V [64 tokens][v_dim]   head 1: ...
 *
 * With v_in_k there is no V plane: V of a token is the first v_dim values of its K.
 */
#ifndef QUIRE_KERNELS_CPU_PAGE_H
#define QUIRE_KERNELS_CPU_PAGE_H

#include "kernels/kv_view.h"

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

/* The layer's part of the page that holds `page_idx` (position / 64) of a sequence, or NULL when
 * the table has no such page. */
static inline uint8_t *cpu_page_find(const struct kv_group_view *group, uint32_t layer_idx,
                                     uint32_t seq, uint32_t page_idx)
{
    uint32_t first = group->first_page[seq];
    if (page_idx < first || page_idx - first >= group->table_stride)
        return NULL;
    page_id page = group->table[(size_t)seq * group->table_stride + (page_idx - first)];
    if (page == PAGE_NONE)
        return NULL;
    return group->base + (size_t)page * group->page_stride + layer_idx * group->layer_stride;
}

#endif
