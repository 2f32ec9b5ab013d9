/* kernels/cuda/cuda_linear.cu: y = x W^T by m16n8k16, for every type of weight.
 *
 * Few rows: a block makes 16 outputs of up to 32 rows. Its eight warps take a part of the inputs
 * each, codes and activations straight from global memory, and the parts are added in order. Many
 * rows: a block of cuda_prefill.cuh. A row has the same bits from both.
 */
#include "kernels/cuda/cuda_prefill.cuh"
#include "kernels/cuda/cuda_stream.cuh"
#include "kernels/cuda/cuda_tile.cuh"

#include <assert.h>

extern "C" {
#include "kernels/cuda/cuda_ops.h"
}

#define THREADS (CUDA_PARTS * WARP_LANES)
#define FEW_ROWS 32

struct linear_job {
    struct weight weight;
    struct cuda_act_rows in;
    const float *bias;
    float *y;
    uint32_t n_rows, y_stride;
    enum linear_mode mode;
};

/* The end of a chain: + bias, then set or add. */
static __device__ __forceinline__ void store_output(const struct linear_job &job, uint32_t row,
                                                    uint32_t column, float sum)
{
    float *y = job.y + (size_t)row * job.y_stride + column;
    if (job.bias != NULL)
        sum = __fadd_rn(sum, job.bias[column]);
    *y = job.mode == LINEAR_ADD ? __fadd_rn(*y, sum) : sum;
}

template <int row_tiles>
static __global__ void __launch_bounds__(THREADS, row_tiles == 1 ? CUDA_BLOCKS_OF_8_ROWS : 1)
    linear_rows(struct linear_job job)
{
    SHARED(cuda_parts<row_tiles>, parts);
    const struct cuda_segment *segment = job.weight.segments;
    while (blockIdx.x >= segment->first_tile + segment->n_tiles)
        segment++;
    uint32_t tile_idx = blockIdx.x - segment->first_tile;
    uint32_t first_row = blockIdx.y * 8 * row_tiles;
    struct cuda_rows rows = rows_from(job.in, first_row, job.n_rows);

    float acc[row_tiles][4];
    multiply_part<row_tiles>(acc, *segment, tile_idx, job.weight.n_in_tiles, rows, warp_idx());
    store_part(parts, warp_idx(), acc);
    __syncthreads();

    for (uint32_t i = threadIdx.x; i < 8 * row_tiles * CUDA_TILE_OUTPUTS; i += THREADS) {
        uint32_t row = i / CUDA_TILE_OUTPUTS, output = i % CUDA_TILE_OUTPUTS;
        if (row >= rows.n || tile_idx * CUDA_TILE_OUTPUTS + output >= segment->n_out)
            continue;
        store_output(job, first_row + row,
                     segment->first_out + tile_idx * CUDA_TILE_OUTPUTS + output,
                     sum_of_parts(parts, row, output, *segment, rows));
    }
}

template <int type>
static __global__ void __launch_bounds__(PREFILL_THREADS, 1)
    linear_blocks(struct linear_job job, uint32_t segment_idx)
{
    DYNAMIC_SHARED(prefill_ring<type>, ring);
    const struct cuda_segment &segment = job.weight.segments[segment_idx];
    uint32_t first_row = blockIdx.y * PREFILL_ROWS;
    struct cuda_rows rows = rows_from(job.in, first_row, job.n_rows);
    struct prefill_tiles tiles = {&segment, &segment, blockIdx.x * PREFILL_TILES,
                                  job.weight.n_in_tiles};
    float total[2][PREFILL_ROW_TILES][4];
    prefill_chains<type>(total, *ring, tiles, rows);

#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int t = 0; t < PREFILL_ROW_TILES; t++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                uint32_t row = prefill_row(t, j), output = prefill_output(tiles, i, j);
                if (row < rows.n && output < segment.n_out)
                    store_output(job, first_row + row, segment.first_out + output,
                                 __fmul_rn(total[i][t][j], rows.scales[row]));
            }
}

template <int type>
static cudaError_t launch_blocks(const struct linear_job &job, uint32_t segment_idx,
                                 cudaStream_t cuda)
{
    dim3 grid((job.weight.segments[segment_idx].n_tiles + PREFILL_TILES - 1) / PREFILL_TILES,
              (job.n_rows + PREFILL_ROWS - 1) / PREFILL_ROWS);
    cudaError_t error = allow_shared(linear_blocks<type>, sizeof(prefill_ring<type>));
    if (error == cudaSuccess)
        error = launch(linear_blocks<type>, grid, PREFILL_THREADS, sizeof(prefill_ring<type>), cuda,
                       job, segment_idx);
    return error;
}

static cudaError_t launch_segment(const struct linear_job &job, uint32_t segment_idx,
                                  cudaStream_t cuda)
{
    switch (job.weight.segments[segment_idx].type) {
    case TENSOR_F16:
        return launch_blocks<TENSOR_F16>(job, segment_idx, cuda);
    case TENSOR_BF16:
        return launch_blocks<TENSOR_BF16>(job, segment_idx, cuda);
    case TENSOR_Q4_0:
        return launch_blocks<TENSOR_Q4_0>(job, segment_idx, cuda);
    case TENSOR_Q4_1:
        return launch_blocks<TENSOR_Q4_1>(job, segment_idx, cuda);
    case CUDA_PLANE_BYTES:
        return launch_blocks<CUDA_PLANE_BYTES>(job, segment_idx, cuda);
    case CUDA_PLANE_NIBBLES:
        return launch_blocks<CUDA_PLANE_NIBBLES>(job, segment_idx, cuda);
    case CUDA_PLANE_HALVES:
        return launch_blocks<CUDA_PLANE_HALVES>(job, segment_idx, cuda);
    case CUDA_PLANE_SIXTEENS:
        return launch_blocks<CUDA_PLANE_SIXTEENS>(job, segment_idx, cuda);
    default:
        return launch_blocks<TENSOR_Q8_0>(job, segment_idx, cuda);
    }
}

static cudaError_t launch_few(const struct linear_job &job, cudaStream_t cuda)
{
    if (job.n_rows <= 8)
        return launch(linear_rows<1>, dim3(job.weight.n_tiles, 1), THREADS, 0, cuda, job);
    return launch(linear_rows<4>, dim3(job.weight.n_tiles, (job.n_rows + 31) / 32), THREADS, 0,
                  cuda, job);
}

extern "C" void cuda_linear(struct stream *stream, const struct linear_args *args)
{
    const struct weight *weight = args->weight;
    assert(weight->fuse != WEIGHT_GATE_UP && weight->n_experts == 0);
    assert(args->in.width == weight->n_in);
    assert((args->in.forms & weight->act_forms) == weight->act_forms);
    assert(args->n_rows <= args->in.max_rows && args->y_stride >= weight->n_out);
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "linear", &cuda) || args->n_rows == 0)
        return;
    struct linear_job job = {*weight, cuda_act_rows_of(&args->in), args->bias, args->y,
                             args->n_rows, args->y_stride, args->mode};
    if (args->n_rows <= FEW_ROWS || (weight->act_forms & ACT_FLOATS) != 0) {
        cuda_stream_check(stream, "linear", launch_few(job, cuda));
        return;
    }
    for (uint32_t i = 0; i < weight->n_segments; i++)
        cuda_stream_check(stream, "linear", launch_segment(job, i, cuda));
}
