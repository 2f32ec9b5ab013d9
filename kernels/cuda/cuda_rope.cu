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
#include "kernels/q_temperature.h"
}

#define THREADS 256
#define WARPS (THREADS / WARP_LANES)
#define PAIRS_MAX (MODEL_HEAD_DIM_MAX / 2)
#define CHAINS 16 /* of a sum of squares */
#define HEADS_AT_ONCE (THREADS / CHAINS)

struct turn { /* of a row; shared memory */
    float cosine[PAIRS_MAX], sine[PAIRS_MAX];
    float norms[2 * MODEL_HEADS_MAX]; /* factors of q's heads, then k's; whole HEADS_AT_ONCE */
};

struct head { /* of q or k */
    const float *values;  /* [k_dim] */
    const float *weights; /* [n_normed] */
    uint32_t n_normed;    /* its first values that the norm before is of; 0: none */
    float norm;           /* 1 without a norm */
};

static __device__ __forceinline__ struct head head_of(const struct rope_append_args &args,
                                                      const struct turn &turn, const float *row,
                                                      uint32_t idx)
{
    struct head head = {row + (size_t)idx * args.group.shape.k_dim, NULL, 0, 1.0f};
    bool is_k = idx >= args.n_heads, is_latent = args.qk_norm == QK_NORM_LATENT;
    if (args.qk_norm != QK_NORM_NONE) /* of latent queries nobody's */
        head.norm = turn.norms[idx];
    if (args.qk_norm == QK_NORM_BEFORE) {
        head.weights = is_k ? args.k_norm : args.q_norm;
        head.n_normed = args.group.shape.k_dim;
    } else if (is_latent && is_k) {
        head.weights = args.k_norm;
        head.n_normed = args.group.shape.v_dim;
    }
    return head;
}

static __device__ __forceinline__ float before_rotation(const struct head &head, uint32_t d)
{
    float value = head.values[d];
    return d >= head.n_normed ? value
                              : __fmul_rn(__fmul_rn(value, head.norm), head.weights[d]);
}

/* Value d of a head after rotation. */
static __device__ __forceinline__ float rotated(const struct rope_append_args &args,
                                                const struct turn &turn, const struct head &head,
                                                uint32_t d)
{
    uint32_t first = args.first_rot, at = d - first; /* in front of it: beyond any n_rot */
    if (args.style == ROPE_NONE || at >= args.n_rot)
        return before_rotation(head, d);
    uint32_t n_pairs = args.n_rot / 2;
    bool adjacent = args.style == ROPE_NORM;
    uint32_t pair = adjacent ? at / 2 : at % n_pairs;
    bool is_second = adjacent ? at % 2 != 0 : at >= n_pairs;
    float a = before_rotation(head, first + (adjacent ? 2 * pair : pair));
    float b = before_rotation(head, first + (adjacent ? 2 * pair + 1 : pair + n_pairs));
    float c = turn.cosine[pair], s = turn.sine[pair];
    if (is_second)
        return fmaf(a, s, __fmul_rn(b, c));
    return fmaf(a, c, -__fmul_rn(b, s));
}

/* The same under the norm after. */
static __device__ __forceinline__ float turned(const struct rope_append_args &args,
                                               const struct turn &turn, const float *row,
                                               uint32_t idx, uint32_t d)
{
    struct head head = head_of(args, turn, row, idx);
    float value = rotated(args, turn, head, d);
    return args.qk_norm == QK_NORM_AFTER ? __fmul_rn(value, head.norm) : value;
}

static_assert(2 * MODEL_HEADS_MAX % HEADS_AT_ONCE == 0, "the last heads are normed with others");

/* 16 lanes sum up a head, in the order of the CPU: values lane, lane + 16 ..., then the fold. Of
 * latent pages only keys have a norm. */
static __device__ __forceinline__ void make_norms(const struct rope_append_args &args,
                                                  struct turn &turn, const float *row)
{
    const struct kv_shape &shape = args.group.shape;
    bool is_latent = args.qk_norm == QK_NORM_LATENT;
    uint32_t n = args.n_heads + (args.no_append ? 0 : shape.n_kv_heads);
    uint32_t chain = threadIdx.x % CHAINS;
    uint32_t n_normed = is_latent ? shape.v_dim : shape.k_dim;
    for (uint32_t first = is_latent ? args.n_heads : 0; first < n; first += HEADS_AT_ONCE) {
        uint32_t idx = first + threadIdx.x / CHAINS;
        struct head head = {row + (size_t)min(idx, n - 1) * shape.k_dim, NULL, 0, 1.0f};
        float sum = 0.0f;
        for (uint32_t d = chain; d < n_normed; d += CHAINS) {
            float value = args.qk_norm == QK_NORM_AFTER ? rotated(args, turn, head, d)
                                                        : head.values[d];
            sum = fmaf(value, value, sum);
        }
        for (uint32_t apart = CHAINS / 2; apart > 0; apart /= 2)
            sum = __fadd_rn(sum, __shfl_down_sync(ALL_LANES, sum, apart));
        if (chain == 0) /* beyond the last head nobody reads */
            turn.norms[idx] = __fdiv_rn(
                1.0f, __fsqrt_rn(__fadd_rn(__fdiv_rn(sum, (float)n_normed), args.norm_eps)));
    }
}

