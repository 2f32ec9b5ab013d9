/* kernels/cuda/cuda_page.h: where values stand inside a page of this backend.
 *
 *   one layer of one page:  K [head][64 tokens][k_dim]   V [head][64 tokens][v_dim]
 *
 * A head's K of a page is contiguous: one bulk copy brings it. The heads of a plane are too, so a
 * rank's part of a plane is one piece. With v_in_k there is no V plane: V of a token is the first
 * v_dim values of its K.
 */
#ifndef QUIRE_KERNELS_CUDA_PAGE_H
#define QUIRE_KERNELS_CUDA_PAGE_H

#include "kernels/kv_view.h"

#if defined(__CUDACC__)
#define CUDA_PAGE_FN static __host__ __device__ __forceinline__
#else
#define CUDA_PAGE_FN static inline
#endif

CUDA_PAGE_FN size_t cuda_page_value_bytes(enum kv_dtype dtype)
{
    return dtype == KV_F16 ? 2 : 4;
}

/* From the start of the layer to the first value of K of a head and token. */
CUDA_PAGE_FN size_t cuda_page_k_at(const struct kv_shape *shape, enum kv_dtype dtype, uint32_t head,
                                   uint32_t token)
{
    return ((size_t)head * PAGE_TOKENS + token) * shape->k_dim * cuda_page_value_bytes(dtype);
}

/* The same of V. */
CUDA_PAGE_FN size_t cuda_page_v_at(const struct kv_shape *shape, enum kv_dtype dtype, uint32_t head,
                                   uint32_t token)
{
    if (shape->v_in_k)
        return cuda_page_k_at(shape, dtype, head, token);
    return cuda_page_k_at(shape, dtype, shape->n_kv_heads, 0) +
           ((size_t)head * PAGE_TOKENS + token) * shape->v_dim * cuda_page_value_bytes(dtype);
}

/* V of a token after V of the one before. */
CUDA_PAGE_FN uint32_t cuda_page_v_step(const struct kv_shape *shape)
{
    return shape->v_in_k ? shape->k_dim : shape->v_dim;
}

/* The layer's part of the page that holds `page_idx` (position / 64) of a sequence, or NULL when
 * the table has no such page. */
CUDA_PAGE_FN uint8_t *cuda_page_find(const struct kv_group_view *group, uint32_t layer_idx,
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
