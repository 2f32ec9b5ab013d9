/* kernels/cuda/cuda_attend_merge.cu: folds the states of a row and head, in order, and writes
 * o / l. A warp folds a group of spans; then one folds the groups.
 */
#include "kernels/cuda/cuda_attend.cuh"
#include "kernels/cuda/cuda_half.cuh"

#define THREADS 128
#define WARPS (THREADS / WARP_LANES)
#define DIMS 4 /* of a lane at a time */
#define WRITE_THREADS 256

struct merge_state {
    float m, l, o[DIMS];
};

static __device__ __forceinline__ void fold(struct merge_state &into, float m_from, float l_from,
                                            const float (&o_from)[DIMS])
{
    float m = fmaxf(into.m, m_from);
    float c_into = rescale(into.m, m), c_from = rescale(m_from, m);
    into.m = m;
    into.l = fmaf(l_from, c_from, __fmul_rn(into.l, c_into));
#pragma unroll
    for (int i = 0; i < DIMS; i++)
        into.o[i] = fmaf(o_from[i], c_from, __fmul_rn(into.o[i], c_into));
}

static __device__ __forceinline__ struct merge_state merge_empty(void)
{
    return {ATTEND_M_START, 0.0f, {0.0f, 0.0f, 0.0f, 0.0f}};
}

/* Parts [begin, end) of this block's row and head; the dims from `dim` on, a lane apart. */
static __device__ __forceinline__ struct merge_state merge_parts(const struct attend_run &run,
                                                                 const struct attend_block &block,
                                                                 uint32_t begin, uint32_t end,
                                                                 uint32_t dim)
{
    uint32_t v_dim = run.args.group.shape.v_dim;
    struct merge_state sum = merge_empty();
    for (uint32_t part = begin; part < end; part++) {
        size_t state = block.first_state + part * block.n_rows + (blockIdx.y - block.row);
        size_t at = state * run.args.n_heads + blockIdx.x;
        float o[DIMS];
#pragma unroll
        for (int i = 0; i < DIMS; i++) {
            uint32_t d = dim + (uint32_t)i * WARP_LANES;
            o[i] = d < v_dim ? run.o[at * v_dim + d] : 0.0f;
        }
        fold(sum, run.ml[at * 2], run.ml[at * 2 + 1], o);
    }
    return sum;
}

/* Parts of the i-th group: all of its spans, or the one state that it is already. */
static __device__ __forceinline__ uint32_t part_begin(const struct attend_block &block, uint32_t i)
{
    if (block.cut != ATTEND_BY_SPAN)
        return i;
    uint32_t first = block.first_position / SPAN_TOKENS;
    uint32_t begin = (first / ATTEND_GROUP_SPANS + i) * ATTEND_GROUP_SPANS;
    return begin <= first ? 0 : begin - first;
}

static __device__ __forceinline__ uint32_t n_groups_of(const struct attend_block &block)
{
    return n_parts_of(block, block.cut == ATTEND_WHOLE ? ATTEND_WHOLE : ATTEND_BY_GROUP);
}

/* One value of the row: into f32 rows that write_rows takes further, or into the panel. A mean of
 * f16 values passes their range by rounding at most. */
static __device__ __forceinline__ void put(const struct attend_run &run, float *rows, uint32_t i,
                                           float value)
{
    size_t row = blockIdx.y;
    if (rows != NULL) {
        rows[row * run.out.width + i] = value;
        return;
    }
    if (run.out.floats != NULL)
        run.out.floats[row * run.out.width + i] = value;
    if (run.out.halves != NULL)
        run.out.halves[row * run.out.stride + i] = half_bits(within_f16(value));
}

/* What the panel holds beside values. */
static __device__ __forceinline__ void put_rest(const struct attend_run &run)
{
    size_t row = blockIdx.y;
    if (run.out.halves == NULL || blockIdx.x != 0)
        return;
    if (threadIdx.x == 0)
        run.out.scales[row] = 1.0f;
    for (uint32_t i = run.out.width + threadIdx.x; i < run.out.stride; i += THREADS)
        run.out.halves[row * run.out.stride + i] = 0;
}

