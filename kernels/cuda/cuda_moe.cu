/* kernels/cuda/cuda_moe.cu: experts. Rows are brought together by expert (cuda_moe_sort.cu); gate,
 * up and down are multiplied as linear_glu and linear multiply few rows, tile by tile of one
 * expert's rows; then each row adds up its slots.
 */
#include "kernels/cuda/cuda_glu.cuh"
#include "kernels/cuda/cuda_moe.cuh"

#include <assert.h>

extern "C" {
#include "kernels/cuda/cuda_ops.h"
}

#define THREADS 256

struct moe_job {
    struct moe_space space;
    struct cuda_act_rows rows; /* of the step, by row */
    const float *weights;      /* [pairs], to scale the rows by; or NULL */
    uint32_t n_used;
};

struct down_job {
    struct weight weight;
    struct moe_space space;
};

struct sum_job {
    const float *results, *weights; /* weights NULL: all 1 */
    float *y;
    uint32_t n_rows, n_used, width, y_stride;
    enum linear_mode mode;
};

/* Copies the row of position blockIdx.x. */
static __global__ void __launch_bounds__(THREADS) bring_rows(struct moe_job job)
{
    uint32_t position = blockIdx.x;
    if (position >= job.space.counts->n_positions)
        return;
    uint32_t pair = job.space.order[position], row = pair / job.n_used;
    const struct cuda_act_rows &from = job.rows, &to = job.space.in;
    if (to.halves != NULL) {
        const uint4 *source = (const uint4 *)(from.halves + (size_t)row * from.stride);
        uint4 *target = (uint4 *)(to.halves + (size_t)position * to.stride);
        for (uint32_t i = threadIdx.x; i < to.stride / 8; i += THREADS)
            target[i] = source[i];
    }
    if (to.floats != NULL)
        for (uint32_t i = threadIdx.x; i < to.width; i += THREADS)
            to.floats[(size_t)position * to.width + i] = from.floats[(size_t)row * to.width + i];
    if (threadIdx.x == 0 && to.scales != NULL)
        to.scales[position] = from.scales[row];
    if (threadIdx.x == 0 && job.weights != NULL)
        job.space.row_scales[position] = job.weights[pair];
}

/* Registers for three blocks do not suffice for the launch again, which rarely has work. */
template <int row_tiles, bool is_again>
static __global__ void __launch_bounds__(GLU_THREADS, row_tiles > 1 ? 1
                                                      : is_again    ? 2
                                                                    : CUDA_BLOCKS_OF_8_ROWS)
    moe_glu(struct glu_job job, struct moe_space space)
{
    SHARED(cuda_parts<row_tiles>[2], parts);
    if (blockIdx.y >= space.counts->n_tiles) /* all threads alike */
        return;
    struct moe_tile tile = space.tiles[blockIdx.y];
    glu_of_tile<row_tiles, is_again>(job, glu_tile{tile.expert, tile.first, tile.end}, parts);
}

/* Each row's outputs go to the place of its pair. */
template <int row_tiles>
static __global__ void __launch_bounds__(GLU_THREADS, row_tiles == 1 ? CUDA_BLOCKS_OF_8_ROWS : 1)
    moe_down(struct down_job job)
{
    SHARED(cuda_parts<row_tiles>, parts);
    if (blockIdx.y >= job.space.counts->n_tiles) /* all threads alike */
        return;
    struct moe_tile tile = job.space.tiles[blockIdx.y];
    struct cuda_segment segment = cuda_segment_of_expert(&job.weight, 0, tile.expert);
    struct cuda_rows rows = rows_from(job.space.gated, tile.first, tile.end);
    float acc[row_tiles][4];
    multiply_part<row_tiles>(acc, segment, blockIdx.x, job.weight.n_in_tiles, rows, warp_idx());
    store_part(parts, warp_idx(), acc);
    __syncthreads();

    for (uint32_t i = threadIdx.x; i < rows.n * CUDA_TILE_OUTPUTS; i += GLU_THREADS) {
        uint32_t row = i / CUDA_TILE_OUTPUTS, output = i % CUDA_TILE_OUTPUTS;
        uint32_t column = blockIdx.x * CUDA_TILE_OUTPUTS + output;
        if (column < segment.n_out)
            job.space.results[(size_t)job.space.order[tile.first + row] * segment.n_out + column] =
                sum_of_parts(parts, row, output, segment, rows);
    }
}

