/* kernels/cuda/cuda_linear.cu: y = x W^T by m16n8k16, for every type of weight.
 *
 * A block makes 16 outputs of up to 32 rows. Its eight warps take a part of the inputs each, codes
 * and activations straight from global memory, and the parts are added in order: the same bits for
 * a row whatever the other rows.
 */
#include "kernels/cuda/cuda_stream.cuh"
#include "kernels/cuda/cuda_tile.cuh"

#include <assert.h>

extern "C" {
#include "kernels/cuda/cuda_ops.h"
}

#define THREADS (CUDA_PARTS * WARP_LANES)

struct linear_job {
    struct weight weight;
    struct cuda_act_rows in;
    const float *bias;
    float *y;
    uint32_t n_rows, y_stride;
    enum linear_mode mode;
};

template <int row_tiles>
static __global__ void __launch_bounds__(THREADS, row_tiles == 1 ? 2 : 1)
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
        float sum = sum_of_parts(parts, row, output, *segment, rows);
        uint32_t column = segment->first_out + tile_idx * CUDA_TILE_OUTPUTS + output;
        float *y = job.y + (size_t)(first_row + row) * job.y_stride + column;
        if (job.bias != NULL)
            sum = __fadd_rn(sum, job.bias[column]);
        *y = job.mode == LINEAR_ADD ? __fadd_rn(*y, sum) : sum;
    }
}

extern "C" void cuda_linear(struct stream *stream, const struct linear_args *args)
{
    const struct weight *weight = args->weight;
    assert(weight->fuse != WEIGHT_GATE_UP && args->in.width == weight->n_in);
    assert((args->in.forms & weight->act_forms) == weight->act_forms);
    assert(args->n_rows <= args->in.max_rows && args->y_stride >= weight->n_out);
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "linear", &cuda) || args->n_rows == 0)
        return;
    struct linear_job job = {*weight, cuda_act_rows_of(&args->in), args->bias, args->y,
                             args->n_rows, args->y_stride, args->mode};
    cudaError_t error;
    if (args->n_rows <= 8)
        error = launch(linear_rows<1>, dim3(weight->n_tiles, 1), THREADS, 0, cuda, job);
    else
        error = launch(linear_rows<4>, dim3(weight->n_tiles, (args->n_rows + 31) / 32), THREADS, 0,
                       cuda, job);
    cuda_stream_check(stream, "linear", error);
}
