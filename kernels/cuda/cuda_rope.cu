/* kernels/cuda/cuda_rope.cu: rope_append, a block a row. K and V have the bits of the CPU's op, and
 * so have queries before they are rounded to f16.
 */
#include "kernels/cuda/cuda_half.cuh"
#include "kernels/cuda/cuda_math.cuh"
#include "kernels/cuda/cuda_stream.cuh"

#include <assert.h>

extern "C" {
#include "base/status.h"
#include "kernels/cuda/cuda_act.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_page.h"
}

#define THREADS 256
#define WARPS (THREADS / WARP_LANES)
#define PAIRS_MAX (MODEL_HEAD_DIM_MAX / 2)

struct turn { /* of a position; shared memory */
    float cosine[PAIRS_MAX], sine[PAIRS_MAX];
};

/* Value d of a head after rotation. */
static __device__ __forceinline__ float rotated(const struct rope_append_args &args,
                                                const struct turn &turn, const float *head,
                                                uint32_t d)
{
    if (args.style == ROPE_NONE || d >= args.n_rot)
        return head[d];
    uint32_t n_pairs = args.n_rot / 2;
    bool adjacent = args.style == ROPE_NORM;
    uint32_t pair = adjacent ? d / 2 : d % n_pairs;
    bool is_second = adjacent ? d % 2 != 0 : d >= n_pairs;
    float a = head[adjacent ? 2 * pair : pair];
    float b = head[adjacent ? 2 * pair + 1 : pair + n_pairs];
    float c = turn.cosine[pair], s = turn.sine[pair];
    if (is_second)
        return fmaf(a, s, __fmul_rn(b, c));
    return fmaf(a, c, -__fmul_rn(b, s));
}

/* One value into a page; 1 if f16 cuts it. */
static __device__ __forceinline__ uint32_t put(uint8_t *at, uint32_t i, enum kv_dtype dtype,
                                               float value)
{
    if (dtype == KV_F32) {
        ((float *)at)[i] = value;
        return 0;
    }
    bool is_cut = value > F16_MAX || value < -F16_MAX;
    ((uint16_t *)at)[i] = half_bits(within_f16(value));
    return is_cut;
}

/* The row's queries, rotated and scaled, as f16 and a power of two. */
static __device__ __forceinline__ void put_queries(const struct rope_append_args &args,
                                                   const struct turn &turn,
                                                   const struct cuda_act_rows &q,
                                                   const float *from, uint32_t *greatest_of)
{
    uint32_t row = blockIdx.x, k_dim = args.group.shape.k_dim, greatest = 0;
    for (uint32_t i = threadIdx.x; i < q.width; i += THREADS) {
        const float *head = from + i / k_dim * k_dim;
        float value = __fmul_rn(rotated(args, turn, head, i % k_dim), args.q_scale);
        greatest = max(greatest, __float_as_uint(fabsf(value)));
    }
    greatest = __reduce_max_sync(ALL_LANES, greatest);
    if (lane_idx() == 0)
        greatest_of[warp_idx()] = greatest;
    __syncthreads();
    for (uint32_t w = 0; w < WARPS; w++)
        greatest = max(greatest, greatest_of[w]);

    int exponent = exponent_beyond_f16(greatest);
    float factor = power_of_two(-exponent);
    if (threadIdx.x == 0)
        q.scales[row] = power_of_two(exponent);
    for (uint32_t i = threadIdx.x; i < q.stride; i += THREADS) {
        float value = 0.0f;
        if (i < q.width) {
            const float *head = from + i / k_dim * k_dim;
            value = __fmul_rn(rotated(args, turn, head, i % k_dim), args.q_scale);
        }
        q.halves[(size_t)row * q.stride + i] = half_bits(__fmul_rn(value, factor));
    }
}

/* K and V of the row into its slot. Returns how many values f16 cut. */
static __device__ __forceinline__ uint32_t put_keys_and_values(const struct rope_append_args &args,
                                                               const struct turn &turn,
                                                               const float *k, uint8_t *layer)
{
    const struct kv_shape &shape = args.group.shape;
    enum kv_dtype dtype = args.group.dtype_open;
    uint32_t slot = args.rows.position[blockIdx.x] % PAGE_TOKENS, n_cut = 0;
    for (uint32_t i = threadIdx.x; i < shape.n_kv_heads * shape.k_dim; i += THREADS) {
        uint32_t head = i / shape.k_dim, d = i % shape.k_dim;
        float value = rotated(args, turn, k + (size_t)head * shape.k_dim, d);
        n_cut += put(layer + cuda_page_k_at(&shape, dtype, head, slot), d, dtype, value);
    }
    if (shape.v_in_k)
        return n_cut;
    const float *v = k + (size_t)shape.n_kv_heads * shape.k_dim;
    for (uint32_t i = threadIdx.x; i < shape.n_kv_heads * shape.v_dim; i += THREADS) {
        uint32_t head = i / shape.v_dim, d = i % shape.v_dim;
        n_cut += put(layer + cuda_page_v_at(&shape, dtype, head, slot), d, dtype, v[i]);
    }
    return n_cut;
}

static __global__ void __launch_bounds__(THREADS)
    append_rows(struct rope_append_args args, struct cuda_act_rows q, int *error)
{
    SHARED(struct turn, turn);
    SHARED(uint32_t[WARPS], greatest_of);
    uint32_t row = blockIdx.x, position = args.rows.position[row];
    uint8_t *layer = kv_page_find(&args.group, args.layer_idx, args.rows.row_seq[row],
                                  position / PAGE_TOKENS);
    if (layer == NULL) { /* the whole block */
        if (threadIdx.x == 0)
            cuda_fail(error, STATUS_INTERNAL);
        return;
    }
    if (args.style != ROPE_NONE)
        for (uint32_t i = threadIdx.x; i < args.n_rot / 2; i += THREADS) {
            double sine, cosine;
            cuda_sincos((double)position * args.inv_freq[i], &sine, &cosine);
            turn.cosine[i] = (float)(cosine * (double)args.rope_scale);
            turn.sine[i] = (float)(sine * (double)args.rope_scale);
        }
    __syncthreads();

    const float *from = args.qkv + (size_t)row * args.qkv_stride;
    put_queries(args, turn, q, from, greatest_of);
    uint32_t n_cut = put_keys_and_values(args, turn, from + q.width, layer);
    n_cut = __reduce_add_sync(ALL_LANES, n_cut);
    if (lane_idx() == 0 && n_cut > 0 && args.n_saturated != NULL)
        atomicAdd((unsigned long long *)args.n_saturated, (unsigned long long)n_cut);
}

extern "C" void cuda_rope_append(struct stream *stream, const struct rope_append_args *args)
{
    const struct kv_shape *shape = &args->group.shape;
    assert(shape->k_dim <= MODEL_HEAD_DIM_MAX && shape->v_dim <= MODEL_HEAD_DIM_MAX);
    assert(args->style == ROPE_NONE || (args->n_rot % 2 == 0 && args->n_rot <= shape->k_dim));
    assert(args->q.width == args->n_heads * shape->k_dim && (args->q.forms & ACT_QUERY) != 0);
    assert(args->rows.n_rows <= args->q.max_rows);
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "rope_append", &cuda) || args->rows.n_rows == 0)
        return;
    cuda_stream_check(stream, "rope_append",
                      launch(append_rows, args->rows.n_rows, THREADS, 0, cuda, *args,
                             cuda_act_rows_of(&args->q), cuda_stream_error(stream)));
}
