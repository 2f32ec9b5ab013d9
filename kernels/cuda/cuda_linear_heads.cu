/* kernels/cuda/cuda_linear_heads.cu: a matrix for each head, to the bit what cuda_linear.cu gives
 * with the head's matrix alone: few rows tile by tile, many in blocks of cuda_prefill.cuh.
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

struct heads_job {
    struct weight weight;
    struct cuda_act_rows in;
    float *y;
    uint32_t n_rows, y_stride, y_head_stride;
};

struct tails_job { /* what passes behind the outputs of each head */
    const float *from;
    float *y;
    uint32_t n, n_heads;
    uint32_t from_stride, from_head_stride, y_stride, y_head_stride;
};

/* Rows from first_row on, the part of them that the head of this block reads. */
static __device__ __forceinline__ struct cuda_rows rows_of_head(const struct heads_job &job,
                                                                uint32_t head, uint32_t first_row)
{
    uint32_t n_in = job.weight.n_in;
    return part_of_rows(rows_from(job.in, first_row, job.n_rows), head * n_in, n_in);
}

static __device__ __forceinline__ float *output_of(const struct heads_job &job, uint32_t row,
                                                   uint32_t head, uint32_t output)
{
    return job.y + (size_t)row * job.y_stride + (size_t)head * job.y_head_stride + output;
}

/* Tile blockIdx.x of head blockIdx.y. */
template <int row_tiles>
static __global__ void __launch_bounds__(THREADS, row_tiles == 1 ? CUDA_BLOCKS_OF_8_ROWS : 1)
    heads_rows(struct heads_job job)
{
    SHARED(cuda_parts<row_tiles>, parts);
    uint32_t head = blockIdx.y, first_row = blockIdx.z * 8 * row_tiles;
    struct cuda_segment segment = cuda_segment_of_expert(&job.weight, 0, head);
    struct cuda_rows rows = rows_of_head(job, head, first_row);
    float acc[row_tiles][4];
    multiply_part<row_tiles>(acc, segment, blockIdx.x, job.weight.n_in_tiles, rows, warp_idx());
    store_part(parts, warp_idx(), acc);
    __syncthreads();

    for (uint32_t i = threadIdx.x; i < 8 * row_tiles * CUDA_TILE_OUTPUTS; i += THREADS) {
        uint32_t row = i / CUDA_TILE_OUTPUTS, in_tile = i % CUDA_TILE_OUTPUTS;
        uint32_t output = blockIdx.x * CUDA_TILE_OUTPUTS + in_tile;
        if (row < rows.n && output < segment.n_out)
            *output_of(job, first_row + row, head, output) =
                sum_of_parts(parts, row, in_tile, segment, rows);
    }
}

/* Tiles blockIdx.x * 8 and the next of head blockIdx.z. */
template <int type>
static __global__ void __launch_bounds__(PREFILL_THREADS, 1) heads_blocks(struct heads_job job)
{
    DYNAMIC_SHARED(prefill_ring<type>, ring);
    uint32_t head = blockIdx.z, first_row = blockIdx.y * PREFILL_ROWS;
    struct cuda_segment segment = cuda_segment_of_expert(&job.weight, 0, head);
    struct cuda_rows rows = rows_of_head(job, head, first_row);
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
                    *output_of(job, first_row + row, head, output) =
                        __fmul_rn(total[i][t][j], rows.scales[row]);
            }
}

/* Row blockIdx.x. */
static __global__ void __launch_bounds__(THREADS) put_tails(struct tails_job job)
{
    const float *from = job.from + (size_t)blockIdx.x * job.from_stride;
    float *y = job.y + (size_t)blockIdx.x * job.y_stride;
    for (uint32_t i = threadIdx.x; i < job.n * job.n_heads; i += THREADS)
        y[(size_t)(i / job.n) * job.y_head_stride + i % job.n] =
            from[(size_t)(i / job.n) * job.from_head_stride + i % job.n];
}

template <int type>
static cudaError_t launch_blocks(const struct heads_job &job, cudaStream_t cuda)
{
    dim3 grid((job.weight.n_tiles + PREFILL_TILES - 1) / PREFILL_TILES,
              (job.n_rows + PREFILL_ROWS - 1) / PREFILL_ROWS, job.weight.n_experts);
    cudaError_t error = allow_shared(heads_blocks<type>, sizeof(prefill_ring<type>));
    if (error == cudaSuccess)
        error = launch(heads_blocks<type>, grid, PREFILL_THREADS, sizeof(prefill_ring<type>), cuda,
                       job);
    return error;
}

static cudaError_t launch_heads(const struct heads_job &job, cudaStream_t cuda)
{
    uint32_t n_tiles = job.weight.n_tiles, n_heads = job.weight.n_experts;
    if (job.n_rows <= 8)
        return launch(heads_rows<1>, dim3(n_tiles, n_heads, 1), THREADS, 0, cuda, job);
    if (job.n_rows <= FEW_ROWS || job.weight.segments[0].type == TENSOR_F32)
        return launch(heads_rows<4>, dim3(n_tiles, n_heads, (job.n_rows + 31) / 32), THREADS, 0,
                      cuda, job);
    switch (job.weight.segments[0].type) {
    case TENSOR_F16:
        return launch_blocks<TENSOR_F16>(job, cuda);
    case TENSOR_BF16:
        return launch_blocks<TENSOR_BF16>(job, cuda);
    case TENSOR_Q4_0:
        return launch_blocks<TENSOR_Q4_0>(job, cuda);
    case TENSOR_Q4_1:
        return launch_blocks<TENSOR_Q4_1>(job, cuda);
    case CUDA_PLANE_BYTES:
        return launch_blocks<CUDA_PLANE_BYTES>(job, cuda);
    case CUDA_PLANE_NIBBLES:
        return launch_blocks<CUDA_PLANE_NIBBLES>(job, cuda);
    case CUDA_PLANE_HALVES:
        return launch_blocks<CUDA_PLANE_HALVES>(job, cuda);
    case CUDA_PLANE_SIXTEENS:
        return launch_blocks<CUDA_PLANE_SIXTEENS>(job, cuda);
    default:
        return launch_blocks<TENSOR_Q8_0>(job, cuda);
    }
}

extern "C" void cuda_linear_heads(struct stream *stream, const struct linear_heads_args *args)
{
    const struct weight *weight = args->weight;
    uint32_t n_heads = weight->n_experts;
    assert(weight->fuse == WEIGHT_HEADS && args->in.width == n_heads * weight->n_in);
    assert((args->in.forms & weight->act_forms) == weight->act_forms);
    assert(args->n_rows <= args->in.max_rows && (args->n_tail == 0 || args->tail != NULL));
    assert(args->y_head_stride >= weight->n_out + args->n_tail);
    assert((uint64_t)args->y_head_stride * (n_heads - 1) + weight->n_out + args->n_tail <=
           args->y_stride);
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "linear_heads", &cuda) || args->n_rows == 0)
        return;
    struct heads_job job = {*weight,      cuda_act_rows_of(&args->in), args->y,
                            args->n_rows, args->y_stride,              args->y_head_stride};
    struct tails_job tails = {args->tail,        args->y + weight->n_out,
                              args->n_tail,      n_heads,
                              args->tail_stride, args->tail_head_stride,
                              args->y_stride,    args->y_head_stride};
    cudaError_t error = launch_heads(job, cuda);
    if (error == cudaSuccess && args->n_tail > 0)
        error = launch(put_tails, args->n_rows, THREADS, 0, cuda, tails);
    cuda_stream_check(stream, "linear_heads", error);
}
