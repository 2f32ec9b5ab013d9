/* kernels/cuda/cuda_attend_plain.cu: attention over pages of any shape and type by fma, one query
 * head of one row a unit: f32 and bf16 pages, head dims without tiles, latent pages, very large
 * groups. A code is widened to fma(step, code, least).
 */
#include "kernels/cuda/cuda_attend.cuh"
#include "kernels/cuda/cuda_half.cuh"
#include "kernels/cuda/cuda_stream.cuh"

extern "C" {
#include "base/status.h"
}

#define THREADS 128
#define BLOCKS_PER_SM 4 /* so that registers are not spared */

struct plain_unit { /* shared memory; a thread's dims are its own */
    float q[MODEL_HEAD_DIM_MAX];
    float s[PAGE_TOKENS], p[PAGE_TOKENS];
    float span[MODEL_HEAD_DIM_MAX], group[MODEL_HEAD_DIM_MAX], sum[MODEL_HEAD_DIM_MAX];
};

struct plain_softmax {
    float m, l;
};

struct plain_plane { /* K or V of a kv head of a page */
    const uint8_t *rows;
    const float *least, *step; /* of packed pages */
    uint32_t row_bytes;
    enum kv_dtype dtype;
    bool is_k; /* least values and steps are those of dims; else of tokens */
};

static __device__ __forceinline__ struct plain_plane keys_of(const struct kv_shape &shape,
                                                             const struct seen_page &page,
                                                             uint32_t head)
{
    const uint8_t *scales = page.layer + cuda_page_k_head(&shape, page.dtype, head);
    return {page.layer + cuda_page_k_at(&shape, page.dtype, head, 0), (const float *)scales,
            (const float *)scales + shape.k_dim, cuda_page_row_bytes(shape.k_dim, page.dtype),
            page.dtype, true};
}

static __device__ __forceinline__ struct plain_plane values_of(const struct kv_shape &shape,
                                                               const struct seen_page &page,
                                                               uint32_t head)
{
    const uint8_t *scales = page.layer + cuda_page_v_head(&shape, page.dtype, head);
    if (shape.v_in_k)
        return keys_of(shape, page, head);
    return {page.layer + cuda_page_v_at(&shape, page.dtype, head, 0), (const float *)scales,
            (const float *)scales + PAGE_TOKENS, cuda_page_row_bytes(shape.v_dim, page.dtype),
            page.dtype, false};
}

static __device__ __forceinline__ float value_at(const struct plain_plane &plane, uint32_t token,
                                                 uint32_t d)
{
    const uint8_t *row = plane.rows + (size_t)token * plane.row_bytes;
    uint32_t run = plane.is_k ? d : token;
    switch (plane.dtype) {
    case KV_F32:
        return ((const float *)row)[d];
    case KV_F16:
        return float_of_half(((const uint16_t *)row)[d]);
    case KV_BF16:
        return __uint_as_float((uint32_t)((const uint16_t *)row)[d] << 16);
    case KV_Q8:
    case KV_Q4:
        break;
    }
    struct cuda_code_place place =
        plane.is_k ? cuda_page_k_code(plane.dtype, d) : cuda_page_v_code(plane.dtype, d);
    return fmaf(plane.step[run], (float)cuda_page_code(row, place, plane.dtype), plane.least[run]);
}

/* Folds one state into another and empties it. */
static __device__ __forceinline__ void fold(struct plain_softmax &from, float *o,
                                            struct plain_softmax &into, float *o_into,
                                            uint32_t v_dim)
{
    float m = fmaxf(from.m, into.m);
    float c_into = rescale(into.m, m), c_from = rescale(from.m, m);
    into.l = fmaf(from.l, c_from, __fmul_rn(into.l, c_into));
    into.m = m;
    for (uint32_t d = threadIdx.x; d < v_dim; d += THREADS) {
        o_into[d] = fmaf(o[d], c_from, __fmul_rn(o_into[d], c_into));
        o[d] = 0.0f;
    }
    from = {ATTEND_M_START, 0.0f};
}

