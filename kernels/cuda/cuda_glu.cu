/* kernels/cuda/cuda_glu.cu: silu(gate) * up into a panel; gate and up are summed as linear sums
 * them, by few rows or by many. Of many rows a warp's two tiles are those of gate and up.
 */
#include "kernels/cuda/cuda_glu.cuh"
#include "kernels/cuda/cuda_prefill.cuh"
#include "kernels/cuda/cuda_stream.cuh"

#include <assert.h>

extern "C" {
#include "kernels/cuda/cuda_ops.h"
}

#define THREADS GLU_THREADS
#define FEW_ROWS 32
#define PREFILL_PAIRS (PREFILL_TILES / 2)

static_assert(THREADS == PREFILL_THREADS, "both kinds of blocks are launched alike");

template <int row_tiles, bool is_again>
static __global__ void __launch_bounds__(THREADS, row_tiles == 1 ? CUDA_BLOCKS_OF_8_ROWS : 1)
    glu_rows(struct glu_job job)
{
    SHARED(cuda_parts<row_tiles>[2], parts);
    struct glu_tile tile = {0, blockIdx.y * 8 * row_tiles, job.n_rows};
    glu_of_tile<row_tiles, is_again>(job, tile, parts);
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

template <int row_tiles>
static cudaError_t launch_few(const struct glu_job &job, cudaStream_t cuda)
{
    dim3 grid(job.weight.segments[0].n_tiles, (job.n_rows + 8 * row_tiles - 1) / (8 * row_tiles));
    return launch_both(glu_rows<row_tiles, false>, glu_rows<row_tiles, true>, grid, 0, cuda, job);
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
                            cuda, job);
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
                          args->gate_bias, args->up_bias, NULL, args->n_rows};
    cuda_stream_check(stream, "linear_glu", launch_glu(job, cuda));
}