static __global__ void __launch_bounds__(THREADS) merge_states(struct attend_run run, float *rows)
{
    SHARED(struct merge_state[WARPS][WARP_LANES], of_group);
    struct attend_block block = run.blocks[run.row_block[blockIdx.y]];
    uint32_t n_groups = n_groups_of(block), n_parts = n_parts_of(block, block.cut);
    uint32_t v_dim = run.args.group.shape.v_dim;
    for (uint32_t begin = 0; begin < v_dim; begin += DIMS * WARP_LANES) {
        uint32_t dim = begin + lane_idx();
        struct merge_state sum = merge_empty();
        for (uint32_t first = 0; first < n_groups; first += WARPS) {
            uint32_t group = first + warp_idx();
            if (group < n_groups) {
                uint32_t end = group + 1 < n_groups ? part_begin(block, group + 1) : n_parts;
                of_group[warp_idx()][lane_idx()] =
                    merge_parts(run, block, part_begin(block, group), end, dim);
            }
            __syncthreads();
            for (uint32_t w = 0; warp_idx() == 0 && w < min((uint32_t)WARPS, n_groups - first); w++)
                fold(sum, of_group[w][lane_idx()].m, of_group[w][lane_idx()].l,
                     of_group[w][lane_idx()].o);
            __syncthreads();
        }
#pragma unroll
        for (int i = 0; i < DIMS; i++) {
            uint32_t d = dim + (uint32_t)i * WARP_LANES;
            if (warp_idx() == 0 && d < v_dim)
                put(run, rows, blockIdx.x * v_dim + d, __fdiv_rn(sum.o[i], sum.l) + 0.0f);
        }
    }
    if (rows == NULL)
        put_rest(run);
}

/* f32 rows into the panel, under a power of two where f16 does not hold them. */
static __global__ void __launch_bounds__(WRITE_THREADS)
    write_rows(struct cuda_act_rows out, const float *rows)
{
    SHARED(uint32_t[WRITE_THREADS / WARP_LANES], greatest_of);
    size_t row = blockIdx.x;
    const float *from = rows + row * out.width;
    uint32_t greatest = 0;
    for (uint32_t i = threadIdx.x; i < out.width; i += WRITE_THREADS) {
        greatest = max(greatest, __float_as_uint(fabsf(from[i])));
        if (out.floats != NULL)
            out.floats[row * out.width + i] = from[i];
    }
    if (out.halves == NULL) /* all blocks alike */
        return;
    greatest = __reduce_max_sync(ALL_LANES, greatest);
    if (lane_idx() == 0)
        greatest_of[warp_idx()] = greatest;
    __syncthreads();
    for (uint32_t w = 0; w < WRITE_THREADS / WARP_LANES; w++)
        greatest = max(greatest, greatest_of[w]);
    int exponent = exponent_beyond_f16(greatest);
    float factor = power_of_two(-exponent);
    if (threadIdx.x == 0)
        out.scales[row] = power_of_two(exponent);
    for (uint32_t i = threadIdx.x; i < out.stride; i += WRITE_THREADS) {
        float value = i < out.width ? __fmul_rn(from[i], factor) : 0.0f;
        out.halves[row * out.stride + i] = half_bits(value);
    }
}

cudaError_t cuda_attend_merge(const struct attend_run &run, cudaStream_t stream)
{
    dim3 grid(run.args.n_heads, run.args.rows.n_rows);
    bool may_pass_f16 = run.args.group.dtype_open != KV_F16;
    float *rows = may_pass_f16 ? run.scratch : NULL;
    cudaError_t error = launch(merge_states, grid, THREADS, 0, stream, run, rows);
    if (error == cudaSuccess && may_pass_f16)
        error = launch(write_rows, run.args.rows.n_rows, WRITE_THREADS, 0, stream, run.out, rows);
    return error;
}
