/* kernels/cuda/cuda_page_seal.cu: page_seal, a plane of a head a block: the codes and scales of the
 * CPU's op. Least and greatest values do not depend on an order; what is no number takes no part in
 * them, and has code 0.
 */
#include "kernels/cuda/cuda_half.cuh"
#include "kernels/cuda/cuda_stream.cuh"

#include <assert.h>
#include <math.h>

extern "C" {
#include "base/status.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_page.h"
}

#define THREADS 256
#define WARPS (THREADS / WARP_LANES)
#define ROWS 8 /* of a step that a block looks at: few of them end a page */

struct runs { /* of a plane; shared memory */
    float least[MODEL_HEAD_DIM_MAX], step[MODEL_HEAD_DIM_MAX];
};

struct plane { /* of one head and page */
    const uint16_t *rows; /* [64][n], f16 */
    uint8_t *scales, *codes;
    uint32_t n;
    enum kv_dtype dtype;
    bool is_k; /* its runs are dims; else tokens */
};

static __device__ __forceinline__ float value_at(const struct plane &plane, uint32_t token,
                                                 uint32_t d)
{
    return float_of_half(plane.rows[token * plane.n + d]);
}

static __device__ __forceinline__ float top_of(const struct plane &plane)
{
    return plane.dtype == KV_Q4 ? 15.0f : 255.0f;
}

/* Run i, into shared memory and the page; zeros are positive. */
static __device__ __forceinline__ void put_run(const struct plane &plane, uint32_t i,
                                               uint32_t n_runs, float min, float max,
                                               struct runs &runs)
{
    runs.least[i] = __fadd_rn(min, 0.0f);
    runs.step[i] = __fdiv_rn(__fadd_rn(__fadd_rn(max, 0.0f), -runs.least[i]), top_of(plane));
    float *scales = (float *)plane.scales;
    scales[i] = runs.least[i];
    scales[n_runs + i] = runs.step[i];
}

static __device__ __forceinline__ void widen_range(float x, float &min, float &max)
{
    min = x < min ? x : min;
    max = x > max ? x : max;
}

/* A thread a dim. */
static __device__ __forceinline__ void range_dims(const struct plane &plane, struct runs &runs)
{
    for (uint32_t d = threadIdx.x; d < plane.n; d += THREADS) {
        float min = INFINITY, max = -INFINITY;
        for (uint32_t token = 0; token < PAGE_TOKENS; token++)
            widen_range(value_at(plane, token, d), min, max);
        put_run(plane, d, plane.n, min, max, runs);
    }
}

/* A warp a token. */
static __device__ __forceinline__ void range_tokens(const struct plane &plane, struct runs &runs)
{
    for (uint32_t token = warp_idx(); token < PAGE_TOKENS; token += WARPS) {
        float min = INFINITY, max = -INFINITY;
        for (uint32_t d = lane_idx(); d < plane.n; d += WARP_LANES)
            widen_range(value_at(plane, token, d), min, max);
        for (int apart = WARP_LANES / 2; apart > 0; apart /= 2) {
            min = fminf(min, __shfl_xor_sync(ALL_LANES, min, apart));
            max = fmaxf(max, __shfl_xor_sync(ALL_LANES, max, apart));
        }
        if (lane_idx() == 0)
            put_run(plane, token, PAGE_TOKENS, min, max, runs);
    }
}

/* Of dims behind the last one 0. */
static __device__ __forceinline__ uint32_t code_of(const struct plane &plane, uint32_t token,
                                                   uint32_t d, const struct runs &runs)
{
    uint32_t run = plane.is_k ? d : token;
    if (d >= plane.n)
        return 0;
    float from_least = __fadd_rn(value_at(plane, token, d), -runs.least[run]);
    float code = rintf(__fdiv_rn(from_least, runs.step[run])), top = top_of(plane);
    code = code > 0.0f ? code : 0.0f; /* and where a step is 0, which gives no number */
    return (uint32_t)(code < top ? code : top);
}

