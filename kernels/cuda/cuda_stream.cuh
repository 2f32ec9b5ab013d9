/* kernels/cuda/cuda_stream.cuh: a stream as launchers and graphs see it.
 *
 *   cudaStream_t cuda;
 *   if (!cuda_stream_begin(stream, "norm", &cuda)) return;
 *   cuda_stream_check(stream, "norm", launch(kernel, grid, block, 0, cuda, ...));
 *
 * While a graph is made, ops go into it: they count as nothing, and the first error is the graph's
 * alone.
 */
#ifndef QUIRE_KERNELS_CUDA_STREAM_CUH
#define QUIRE_KERNELS_CUDA_STREAM_CUH

#include "kernels/cuda/platform.cuh"

extern "C" {
#include "kernels/cuda/cuda_device.h"
}

/* Counts the op. False when an error sticks to the stream: nothing may be enqueued. */
bool cuda_stream_begin(struct stream *stream, const char *op, cudaStream_t *out);
/* The first error sticks and is logged with its op. */
void cuda_stream_check(struct stream *stream, const char *op, cudaError_t error);
/* Where kernels put the first status that goes wrong, by cuda_fail. */
int *cuda_stream_error(struct stream *stream);
cudaStream_t cuda_stream_handle(const struct stream *stream);
int cuda_status_of(cudaError_t error); /* STATUS_NO_MEMORY, STATUS_UNAVAILABLE, or STATUS_OK */

/* The sticky error of the stream, STATUS_UNAVAILABLE. */
int cuda_stream_begin_capture(struct stream *stream, struct why *why);
/* The caller destroys *out, which is NULL unless it gives STATUS_OK: else the first error since the
 * begin. Gives back a stream that enqueues as before. */
int cuda_stream_end_capture(struct stream *stream, cudaGraph_t *out, struct why *why);

static __device__ __forceinline__ void cuda_fail(int *error, int status)
{
    atomicCAS(error, 0, status);
}

#endif
