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

#include "kernels/kv_page.h"

HOST_DEVICE size_t cuda_page_value_bytes(enum kv_dtype dtype)
{
    return dtype == KV_F16 ? 2 : 4;
}

/* From the start of the layer to the first value of K of a head and token. */
HOST_DEVICE size_t cuda_page_k_at(const struct kv_shape *shape, enum kv_dtype dtype, uint32_t head,
                                   uint32_t token)
{
    return ((size_t)head * PAGE_TOKENS + token) * shape->k_dim * cuda_page_value_bytes(dtype);
}

/* The same of V. */
HOST_DEVICE size_t cuda_page_v_at(const struct kv_shape *shape, enum kv_dtype dtype, uint32_t head,
                                   uint32_t token)
{
    if (shape->v_in_k)
        return cuda_page_k_at(shape, dtype, head, token);
    return cuda_page_k_at(shape, dtype, shape->n_kv_heads, 0) +
           ((size_t)head * PAGE_TOKENS + token) * shape->v_dim * cuda_page_value_bytes(dtype);
}

/* V of a token after V of the one before. */
HOST_DEVICE uint32_t cuda_page_v_step(const struct kv_shape *shape)
{
    return shape->v_in_k ? shape->k_dim : shape->v_dim;
}

#endif
