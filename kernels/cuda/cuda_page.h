/* kernels/cuda/cuda_page.h: where values stand inside a page of this backend.
 *
 *   one layer of one page:  K [head][64 tokens][k_dim]   V [head][64 tokens][v_dim]
 *
 * A head's K of a page is contiguous: one bulk copy brings it. The heads of a plane are too, so a
 * rank's part of a plane is one piece. With v_in_k there is no V plane: V of a token is the first
 * v_dim values of its K.
 *
 * A packed head has codes in their place, and before each plane the least value and the step of its
 * runs, f32: of K those of each dim, of V those of each token.
 *
 *   | K least [k_dim] | K steps [k_dim] | K codes [64 tokens] |   | V least [64] | V steps | V ...
 *
 * A token's codes stand in whole blocks of 16 dims (q8) or 32 (q4), 16 bytes each, in the order in
 * which ldmatrix hands them to the lanes of an mma (cuda_attend_packed.cuh): four bytes of K are
 * what a lane multiplies in a step of 16 dims (q4: in two steps), two of V, transposed, the dims
 * that it multiplies a token by.
 */
#ifndef QUIRE_KERNELS_CUDA_PAGE_H
#define QUIRE_KERNELS_CUDA_PAGE_H

#include "kernels/kv_page.h"

#define CUDA_PAGE_BLOCK_BYTES 16 /* of codes */

/* Of a token's n values. */
HOST_DEVICE uint32_t cuda_page_row_bytes(uint32_t n, enum kv_dtype dtype)
{
    uint32_t block = dtype == KV_Q4 ? 2 * CUDA_PAGE_BLOCK_BYTES : CUDA_PAGE_BLOCK_BYTES;
    if (kv_dtype_is_packed(dtype))
        return (n + block - 1) / block * CUDA_PAGE_BLOCK_BYTES;
    return n * (dtype == KV_F32 ? 4 : 2);
}

/* Of the least values and steps of n runs, before the codes. */
HOST_DEVICE uint32_t cuda_page_scale_bytes(uint32_t n, enum kv_dtype dtype)
{
    return kv_dtype_is_packed(dtype) ? 2 * n * (uint32_t)sizeof(float) : 0;
}

/* From the start of the layer to K of a head: its least values, if it is packed. */
HOST_DEVICE size_t cuda_page_k_head(const struct kv_shape *shape, enum kv_dtype dtype,
                                    uint32_t head)
{
    size_t codes = (size_t)PAGE_TOKENS * cuda_page_row_bytes(shape->k_dim, dtype);
    return head * (cuda_page_scale_bytes(shape->k_dim, dtype) + codes);
}

/* The same of V. */
HOST_DEVICE size_t cuda_page_v_head(const struct kv_shape *shape, enum kv_dtype dtype,
                                    uint32_t head)
{
    if (shape->v_in_k)
        return cuda_page_k_head(shape, dtype, head);
    size_t codes = (size_t)PAGE_TOKENS * cuda_page_row_bytes(shape->v_dim, dtype);
    return cuda_page_k_head(shape, dtype, shape->n_kv_heads) +
           head * (cuda_page_scale_bytes(PAGE_TOKENS, dtype) + codes);
}

/* From the start of the layer to the first value, or code, of K of a head and token. */
HOST_DEVICE size_t cuda_page_k_at(const struct kv_shape *shape, enum kv_dtype dtype, uint32_t head,
                                   uint32_t token)
{
    return cuda_page_k_head(shape, dtype, head) + cuda_page_scale_bytes(shape->k_dim, dtype) +
           (size_t)token * cuda_page_row_bytes(shape->k_dim, dtype);
}

/* The same of V. */
HOST_DEVICE size_t cuda_page_v_at(const struct kv_shape *shape, enum kv_dtype dtype, uint32_t head,
                                   uint32_t token)
{
    if (shape->v_in_k)
        return cuda_page_k_at(shape, dtype, head, token);
    return cuda_page_v_head(shape, dtype, head) + cuda_page_scale_bytes(PAGE_TOKENS, dtype) +
           (size_t)token * cuda_page_row_bytes(shape->v_dim, dtype);
}

/* Of a layer. */
HOST_DEVICE size_t cuda_page_bytes(const struct kv_shape *shape, enum kv_dtype dtype)
{
    return shape->v_in_k ? cuda_page_k_head(shape, dtype, shape->n_kv_heads)
                         : cuda_page_v_head(shape, dtype, shape->n_kv_heads);
}

/* The code of dim d in its token's row: bits [shift, shift + 8), or of q4 [shift, shift + 4), of a
 * byte. Dims d and d + 8 of q4 share one. */
struct cuda_code_place {
    uint32_t byte, shift;
};

/* By 16 dims; within them by pairs: dims 2c, 2c + 1, 2c + 8, 2c + 9 in a word. */
HOST_DEVICE struct cuda_code_place cuda_page_k_code(enum kv_dtype dtype, uint32_t d)
{
    struct cuda_code_place q8 = {d / 16 * 16 + d % 8 / 2 * 4 + d / 8 % 2 * 2 + d % 2, 0};
    struct cuda_code_place q4 = {d / 32 * 16 + d % 8 / 2 * 4 + d % 2 * 2 + d / 16 % 2,
                                 d / 8 % 2 * 4};
    return dtype == KV_Q8 ? q8 : q4;
}

/* By 16 dims: dims r, r + 8 (q4: and r + 16, r + 24) in two bytes. */
HOST_DEVICE struct cuda_code_place cuda_page_v_code(enum kv_dtype dtype, uint32_t d)
{
    struct cuda_code_place q8 = {d / 16 * 16 + d % 8 * 2 + d / 8 % 2, 0};
    struct cuda_code_place q4 = {d / 32 * 16 + d % 8 * 2 + d / 16 % 2, d / 8 % 2 * 4};
    return dtype == KV_Q8 ? q8 : q4;
}

HOST_DEVICE uint32_t cuda_page_code(const uint8_t *row, struct cuda_code_place place,
                                    enum kv_dtype dtype)
{
    return dtype == KV_Q8 ? row[place.byte] : row[place.byte] >> place.shift & 15u;
}

#endif