static __global__ void __launch_bounds__(THREADS) sum_slots(struct sum_job job)
{
    uint32_t column = blockIdx.x * THREADS + threadIdx.x, row = blockIdx.y;
    if (column >= job.width)
        return;
    float sum = 0.0f;
    for (uint32_t slot = 0; slot < job.n_used; slot++) {
        size_t pair = (size_t)row * job.n_used + slot;
        float weight = job.weights != NULL ? job.weights[pair] : 1.0f;
        sum = __fadd_rn(sum, __fmul_rn(weight, job.results[pair * job.width + column]));
    }
    float *y = job.y + (size_t)row * job.y_stride + column;
    *y = job.mode == LINEAR_ADD ? __fadd_rn(*y, sum) : sum;
}

template <int row_tiles>
static cudaError_t launch_products(const struct moe_args *args, const struct moe_space &space,
                                   cudaStream_t cuda)
{
    uint32_t n_pairs = args->n_rows * args->n_used;
    uint32_t n_tiles = moe_tiles_max(n_pairs, args->gate_up->n_experts, 8 * row_tiles);
    const float *row_scales = args->scales_input ? space.row_scales : NULL;
    struct glu_job glu = {*args->gate_up, space.in, space.gated, NULL, NULL, row_scales, n_pairs};
    struct down_job down = {*args->down, space};
    cudaError_t error =
        launch_both(moe_glu<row_tiles, false>, moe_glu<row_tiles, true>,
                    dim3(args->gate_up->segments[0].n_tiles, n_tiles), 0, cuda, glu, space);
    if (error == cudaSuccess)
        error = launch(moe_down<row_tiles>, dim3(args->down->n_tiles, n_tiles), GLU_THREADS, 0,
                       cuda, down);
    return error;
}

static cudaError_t launch_moe(struct stream *stream, const struct moe_args *args, cudaStream_t cuda)
{
    size_t bytes;
    uint32_t n_pairs = args->n_rows * args->n_used, width = args->down->n_out;
    struct moe_space space = moe_space_of(args->workspace, args->gate_up, args->down,
                                          args->in.max_rows, args->n_used, &bytes);
    struct moe_sort sort = {space, args->experts, n_pairs, args->gate_up->n_experts,
                            moe_tile_rows(args->n_rows), cuda_stream_error(stream)};
    struct moe_job job = {space, cuda_act_rows_of(&args->in),
                          args->scales_input ? args->weights : NULL, args->n_used};
    struct sum_job sum = {space.results, args->scales_input ? NULL : args->weights, args->y,
                          args->n_rows, args->n_used, width, args->y_stride, args->mode};
    cudaError_t error = cuda_moe_sort(sort, cuda);
    if (error == cudaSuccess)
        error = launch(bring_rows, n_pairs, THREADS, 0, cuda, job);
    if (error == cudaSuccess)
        error = moe_tile_rows(args->n_rows) == 8 ? launch_products<1>(args, space, cuda)
                                                 : launch_products<4>(args, space, cuda);
    if (error == cudaSuccess)
        error = launch(sum_slots, dim3((width + THREADS - 1) / THREADS, args->n_rows), THREADS, 0,
                       cuda, sum);
    return error;
}

extern "C" size_t cuda_moe_workspace_bytes(const struct device *device,
                                           const struct weight *gate_up, const struct weight *down,
                                           uint32_t max_rows, uint32_t n_used)
{
    (void)device;
    size_t bytes;
    moe_space_of(NULL, gate_up, down, max_rows, n_used, &bytes);
    return bytes;
}

extern "C" void cuda_moe(struct stream *stream, const struct moe_args *args)
{
    const struct weight *gate_up = args->gate_up, *down = args->down;
    assert(gate_up->fuse == WEIGHT_EXPERTS_GATE_UP && down->fuse == WEIGHT_EXPERTS);
    assert(gate_up->n_experts == down->n_experts && gate_up->n_out == down->n_in);
    assert(args->in.width == gate_up->n_in && args->n_rows <= args->in.max_rows);
    assert((args->in.forms & gate_up->act_forms) == gate_up->act_forms);
    assert(args->y_stride >= down->n_out && args->n_used >= 1);
    assert(args->workspace_bytes >= cuda_moe_workspace_bytes(stream->device, gate_up, down,
                                                             args->in.max_rows, args->n_used));
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "moe", &cuda) || args->n_rows == 0)
        return;
    cuda_stream_check(stream, "moe", launch_moe(stream, args, cuda));
}
