/* kernels/cuda/cuda_glu.cuh: silu(gate) * up of one tile of outputs and a few rows, into a panel:
 * for linear_glu, and for each expert of moe.
 *
 * Whether a row needs a scale is known when all its blocks are done. So the first launch writes
 * halves as if none did and keeps the greatest scale that a value asks for; the second computes the
 * rows again that have one, and is over at once where none has.
 */
#ifndef QUIRE_KERNELS_CUDA_GLU_CUH
#define QUIRE_KERNELS_CUDA_GLU_CUH

#include "kernels/cuda/cuda_half.cuh"
#include "kernels/cuda/cuda_math.cuh"
#include "kernels/cuda/cuda_tile.cuh"

#define GLU_THREADS (CUDA_PARTS * WARP_LANES)

struct glu_job {
    struct weight weight;
    struct cuda_act_rows in, out;
    const float *gate_bias, *up_bias;
    const float *row_scales; /* of both chains, in front of biases; or NULL */
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

struct glu_tile { /* tile blockIdx.x of an expert's matrices, rows first_row to end_row - 1 */
    uint32_t expert; /* 0 where there are none */
    uint32_t first_row, end_row;
};

/* By a whole block, at most 8 * row_tiles rows; gridDim.x is the number of tiles. */
template <int row_tiles, bool is_again>
static __device__ __forceinline__ void glu_of_tile(const struct glu_job &job,
                                                   const struct glu_tile &tile,
                                                   cuda_parts<row_tiles> (&parts)[2])
{
    struct cuda_rows rows = rows_from(job.in, tile.first_row, tile.end_row);
    uint32_t n = min(rows.n, (uint32_t)(8 * row_tiles));
    if (is_again && !is_any_scaled(job.out.scales + tile.first_row, n)) /* all threads alike */
        return;

    for (uint32_t side = 0; side < 2; side++) {
        float acc[row_tiles][4];
        struct cuda_segment segment = cuda_segment_of_expert(&job.weight, side, tile.expert);
        multiply_part<row_tiles>(acc, segment, blockIdx.x, job.weight.n_in_tiles, rows, warp_idx());
        store_part(parts[side], warp_idx(), acc);
    }
    __syncthreads();

    /* the last block of a row also writes the zeros beyond it */
    uint32_t first_column = blockIdx.x * CUDA_TILE_OUTPUTS;
    bool is_last = blockIdx.x == gridDim.x - 1 && job.out.halves != NULL;
    uint32_t n_columns = is_last ? job.out.stride - first_column : CUDA_TILE_OUTPUTS;
    for (uint32_t i = threadIdx.x; i < n * n_columns; i += GLU_THREADS) {
        uint32_t row = i / n_columns, output = i % n_columns, column = first_column + output;
        float value = 0.0f;
        if (column < job.weight.n_out) {
            float z = sum_of_parts(parts[0], row, output, job.weight.segments[0], rows);
            float u = sum_of_parts(parts[1], row, output, job.weight.segments[1], rows);
            float scale = job.row_scales != NULL ? job.row_scales[tile.first_row + row] : 1.0f;
            value = value_of(job, column, __fmul_rn(z, scale), __fmul_rn(u, scale));
        }
        write_value<is_again>(job, tile.first_row + row, column, value);
    }
}

/* Both launches, or the first alone where there are no halves. */
template <class Kernel, class... More>
static inline cudaError_t launch_both(Kernel first, Kernel again, dim3 grid, size_t shared_bytes,
                                      cudaStream_t cuda, const struct glu_job &job, More... more)
{
    cudaError_t error = cudaSuccess;
    if (job.out.halves != NULL)
        error = cudaMemsetAsync(job.out.scales, 0, job.n_rows * sizeof(float), cuda);
    if (error == cudaSuccess)
        error = launch(first, grid, GLU_THREADS, shared_bytes, cuda, job, more...);
    if (error == cudaSuccess && job.out.halves != NULL)
        error = launch(again, grid, GLU_THREADS, shared_bytes, cuda, job, more...);
    return error;
}

#endif
