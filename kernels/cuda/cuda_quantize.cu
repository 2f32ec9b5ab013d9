/* kernels/cuda/cuda_quantize.cu: values of heads into a panel, a block a row: as f32, and as f16
 * under a power of two where f16 does not hold the row.
 */
#include "kernels/cuda/cuda_half.cuh"
#include "kernels/cuda/cuda_stream.cuh"

#include <assert.h>

extern "C" {
#include "kernels/cuda/cuda_act.h"
#include "kernels/cuda/cuda_ops.h"
}

#define THREADS 256
#define WARPS (THREADS / WARP_LANES)

static __device__ __forceinline__ float value_at(const struct quantize_args &args, const float *x,
                                                 uint32_t i)
{
    return x[(size_t)(i / args.n) * args.head_stride + i % args.n];
}

static __global__ void __launch_bounds__(THREADS)
    quantize_rows(struct quantize_args args, struct cuda_act_rows out)
{
    SHARED(uint32_t[WARPS], greatest_of);
    uint32_t row = blockIdx.x, greatest = 0;
    const float *x = args.x + (size_t)row * args.x_stride;
    for (uint32_t i = threadIdx.x; i < out.width; i += THREADS) {
        float value = value_at(args, x, i);
        greatest = max(greatest, __float_as_uint(fabsf(value)));
        if (out.floats != NULL)
            out.floats[(size_t)row * out.width + i] = value;
    }
    if (out.halves == NULL) /* all blocks alike */
        return;
    greatest = __reduce_max_sync(ALL_LANES, greatest);
    if (lane_idx() == 0)
        greatest_of[warp_idx()] = greatest;
    __syncthreads();
    for (uint32_t w = 0; w < WARPS; w++)
        greatest = max(greatest, greatest_of[w]);

    float scale = power_of_two(exponent_beyond_f16(greatest));
    if (threadIdx.x == 0)
        out.scales[row] = scale;
    for (uint32_t i = threadIdx.x; i < out.stride; i += THREADS) {
        float value = i < out.width ? value_at(args, x, i) : 0.0f;
        out.halves[(size_t)row * out.stride + i] = half_over(value, scale);
    }
}

extern "C" void cuda_quantize(struct stream *stream, const struct quantize_args *args)
{
    assert(args->out.width == args->n_heads * args->n && args->n_rows <= args->out.max_rows);
    assert(args->out.width > 0 && (args->n_heads == 1 || args->head_stride >= args->n));
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "quantize", &cuda) || args->n_rows == 0)
        return;
    cuda_stream_check(stream, "quantize",
                      launch(quantize_rows, args->n_rows, THREADS, 0, cuda, *args,
                             cuda_act_rows_of(&args->out)));
}