/* One softmax step over the tokens [begin, end) of a page. */
static __device__ __forceinline__ void step(const struct kv_shape &shape, struct plain_unit &unit,
                                            const struct plain_plane &keys,
                                            const struct plain_plane &values, uint32_t begin,
                                            uint32_t end, struct plain_softmax &span)
{
    uint32_t t = threadIdx.x;
    if (t < PAGE_TOKENS) {
        float s = -INFINITY;
        if (t >= begin && t < end) {
            s = 0.0f;
            for (uint32_t d = 0; d < shape.k_dim; d++)
                s = fmaf(unit.q[d], value_at(keys, t, d), s);
        }
        unit.s[t] = s;
    }
    __syncthreads(); /* scores are there; p of the page before has been read */
    float m = span.m;
    for (uint32_t i = begin; i < end; i++)
        m = fmaxf(m, unit.s[i]);
    if (t >= begin && t < end)
        unit.p[t] = exp2_approx(unit.s[t] - m);
    __syncthreads(); /* p is there; scores have been read */
    float c = rescale(span.m, m), sum = 0.0f;
    for (uint32_t i = begin; i < end; i++)
        sum += unit.p[i];
    span.m = m;
    span.l = fmaf(span.l, c, sum);
    for (uint32_t d = t; d < shape.v_dim; d += THREADS) {
        float o = __fmul_rn(unit.span[d], c);
        for (uint32_t i = begin; i < end; i++)
            o = fmaf(unit.p[i], value_at(values, i, d), o);
        unit.span[d] = o;
    }
}

static __device__ __forceinline__ void load(const struct attend_run &run, uint32_t row,
                                            uint32_t head, struct plain_unit &unit)
{
    const struct kv_shape &shape = run.args.group.shape;
    const uint16_t *q = run.q.halves + (size_t)row * run.q.stride + head * shape.k_dim;
    for (uint32_t d = threadIdx.x; d < shape.k_dim; d += THREADS)
        unit.q[d] = __fmul_rn(float_of_half(q[d]), run.q.scales[row]);
    for (uint32_t d = threadIdx.x; d < shape.v_dim; d += THREADS)
        unit.span[d] = unit.group[d] = unit.sum[d] = 0.0f;
}

static __device__ __forceinline__ uint32_t within_page(uint32_t position, uint32_t page)
{
    uint32_t start = page * PAGE_TOKENS;
    return position <= start ? 0 : min(position - start, (uint32_t)PAGE_TOKENS);
}

static __device__ __forceinline__ void walk_row(const struct attend_run &run,
                                                const struct attend_walk &walk,
                                                struct plain_unit &unit)
{
    const struct attend_block &block = walk.block;
    const struct kv_shape &shape = run.args.group.shape;
    uint32_t head = walk.vhead, kv_head = head / run.group_heads, v_dim = shape.v_dim;
    struct plain_softmax span = {ATTEND_M_START, 0.0f}, group = span, sum = span;
    load(run, block.row, head, unit);
    for (uint32_t page = walk.first_page; page <= walk.last_page; page++) {
        struct seen_page seen = seen_page_of(run, block, page);
        __syncthreads(); /* q is there */
        if (seen.layer != NULL)
            step(shape, unit, keys_of(shape, seen, kv_head), values_of(shape, seen, kv_head),
                 within_page(block.first_position, page),
                 within_page(block.last_position + 1, page), span);
        else if (threadIdx.x == 0)
            cuda_fail(run.error, STATUS_INTERNAL);
        if (ends_span(page) || page == walk.last_page)
            fold(span, unit.span, group, unit.group, v_dim);
        if (ends_group(page) || page == walk.last_page)
            fold(group, unit.group, sum, unit.sum, v_dim);
    }
    size_t state = (size_t)(block.first_state + walk.part) * run.args.n_heads + head;
    for (uint32_t d = threadIdx.x; d < v_dim; d += THREADS)
        run.o[state * v_dim + d] = unit.sum[d];
    if (threadIdx.x == 0) {
        run.ml[state * 2] = sum.m;
        run.ml[state * 2 + 1] = sum.l;
    }
}

static __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM) walk_plain(struct attend_run run)
{
    SHARED(struct plain_unit, unit);
    uint32_t n_units = run.counts->n_parts[ATTEND_FEW] * run.n_vheads;
    for (uint32_t idx; (idx = take_unit(run, ATTEND_FEW)) < n_units;)
        walk_row(run, walk_of(run, ATTEND_FEW, idx), unit);
}

cudaError_t cuda_attend_plain(const struct attend_run &run, unsigned grid, cudaStream_t stream)
{
    return launch(walk_plain, grid, THREADS, 0, stream, run);
}