#define BRAIN_MAX_BITS 0x7f7f0000u /* of the greatest finite bf16, as an f32 */

/* To bf16, round to even; beyond the greatest that value; NaN stays NaN. */
static __device__ __forceinline__ uint16_t brain_bits(float value)
{
    uint32_t bits = __float_as_uint(value), sign = bits & 0x80000000u;
    bits &= 0x7fffffffu;
    bool is_nan = bits > 0x7f800000u;
    bits = is_nan ? bits | 0x400000u : min(bits, BRAIN_MAX_BITS);
    return (uint16_t)((sign | (is_nan ? bits : bits + 0x7fff + (bits >> 16 & 1))) >> 16);
}

/* One value into a page; 1 if 16 bits cut it. */
static __device__ __forceinline__ uint32_t put(uint8_t *at, uint32_t i, enum kv_dtype dtype,
                                               float value)
{
    if (dtype == KV_F32) {
        ((float *)at)[i] = value;
        return 0;
    }
    if (dtype == KV_BF16) {
        float greatest = __uint_as_float(BRAIN_MAX_BITS);
        ((uint16_t *)at)[i] = brain_bits(value);
        return value > greatest || value < -greatest;
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
    float scale =
        q_temperature_factor(args.q_scale, &args.q_temperature, args.rows.position[row]);
    for (uint32_t i = threadIdx.x; i < q.width; i += THREADS) {
        float value = __fmul_rn(turned(args, turn, from, i / k_dim, i % k_dim), scale);
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
        if (i < q.width)
            value = __fmul_rn(turned(args, turn, from, i / k_dim, i % k_dim), scale);
        q.halves[(size_t)row * q.stride + i] = half_bits(__fmul_rn(value, factor));
    }
}

/* K and V of the row into its slot. Returns how many values f16 cut. */
static __device__ __forceinline__ uint32_t put_keys_and_values(const struct rope_append_args &args,
                                                               const struct turn &turn,
                                                               const float *from, uint8_t *layer)
{
    const struct kv_shape &shape = args.group.shape;
    enum kv_dtype dtype = args.group.dtype_open;
    uint32_t slot = args.rows.position[blockIdx.x] % PAGE_TOKENS, n_cut = 0;
    for (uint32_t i = threadIdx.x; i < shape.n_kv_heads * shape.k_dim; i += THREADS) {
        uint32_t head = i / shape.k_dim, d = i % shape.k_dim;
        float value = turned(args, turn, from, args.n_heads + head, d);
        n_cut += put(layer + cuda_page_k_at(&shape, dtype, head, slot), d, dtype, value);
    }
    if (shape.v_in_k)
        return n_cut;
    const float *v = from + (size_t)(args.n_heads + shape.n_kv_heads) * shape.k_dim;
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
    uint8_t *layer = kv_page_find_open(&args.group, args.layer_idx, args.rows.row_seq[row],
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
    __syncthreads(); /* the turn is there */

    const float *from = args.qkv + (size_t)row * args.qkv_stride;
    if (args.qk_norm != QK_NORM_NONE) {
        make_norms(args, turn, from);
        __syncthreads(); /* the norms are there */
    }
    if (args.n_heads > 0) /* all threads alike */
        put_queries(args, turn, q, from, greatest_of);
    if (args.no_append)
        return;
    uint32_t n_cut = put_keys_and_values(args, turn, from, layer);
    n_cut = __reduce_add_sync(ALL_LANES, n_cut);
    if (lane_idx() == 0 && n_cut > 0 && args.n_saturated != NULL)
        atomicAdd((unsigned long long *)args.n_saturated, (unsigned long long)n_cut);
}

extern "C" void cuda_rope_append(struct stream *stream, const struct rope_append_args *args)
{
    const struct kv_shape *shape = &args->group.shape;
    assert(shape->k_dim <= MODEL_HEAD_DIM_MAX && shape->v_dim <= MODEL_HEAD_DIM_MAX);
    assert(args->style == ROPE_NONE ||
           (args->n_rot % 2 == 0 && args->first_rot + args->n_rot <= shape->k_dim));
    assert(args->n_heads > 0 || !args->no_append);
    assert(args->n_heads == 0 ||
           (args->q.width == args->n_heads * shape->k_dim && (args->q.forms & ACT_QUERY) != 0 &&
            args->rows.n_rows <= args->q.max_rows));
    assert(args->n_heads <= MODEL_HEADS_MAX && shape->n_kv_heads <= MODEL_HEADS_MAX);
    assert(args->qk_norm != QK_NORM_BEFORE || (args->q_norm != NULL && args->k_norm != NULL));
    assert(args->qk_norm != QK_NORM_LATENT ||
           (args->k_norm != NULL && shape->v_in_k && shape->v_dim <= shape->k_dim));
    assert(args->q_temperature.scale == 0 || args->q_temperature.length > 0);
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "rope_append", &cuda) || args->rows.n_rows == 0)
        return;
    cuda_stream_check(stream, "rope_append",
                      launch(append_rows, args->rows.n_rows, THREADS, 0, cuda, *args,
                             cuda_act_rows_of(&args->q), cuda_stream_error(stream)));
}
