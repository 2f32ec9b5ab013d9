/* kernels/cuda/cuda_embed.cu: rows of the embedding table, dequantised exactly as the CPU does, and
 * rows picked out of others.
 */
#include "kernels/cuda/cuda_stream.cuh"
#include "kernels/cuda/cuda_tile.cuh"

#include <assert.h>

extern "C" {
#include "kernels/cuda/cuda_ops.h"
#include "kernels/row_token.h"
}

#define THREADS 256

struct embed_run {
    struct cuda_segment table;
    uint32_t n_in, n_in_tiles;
    const struct row_input *inputs;
    const struct sample_result *sampled;
    const float *vectors;
    float *x;
    int *error;
};

static __device__ __forceinline__ uint32_t load16(const uint8_t *from)
{
    return *reinterpret_cast<const uint16_t *>(from);
}

/* The code of one input of a tile, as a number; of F16 and BF16 the value. */
static __device__ __forceinline__ float code_of(uint32_t type, const uint8_t *tile, uint32_t output,
                                                uint32_t input)
{
    struct cuda_quad at = cuda_quad_of(type, output, input);
    uint32_t reg = at.upper + input % 4 / 2 * 2, second = input % 2;
    const uint8_t *lane = tile + at.lane * CUDA_LANE_BYTES;
    if (type == TENSOR_F16 || type == TENSOR_BF16) {
        uint32_t bits = load16(lane + at.step * CUDA_LOAD_BYTES + reg * 4 + second * 2);
        return type == TENSOR_F16 ? float_of_half(bits) : __uint_as_float(bits << 16);
    }
    if (cuda_tile_bytes(type) == CUDA_TILE_OUTPUTS * CUDA_TILE_INPUTS) {
        lane += at.step / 2 * CUDA_LOAD_BYTES + at.step % 2 * 8;
        return (float)((int)lane[reg * 2 + second] - 128);
    }
    uint32_t word = *reinterpret_cast<const uint32_t *>(lane + at.step * 4);
    int code = (int)(word >> 4 * (reg + 4 * second) & 15);
    return (float)(type == TENSOR_Q4_0 ? code - 8 : code);
}

static __device__ __forceinline__ float value_of(const struct embed_run *run, uint32_t row,
                                                 uint32_t i)
{
    const struct cuda_segment *table = &run->table;
    uint32_t type = table->type, output = row % CUDA_TILE_OUTPUTS, input = i % CUDA_TILE_INPUTS;
    size_t tile_idx = (size_t)(row / CUDA_TILE_OUTPUTS) * run->n_in_tiles + i / CUDA_TILE_INPUTS;
    const uint8_t *tile = table->codes + tile_idx * cuda_tile_bytes(type);
    if (type == TENSOR_F32)
        return reinterpret_cast<const float *>(
            tile)[(input / 4 * CUDA_TILE_OUTPUTS + output) * 4 + input % 4];
    float code = code_of(type, tile, output, input);
    if (type == TENSOR_F16 || type == TENSOR_BF16)
        return code;

    const uint8_t *scales = table->scales + tile_idx * cuda_tile_scale_bytes(type);
    uint32_t scale_idx = cuda_scale_idx(output, input / CUDA_GROUP_INPUTS);
    const float *floats = reinterpret_cast<const float *>(scales);
    uint32_t half = input % CUDA_GROUP_INPUTS / 16;
    switch (type) {
    case CUDA_PLANE_BYTES:
        return __fmul_rn(floats[scale_idx], code);
    case CUDA_PLANE_NIBBLES:
        return __fadd_rn(__fmul_rn(floats[2 * scale_idx], code), floats[2 * scale_idx + 1]);
    case CUDA_PLANE_SIXTEENS: {
        uint32_t word = reinterpret_cast<const uint32_t *>(scales)[scale_idx];
        return __fmul_rn(scale_of_16(word, half), code);
    }
    case CUDA_PLANE_HALVES:
        return __fadd_rn(__fmul_rn(floats[4 * scale_idx + half], code),
                         floats[4 * scale_idx + 2 + half]);
    case TENSOR_Q4_1:
        return __fadd_rn(__fmul_rn(float_of_half(load16(scales + 4 * scale_idx)), code),
                         float_of_half(load16(scales + 4 * scale_idx + 2)));
    default:
        return __fmul_rn(float_of_half(load16(scales + 2 * scale_idx)), code);
    }
}

static __global__ void __launch_bounds__(THREADS) embed_rows(struct embed_run run)
{
    struct row_input input = run.inputs[blockIdx.x];
    float *x = run.x + (size_t)blockIdx.x * run.n_in;
    if (input.kind == ROW_VECTOR && run.vectors != NULL) {
        const float *vector = run.vectors + (size_t)input.value * run.n_in;
        for (uint32_t i = threadIdx.x; i < run.n_in; i += THREADS)
            x[i] = vector[i];
        return;
    }
    uint32_t row;
    int status = row_token(&input, run.sampled, run.table.n_out, &row);
    if (status != STATUS_OK) {
        if (threadIdx.x == 0)
            cuda_fail(run.error, status);
        return;
    }
    for (uint32_t i = threadIdx.x; i < run.n_in; i += THREADS)
        x[i] = value_of(&run, row, i);
}

extern "C" void cuda_embed(struct stream *stream, const struct embed_args *args)
{
    assert(args->table != NULL && args->table->fuse == WEIGHT_PLAIN);
    assert(args->n_rows == 0 || (args->inputs != NULL && args->x != NULL));
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "embed", &cuda) || args->n_rows == 0)
        return;
    struct embed_run run = {args->table->segments[0], args->table->n_in, args->table->n_in_tiles,
                            args->inputs, args->sampled, args->vectors, args->x,
                            cuda_stream_error(stream)};
    cuda_stream_check(stream, "embed", launch(embed_rows, args->n_rows, THREADS, 0, cuda, run));
}

static __global__ void __launch_bounds__(THREADS) gather_rows(struct gather_args args)
{
    const float *x = args.x + (size_t)args.rows[blockIdx.x] * args.width;
    float *y = args.y + (size_t)blockIdx.x * args.width;
    for (uint32_t i = threadIdx.x; i < args.width; i += THREADS)
        y[i] = x[i];
}

extern "C" void cuda_gather(struct stream *stream, const struct gather_args *args)
{
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "gather", &cuda) || args->n == 0)
        return;
    cuda_stream_check(stream, "gather", launch(gather_rows, args->n, THREADS, 0, cuda, *args));
}
