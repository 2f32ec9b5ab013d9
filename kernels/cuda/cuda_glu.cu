/* kernels/cuda/cuda_glu.cu: silu(gate) * up into a panel; gate and up are summed as linear sums
 * them, by few rows or by many. Of many rows a warp's two tiles are those of gate and up.
 *
 * Whether a row needs a scale is known when all its blocks are done. So the first launch writes
 * halves as if none did and keeps the greatest scale that a value asks for; the second computes the
 * rows again that have one, and is over at once where none has.
 */
#include "kernels/cuda/cuda_half.cuh"
#include "kernels/cuda/cuda_math.cuh"
#include "kernels/cuda/cuda_prefill.cuh"
#include "kernels/cuda/cuda_stream.cuh"
#include "kernels/cuda/cuda_tile.cuh"

#include <assert.h>

extern "C" {
#include "kernels/cuda/cuda_ops.h"
}

#define THREADS (CUDA_PARTS * WARP_LANES)
#define FEW_ROWS 32
#define PREFILL_PAIRS (PREFILL_TILES / 2)

static_assert(THREADS == PREFILL_THREADS, "both kinds of blocks are launched alike");

struct glu_job {
    struct weight weight;
    struct cuda_act_rows in, out;
    const float *gate_bias, *up_bias;
    uint32_t n_rows;
};

/* cpu_silu, the same bits */
static __device__ __forceinline__ float silu(float z)
{
    return __fdiv_rn(z, __fadd_rn(1.0f, cuda_exp2(__fmul_rn(-z, LOG2_E))));
}

static __device__ __forceinline__ bool is_any_scaled(const float *scales, uint32_t n)
{
    bool is_any = false;
    for (uint32_t row = 0; row < n; row++)
        is_any = is_any || scales[row] != 1.0f;
    return is_any;
}

/* Of the first launch: a half that is right unless the row gets a scale; 1 is the least. */
static __device__ __forceinline__ void write_first(const struct glu_job &job, uint32_t row,
                                                   uint32_t column, float value)
{
    if (job.out.floats != NULL && column < job.out.width)
        job.out.floats[(size_t)row * job.out.width + column] = value;
    if (job.out.halves == NULL)
        return;
    job.out.halves[(size_t)row * job.out.stride + column] = half_over(value, 1.0f);
    int exponent = exponent_beyond_f16(__float_as_uint(fabsf(value)));
    if (exponent != 0 || column == 0)
        atomicMax((unsigned *)&job.out.scales[row], __float_as_uint(power_of_two(exponent)));
}

static __device__ __forceinline__ void write_again(const struct glu_job &job, uint32_t row,
                                                   uint32_t column, float value)
{
    float scale = job.out.scales[row];
    if (scale != 1.0f)
        job.out.halves[(size_t)row * job.out.stride + column] = half_over(value, scale);
}

/* The value of a column, from the chains of both sides. */
static __device__ __forceinline__ float value_of(const struct glu_job &job, uint32_t column,
                                                 float z, float u)
{
    z = job.gate_bias != NULL ? __fadd_rn(z, job.gate_bias[column]) : z;
    u = job.up_bias != NULL ? __fadd_rn(u, job.up_bias[column]) : u;
    return __fmul_rn(silu(z), u);
}

template <bool is_again>
static __device__ __forceinline__ void write_value(const struct glu_job &job, uint32_t row,
                                                   uint32_t column, float value)
{
    if (is_again)
        write_again(job, row, column, value);
    else
        write_first(job, row, column, value);
}

template <int row_tiles, bool is_again>
static __global__ void __launch_bounds__(THREADS, row_tiles == 1 ? 2 : 1)
    glu_rows(struct glu_job job)
{
    SHARED(cuda_parts<row_tiles>[2], parts);
    const struct cuda_segment &gate = job.weight.segments[0], &up = job.weight.segments[1];
    uint32_t first_row = blockIdx.y * 8 * row_tiles;
    struct cuda_rows rows = rows_from(job.in, first_row, job.n_rows);
    uint32_t n = min(rows.n, (uint32_t)(8 * row_tiles));
    if (is_again && !is_any_scaled(job.out.scales + first_row, n)) /* all threads alike */
        return;

    for (uint32_t side = 0; side < 2; side++) {
        float acc[row_tiles][4];
        multiply_part<row_tiles>(acc, side == 0 ? gate : up, blockIdx.x, job.weight.n_in_tiles,
                                 rows, warp_idx());
        store_part(parts[side], warp_idx(), acc);
    }
    __syncthreads();

    /* the last block of a row also writes the zeros beyond it */
    uint32_t first_column = blockIdx.x * CUDA_TILE_OUTPUTS;
    bool is_last = blockIdx.x == gridDim.x - 1 && job.out.halves != NULL;
    uint32_t n_columns = is_last ? job.out.stride - first_column : CUDA_TILE_OUTPUTS;
    for (uint32_t i = threadIdx.x; i < n * n_columns; i += THREADS) {
        uint32_t row = i / n_columns, output = i % n_columns, column = first_column + output;
        float value = 0.0f;
        if (column < job.weight.n_out)
            value = value_of(job, column, sum_of_parts(parts[0], row, output, gate, rows),
                             sum_of_parts(parts[1], row, output, up, rows));
        write_value<is_again>(job, first_row + row, column, value);
    }
}

