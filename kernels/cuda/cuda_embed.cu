/* kernels/cuda/cuda_embed.cu: rows of the embedding table, dequantised exactly as the CPU does, and
 * rows picked out of others.
 */
#include "kernels/cuda/cuda_stream.cuh"

#include <assert.h>

extern "C" {
#include "base/status.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_weight.h"
#include "kernels/tensor_type.h"
}

#define THREADS 256

struct embed_run {
    struct cuda_planes table;
    const struct row_input *inputs;
    const struct sample_result *sampled;
    const float *vectors;
    float *x;
    int *error;
};

static __device__ __forceinline__ float float_of(uint16_t bits)
{
    __half_raw raw;
    raw.x = bits;
    return __half2float(__half(raw));
}

/* Value i of one row: codes and scales are the row's. */
static __device__ __forceinline__ float value_of(const struct cuda_planes *table,
                                                 const uint8_t *codes, const uint16_t *scales,
                                                 uint32_t i)
{
    uint32_t block = i / CUDA_BLOCK_VALUES, j = i % CUDA_BLOCK_VALUES;
    if (table->type == TENSOR_F32)
        return reinterpret_cast<const float *>(codes)[i];
    if (table->type == TENSOR_F16)
        return float_of(reinterpret_cast<const uint16_t *>(codes)[i]);
    if (table->type == TENSOR_Q8_0)
        return __fmul_rn(float_of(scales[block]), (float)(int8_t)codes[i]);

    uint32_t byte = codes[block * 16 + j % 16], code = j < 16 ? byte & 15 : byte >> 4;
    if (table->type == TENSOR_Q4_0)
        return __fmul_rn(float_of(scales[block]), (float)((int)code - 8));
    return __fadd_rn(__fmul_rn(float_of(scales[2 * block]), (float)code),
                     float_of(scales[2 * block + 1]));
}

/* STATUS_OK and the row of the table; or what is wrong with the input. */
static __device__ __forceinline__ int table_row(const struct embed_run *run,
                                                const struct row_input *input, uint32_t *row)
{
    *row = input->value;
    if (input->kind == ROW_SAMPLED) {
        if (run->sampled == NULL)
            return STATUS_INTERNAL;
        *row = run->sampled[input->value].id;
    } else if (input->kind != ROW_TOKEN) {
        return STATUS_INTERNAL;
    }
    return *row < run->table.n_out ? STATUS_OK : STATUS_OUT_OF_RANGE;
}

static __global__ void __launch_bounds__(THREADS) embed_rows(struct embed_run run)
{
    const struct cuda_planes *table = &run.table;
    struct row_input input = run.inputs[blockIdx.x];
    float *x = run.x + (size_t)blockIdx.x * table->n_in;
    if (input.kind == ROW_VECTOR && run.vectors != NULL) {
        const float *vector = run.vectors + (size_t)input.value * table->n_in;
        for (uint32_t i = threadIdx.x; i < table->n_in; i += THREADS)
            x[i] = vector[i];
        return;
    }
    uint32_t row;
    int status = table_row(&run, &input, &row);
    if (status != STATUS_OK) {
        if (threadIdx.x == 0)
            cuda_fail(run.error, status);
        return;
    }
    const uint8_t *codes = table->codes + row * table->row_bytes;
    const uint16_t *scales = NULL;
    if (table->n_scales > 0)
        scales = table->scales +
                 (size_t)row * table->n_scales * (table->n_in / CUDA_BLOCK_VALUES);
    for (uint32_t i = threadIdx.x; i < table->n_in; i += THREADS)
        x[i] = value_of(table, codes, scales, i);
}

extern "C" void cuda_embed(struct stream *stream, const struct embed_args *args)
{
    assert(args->table != NULL);
    assert(args->n_rows == 0 || (args->inputs != NULL && args->x != NULL));
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "embed", &cuda) || args->n_rows == 0)
        return;
    struct embed_run run = {cuda_weight_of(args->table)->planes, args->inputs, args->sampled,
                            args->vectors, args->x, cuda_stream_error(stream)};
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
