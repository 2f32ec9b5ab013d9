/* kernels/cuda/cuda_norm.cu: RMS norm, a block a row, the same bits as the CPU's.
 *
 * The sum of squares is 16 chains of fma (lane i % 16, i ascending) and their fold. So one half of
 * warp 0 adds up a tile while the other warps bring the next one; then all scale the row.
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
#define TILE 2048
#define CHAINS 16

/* By the threads from `first` on. */
static __device__ __forceinline__ void bring_tile(float *tile, const float *x, uint32_t begin,
                                                  uint32_t width, uint32_t first)
{
    uint32_t n = min(width - begin, (uint32_t)TILE);
    for (uint32_t i = threadIdx.x - first; i < n; i += THREADS - first)
        tile[i] = x[begin + i];
}

/* 1 / sqrt(mean(x^2) + eps), for lane 0 of warp 0. */
static __device__ __forceinline__ float scale_of(float sum, uint32_t width, float eps)
{
    for (int apart = CHAINS / 2; apart > 0; apart /= 2)
        sum = __fadd_rn(sum, __shfl_down_sync(ALL_LANES, sum, (unsigned)apart));
    float mean = __fdiv_rn(sum, (float)width);
    return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, eps)));
}

static __global__ void __launch_bounds__(THREADS)
    norm_rows(struct norm_args args, struct cuda_act_rows out)
{
    SHARED(float[2][TILE], tiles);
    SHARED(float, row_scale);
    SHARED(uint32_t[WARPS], greatest_of);
    uint32_t row = blockIdx.x, width = args.width;
    const float *x = args.x + (size_t)row * width;

    bring_tile(tiles[0], x, 0, width, 0);
    float sum = 0.0f;
    for (uint32_t begin = 0, now = 0; begin < width; begin += TILE, now ^= 1) {
        __syncthreads(); /* the tile has come; the other one has been read */
        if (warp_idx() > 0) {
            if (begin + TILE < width)
                bring_tile(tiles[now ^ 1], x, begin + TILE, width, WARP_LANES);
        } else if (lane_idx() < CHAINS) {
            uint32_t n = min(width - begin, (uint32_t)TILE);
            for (uint32_t i = lane_idx(); i < n; i += CHAINS)
                sum = fmaf(tiles[now][i], tiles[now][i], sum);
        }
    }
    if (warp_idx() == 0) {
        float scale = scale_of(sum, width, args.eps);
        if (lane_idx() == 0)
            row_scale = scale;
    }
    __syncthreads();

    float scale = row_scale;
    uint32_t greatest = 0;
    for (uint32_t i = threadIdx.x; i < width; i += THREADS) {
        float value = __fmul_rn(__fmul_rn(x[i], scale), args.weight[i]);
        greatest = max(greatest, __float_as_uint(fabsf(value)));
        if (out.floats != NULL)
            out.floats[(size_t)row * width + i] = value;
    }
    if (out.halves == NULL) /* all blocks alike */
        return;
    greatest = __reduce_max_sync(ALL_LANES, greatest);
    if (lane_idx() == 0)
        greatest_of[warp_idx()] = greatest;
    __syncthreads();
    for (uint32_t w = 0; w < WARPS; w++)
        greatest = max(greatest, greatest_of[w]);

    float half_scale = power_of_two(exponent_beyond_f16(greatest));
    if (threadIdx.x == 0)
        out.scales[row] = half_scale;
    for (uint32_t i = threadIdx.x; i < out.stride; i += THREADS) {
        float value = 0.0f;
        if (i < width)
            value = __fmul_rn(__fmul_rn(x[i], scale), args.weight[i]);
        out.halves[(size_t)row * out.stride + i] = half_over(value, half_scale);
    }
}

extern "C" size_t cuda_act_bytes(const struct device *, uint32_t max_rows, uint32_t width,
                                 uint32_t forms)
{
    size_t bytes;
    cuda_act_layout(NULL, max_rows, width, forms, &bytes);
    return bytes;
}

extern "C" void cuda_norm(struct stream *stream, const struct norm_args *args)
{
    assert(args->width > 0);
    assert(args->out.width == args->width && args->n_rows <= args->out.max_rows);
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "norm", &cuda) || args->n_rows == 0)
        return;
    cuda_stream_check(stream, "norm",
                      launch(norm_rows, args->n_rows, THREADS, 0, cuda, *args,
                             cuda_act_rows_of(&args->out)));
}
