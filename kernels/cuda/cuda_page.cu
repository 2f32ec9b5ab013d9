/* kernels/cuda/cuda_page.cu: whole pages, cleared or copied 16 bytes a lane. */
#include "kernels/cuda/cuda_stream.cuh"

#include <assert.h>

extern "C" {
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_page.h"
}

#define THREADS 256
#define LINES_PER_THREAD 4
#define LINE 16 /* bytes */

static __global__ void __launch_bounds__(THREADS)
    zero_lines(uint8_t *base, size_t page_stride, const page_id *pages)
{
    uint4 *page = (uint4 *)(base + (size_t)pages[blockIdx.x] * page_stride);
    const uint4 zeros = {0, 0, 0, 0};
    size_t n = page_stride / LINE;
    for (size_t i = (size_t)blockIdx.y * THREADS + threadIdx.x; i < n;
         i += (size_t)gridDim.y * THREADS)
        page[i] = zeros;
}

static __global__ void __launch_bounds__(THREADS)
    copy_lines(uint8_t *base, size_t page_stride, const page_id *from, const page_id *to)
{
    const uint4 *source = (const uint4 *)(base + (size_t)from[blockIdx.x] * page_stride);
    uint4 *target = (uint4 *)(base + (size_t)to[blockIdx.x] * page_stride);
    size_t n = page_stride / LINE;
    for (size_t i = (size_t)blockIdx.y * THREADS + threadIdx.x; i < n;
         i += (size_t)gridDim.y * THREADS)
        target[i] = source[i];
}

/* A page an x, its parts along y; the parts follow from the page's size alone. */
static dim3 grid_of(uint32_t n_pages, size_t page_stride)
{
    assert(page_stride % LINE == 0);
    size_t per_block = (size_t)THREADS * LINES_PER_THREAD * LINE;
    size_t n_parts = (page_stride + per_block - 1) / per_block;
    return dim3(n_pages, (unsigned)(n_parts < 256 ? n_parts : 256));
}

extern "C" size_t cuda_page_layer_bytes(const struct kv_shape *shape, enum kv_dtype dtype)
{
    return cuda_page_bytes(shape, dtype);
}

extern "C" void cuda_page_zero(struct stream *stream, const struct page_zero_args *args)
{
    assert(args->base != NULL && (args->n == 0 || args->pages != NULL));
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "page_zero", &cuda) || args->n == 0)
        return;
    cuda_stream_check(stream, "page_zero",
                      launch(zero_lines, grid_of(args->n, args->page_stride), THREADS, 0, cuda,
                             args->base, args->page_stride, args->pages));
}

extern "C" void cuda_page_copy(struct stream *stream, const struct page_copy_args *args)
{
    assert(args->base != NULL && (args->n == 0 || (args->from != NULL && args->to != NULL)));
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "page_copy", &cuda) || args->n == 0)
        return;
    cuda_stream_check(stream, "page_copy",
                      launch(copy_lines, grid_of(args->n, args->page_stride), THREADS, 0, cuda,
                             args->base, args->page_stride, args->from, args->to));
}