/* A byte a thread: a dim, or two of them 8 apart. */
static __device__ __forceinline__ void encode(const struct plane &plane, const struct runs &runs)
{
    uint32_t row_bytes = cuda_page_row_bytes(plane.n, plane.dtype);
    for (uint32_t i = threadIdx.x; i < PAGE_TOKENS * row_bytes; i += THREADS) {
        uint32_t token = i / row_bytes, at = i % row_bytes;
        uint32_t d = plane.dtype == KV_Q8 ? at : at / 8 * 16 + at % 8;
        struct cuda_code_place place =
            plane.is_k ? cuda_page_k_code(plane.dtype, d) : cuda_page_v_code(plane.dtype, d);
        uint32_t codes = code_of(plane, token, d, runs);
        if (plane.dtype == KV_Q4)
            codes |= code_of(plane, token, d + 8, runs) << 4;
        plane.codes[token * row_bytes + place.byte] = (uint8_t)codes;
    }
}

/* Planes of a page: K of each head, then V of each. */
static __device__ __forceinline__ struct plane plane_of(const struct kv_group_view &group,
                                                        uint32_t idx, const uint8_t *open,
                                                        uint8_t *full)
{
    const struct kv_shape &shape = group.shape;
    uint32_t head = idx % shape.n_kv_heads;
    enum kv_dtype dtype = group.dtype_full;
    if (idx < shape.n_kv_heads)
        return {(const uint16_t *)(open + cuda_page_k_at(&shape, KV_F16, head, 0)),
                full + cuda_page_k_head(&shape, dtype, head),
                full + cuda_page_k_at(&shape, dtype, head, 0), shape.k_dim, dtype, true};
    return {(const uint16_t *)(open + cuda_page_v_at(&shape, KV_F16, head, 0)),
            full + cuda_page_v_head(&shape, dtype, head),
            full + cuda_page_v_at(&shape, dtype, head, 0), shape.v_dim, dtype, false};
}

static __global__ void __launch_bounds__(THREADS)
    seal_planes(struct page_seal_args args, int *error)
{
    SHARED(struct runs, runs);
    uint32_t end = min((blockIdx.x + 1) * ROWS, args.rows.n_rows);
    for (uint32_t r = blockIdx.x * ROWS; r < end; r++) { /* all threads alike */
        uint32_t position = args.rows.position[r], seq = args.rows.row_seq[r];
        if (position % PAGE_TOKENS != PAGE_TOKENS - 1)
            continue;
        uint32_t page_idx = position / PAGE_TOKENS;
        const uint8_t *open = kv_page_find_open(&args.group, args.layer_idx, seq, page_idx);
        uint8_t *full = kv_page_find(&args.group, args.layer_idx, seq, page_idx);
        if (open == NULL || full == NULL) {
            if (threadIdx.x == 0)
                cuda_fail(error, STATUS_INTERNAL);
            continue;
        }
        struct plane plane = plane_of(args.group, blockIdx.y, open, full);
        __syncthreads(); /* runs of the page before have been read */
        if (plane.is_k)
            range_dims(plane, runs);
        else
            range_tokens(plane, runs);
        __syncthreads(); /* runs are there */
        encode(plane, runs);
    }
}

extern "C" void cuda_page_seal(struct stream *stream, const struct page_seal_args *args)
{
    const struct kv_group_view *group = &args->group;
    const struct kv_shape *shape = &group->shape;
    assert(kv_dtype_is_packed(group->dtype_full) && group->dtype_open == KV_F16);
    assert(group->open.base != NULL);
    assert(shape->k_dim <= MODEL_HEAD_DIM_MAX && shape->v_dim <= MODEL_HEAD_DIM_MAX);
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "page_seal", &cuda) || args->rows.n_rows == 0)
        return;
    dim3 grid((args->rows.n_rows + ROWS - 1) / ROWS, shape->n_kv_heads * (shape->v_in_k ? 1 : 2));
    cuda_stream_check(stream, "page_seal",
                      launch(seal_planes, grid, THREADS, 0, cuda, *args,
                             cuda_stream_error(stream)));
}