template <int type, bool is_again>
static __global__ void __launch_bounds__(PREFILL_THREADS, 1) glu_blocks(struct glu_job job)
{
    DYNAMIC_SHARED(prefill_ring<type>, ring);
    uint32_t first_row = blockIdx.y * PREFILL_ROWS;
    struct cuda_rows rows = rows_from(job.in, first_row, job.n_rows);
    uint32_t n = min(rows.n, (uint32_t)PREFILL_ROWS);
    if (is_again && !is_any_scaled(job.out.scales + first_row, n)) /* all threads alike */
        return;

    struct prefill_tiles tiles = {&job.weight.segments[0], &job.weight.segments[1],
                                  blockIdx.x * PREFILL_PAIRS, job.weight.n_in_tiles};
    float total[2][PREFILL_ROW_TILES][4];
    prefill_chains<type>(total, *ring, tiles, rows);
#pragma unroll
    for (int t = 0; t < PREFILL_ROW_TILES; t++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            uint32_t row = prefill_row(t, j), column = prefill_output(tiles, 0, j);
            if (row < n && column < job.weight.n_out)
                write_value<is_again>(job, first_row + row, column,
                                      value_of(job, column,
                                               __fmul_rn(total[0][t][j], rows.scales[row]),
                                               __fmul_rn(total[1][t][j], rows.scales[row])));
        }

    if (is_again || blockIdx.x < gridDim.x - 1 || job.out.halves == NULL)
        return;
    uint32_t n_zeros = job.out.stride - job.weight.n_out;
    for (uint32_t i = threadIdx.x; i < n * n_zeros; i += PREFILL_THREADS)
        write_first(job, first_row + i / n_zeros, job.weight.n_out + i % n_zeros, 0.0f);
}

typedef void (*glu_kernel)(struct glu_job job);

/* Both launches, or the first alone where there are no halves. */
static cudaError_t launch_both(glu_kernel first, glu_kernel again, dim3 grid, size_t shared_bytes,
                               const struct glu_job &job, cudaStream_t cuda)
{
    cudaError_t error = cudaSuccess;
    if (job.out.halves != NULL)
        error = cudaMemsetAsync(job.out.scales, 0, job.n_rows * sizeof(float), cuda);
    if (error == cudaSuccess)
        error = launch(first, grid, THREADS, shared_bytes, cuda, job);
    if (error == cudaSuccess && job.out.halves != NULL)
        error = launch(again, grid, THREADS, shared_bytes, cuda, job);
    return error;
}

template <int row_tiles>
static cudaError_t launch_few(const struct glu_job &job, cudaStream_t cuda)
{
    dim3 grid(job.weight.segments[0].n_tiles, (job.n_rows + 8 * row_tiles - 1) / (8 * row_tiles));
    return launch_both(glu_rows<row_tiles, false>, glu_rows<row_tiles, true>, grid, 0, job, cuda);
}

template <int type>
static cudaError_t launch_blocks(const struct glu_job &job, cudaStream_t cuda)
{
    dim3 grid((job.weight.segments[0].n_tiles + PREFILL_PAIRS - 1) / PREFILL_PAIRS,
              (job.n_rows + PREFILL_ROWS - 1) / PREFILL_ROWS);
    size_t shared_bytes = sizeof(prefill_ring<type>);
    cudaError_t error = allow_shared(glu_blocks<type, false>, shared_bytes);
    if (error == cudaSuccess)
        error = allow_shared(glu_blocks<type, true>, shared_bytes);
    if (error == cudaSuccess)
        error = launch_both(glu_blocks<type, false>, glu_blocks<type, true>, grid, shared_bytes,
                            job, cuda);
    return error;
}

static cudaError_t launch_glu(const struct glu_job &job, cudaStream_t cuda)
{
    uint32_t type = job.weight.segments[0].type;
    bool is_mixed = type != job.weight.segments[1].type;
    if (job.n_rows <= 8)
        return launch_few<1>(job, cuda);
    if (job.n_rows <= FEW_ROWS || is_mixed || type == TENSOR_F32)
        return launch_few<4>(job, cuda);
    switch (type) {
    case TENSOR_F16:
        return launch_blocks<TENSOR_F16>(job, cuda);
    case TENSOR_Q4_0:
        return launch_blocks<TENSOR_Q4_0>(job, cuda);
    case TENSOR_Q4_1:
        return launch_blocks<TENSOR_Q4_1>(job, cuda);
    default:
        return launch_blocks<TENSOR_Q8_0>(job, cuda);
    }
}

extern "C" void cuda_linear_glu(struct stream *stream, const struct linear_glu_args *args)
{
    const struct weight *weight = args->weight;
    assert(weight->fuse == WEIGHT_GATE_UP && args->in.width == weight->n_in);
    assert((args->in.forms & weight->act_forms) == weight->act_forms);
    assert(args->n_rows <= args->in.max_rows && args->n_rows <= args->out.max_rows);
    assert(args->out.width == weight->n_out && args->out.base != args->in.base);
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "linear_glu", &cuda) || args->n_rows == 0)
        return;
    struct glu_job job = {*weight, cuda_act_rows_of(&args->in), cuda_act_rows_of(&args->out),
                          args->gate_bias, args->up_bias, args->n_rows};
    cuda_stream_check(stream, "linear_glu", launch_glu(job, cuda));
}
