/* kernels/cuda/cuda_glu.cu: silu(gate) * up into a panel; gate and up are summed as linear sums
 * them.
 *
 * Whether a row needs a scale is known when all its blocks are done. So the first launch writes
 * halves as if none did and keeps the greatest scale that a value asks for; the second computes the
 * rows again that have one, and is over at once where none has.
 */
#include "kernels/cuda/cuda_half.cuh"
#include "kernels/cuda/cuda_math.cuh"
#include "kernels/cuda/cuda_stream.cuh"
#include "kernels/cuda/cuda_tile.cuh"

#include <assert.h>

extern "C" {
#include "kernels/cuda/cuda_ops.h"
}

#define THREADS (CUDA_PARTS * WARP_LANES)

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
        if (column < job.weight.n_out) {
            float z = sum_of_parts(parts[0], row, output, gate, rows);
            float u = sum_of_parts(parts[1], row, output, up, rows);
            z = job.gate_bias != NULL ? __fadd_rn(z, job.gate_bias[column]) : z;
            u = job.up_bias != NULL ? __fadd_rn(u, job.up_bias[column]) : u;
            value = __fmul_rn(silu(z), u);
        }
        if (is_again)
            write_again(job, first_row + row, column, value);
        else
            write_first(job, first_row + row, column, value);
    }
}

template <int row_tiles>
static cudaError_t launch_glu(const struct glu_job &job, cudaStream_t cuda)
{
    dim3 grid(job.weight.segments[0].n_tiles, (job.n_rows + 8 * row_tiles - 1) / (8 * row_tiles));
    if (job.out.halves == NULL)
        return launch(glu_rows<row_tiles, false>, grid, THREADS, 0, cuda, job);
    cudaError_t error = cudaMemsetAsync(job.out.scales, 0, job.n_rows * sizeof(float), cuda);
    if (error == cudaSuccess)
        error = launch(glu_rows<row_tiles, false>, grid, THREADS, 0, cuda, job);
    if (error == cudaSuccess)
        error = launch(glu_rows<row_tiles, true>, grid, THREADS, 0, cuda, job);
    return error;
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
    cuda_stream_check(stream, "linear_glu",
                      args->n_rows <= 8 ? launch_glu<1>(job, cuda) : launch_glu<4>(job, cuda));
}
