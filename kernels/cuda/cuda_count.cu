/* kernels/cuda/cuda_count.cu: occurrences of tokens for penalties, a thread a row. */
#include "kernels/cuda/cuda_stream.cuh"

#include <assert.h>

extern "C" {
#include "kernels/cuda/cuda_ops.h"
#include "kernels/row_token.h"
}

#define THREADS 256

static __global__ void __launch_bounds__(THREADS) count_rows(struct count_args args, int *error)
{
    uint32_t r = blockIdx.x * THREADS + threadIdx.x;
    if (r >= args.n_rows)
        return;
    struct row_input input = args.inputs[r];
    uint32_t slot = args.slots[r], token;
    if (slot == COUNT_NONE || input.kind == ROW_VECTOR)
        return;
    bool is_output = (slot & COUNT_OUTPUT) != 0;
    slot &= ~COUNT_OUTPUT;
    int status = STATUS_INTERNAL;
    if (slot < args.n_slots)
        status = row_token(&input, args.sampled, args.vocabulary, &token);
    if (status != STATUS_OK) {
        cuda_fail(error, status);
        return;
    }
    uint32_t *place = &args.counts[(size_t)slot * args.vocabulary + token];
    if (is_output) /* rows of a slot may name one token */
        atomicAdd(place, 2u);
    else
        atomicOr(place, 1u);
}

extern "C" void cuda_count(struct stream *stream, const struct count_args *args)
{
    assert(args->counts != NULL);
    assert(args->n_rows == 0 || (args->inputs != NULL && args->slots != NULL));
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "count", &cuda) || args->n_rows == 0)
        return;
    uint32_t n_blocks = (args->n_rows + THREADS - 1) / THREADS;
    cuda_stream_check(stream, "count",
                      launch(count_rows, n_blocks, THREADS, 0, cuda, *args,
                             cuda_stream_error(stream)));
}

extern "C" void cuda_count_zero(struct stream *stream, const struct count_zero_args *args)
{
    assert(args->counts != NULL);
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "count_zero", &cuda))
        return;
    uint32_t *counts = args->counts + (size_t)args->slot * args->vocabulary;
    cuda_stream_check(stream, "count_zero",
                      cudaMemsetAsync(counts, 0, args->vocabulary * sizeof *counts, cuda));
}

extern "C" void cuda_count_copy(struct stream *stream, const struct count_copy_args *args)
{
    assert(args->counts != NULL && args->from != args->to);
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "count_copy", &cuda))
        return;
    const uint32_t *from = args->counts + (size_t)args->from * args->vocabulary;
    uint32_t *to = args->counts + (size_t)args->to * args->vocabulary;
    cuda_stream_check(stream, "count_copy",
                      cudaMemcpyAsync(to, from, args->vocabulary * sizeof *to,
                                      cudaMemcpyDeviceToDevice, cuda));
}
