#include "kernels/cuda/cuda_stream.cuh"

#include <assert.h>

extern "C" {
#include "bench/cuda/gpu_ops.h"
}

#define THREADS 256
#define LOADS 4 /* of a thread under way together */
#define LINE 16 /* bytes */
#define FILL_BLOCKS_MAX 8192

static __global__ void __launch_bounds__(THREADS)
    copy_memory(uint4 *to, const uint4 *from, size_t n_lines)
{
    size_t first = (size_t)blockIdx.x * THREADS * LOADS + threadIdx.x;
    uint4 lines[LOADS];
#pragma unroll
    for (int i = 0; i < LOADS; i++)
        if (first + i * THREADS < n_lines)
            lines[i] = from[first + i * THREADS];
#pragma unroll
    for (int i = 0; i < LOADS; i++)
        if (first + i * THREADS < n_lines)
            to[first + i * THREADS] = lines[i];
}

extern "C" void gpu_copy(struct stream *stream, void *to, const void *from, size_t bytes)
{
    assert(bytes % LINE == 0 && bytes > 0);
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "copy", &cuda))
        return;
    size_t n_lines = bytes / LINE, per_block = THREADS * LOADS;
    cuda_stream_check(stream, "copy",
                      launch(copy_memory, (unsigned)((n_lines + per_block - 1) / per_block),
                             THREADS, 0, cuda, (uint4 *)to, (const uint4 *)from, n_lines));
}

static __global__ void __launch_bounds__(GPU_MMA_THREADS)
    multiply_registers(float *sums, uint32_t n_turns)
{
    uint32_t halves = 0x28002800u + threadIdx.x % 8 * 0x00010001u; /* about 2^-5 */
    uint32_t a[4] = {halves, halves, halves, halves}, b[2] = {halves, halves};
    float acc[GPU_MMA_CHAINS][4] = {};
    for (uint32_t turn = 0; turn < n_turns; turn++) {
#pragma unroll
        for (int i = 0; i < GPU_MMA_CHAINS; i++)
            mma_f16(acc[i], a, b);
    }
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < GPU_MMA_CHAINS; i++)
        sum += acc[i][0] + acc[i][1] + acc[i][2] + acc[i][3];
    sums[(size_t)blockIdx.x * GPU_MMA_THREADS + threadIdx.x] = sum;
}

extern "C" void gpu_mma(struct stream *stream, float *sums, uint32_t n_blocks, uint32_t n_turns)
{
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "mma", &cuda))
        return;
    cuda_stream_check(stream, "mma",
                      launch(multiply_registers, n_blocks, GPU_MMA_THREADS, 0, cuda, sums,
                             n_turns));
}

extern "C" double gpu_mma_ops(uint32_t n_blocks, uint32_t n_turns)
{
    double n_mma = (double)n_blocks * (GPU_MMA_THREADS / WARP_LANES) * GPU_MMA_CHAINS * n_turns;
    return n_mma * 2 * 16 * 8 * 16;
}

/* --- fills --- */

enum fill_kind { FILL_BITS, FILL_HALVES, FILL_BFLOATS, FILL_FLOATS };

/* splitmix64 */
static __device__ __forceinline__ uint64_t mix(uint64_t x)
{
    x *= 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static __device__ __forceinline__ float spread(uint32_t bits, float least, float width)
{
    return fmaf((float)bits * (1.0f / 65536.0f), width, least);
}

/* Two halves, from 16 bits each. */
static __device__ __forceinline__ uint32_t two_halves(uint32_t bits, float least, float width)
{
    __half_raw low = __float2half_rn(spread(bits & 0xffff, least, width));
    __half_raw high = __float2half_rn(spread(bits >> 16, least, width));
    return (uint32_t)low.x | (uint32_t)high.x << 16;
}

template <int kind>
static __device__ __forceinline__ uint32_t word_of(uint32_t bits, float least, float width)
{
    if (kind == FILL_BITS)
        return bits;
    if (kind == FILL_HALVES)
        return two_halves(bits, least, width);
    if (kind == FILL_BFLOATS)
        return (__float_as_uint(spread(bits >> 16, least, width)) & 0xffff0000u) |
               __float_as_uint(spread(bits & 0xffff, least, width)) >> 16;
    return __float_as_uint(spread(bits >> 16, least, width));
}

template <int kind>
static __global__ void __launch_bounds__(THREADS)
    fill_lines(uint4 *to, size_t n_lines, uint64_t seed, float least, float width)
{
    size_t step = (size_t)gridDim.x * THREADS;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < n_lines; i += step) {
        uint64_t first = mix(seed + 2 * i + 1), second = mix(seed + 2 * i + 2);
        uint4 line;
        line.x = word_of<kind>((uint32_t)first, least, width);
        line.y = word_of<kind>((uint32_t)(first >> 32), least, width);
        line.z = word_of<kind>((uint32_t)second, least, width);
        line.w = word_of<kind>((uint32_t)(second >> 32), least, width);
        to[i] = line;
    }
}

template <int kind>
static void fill(struct stream *stream, void *to, size_t bytes, uint64_t seed, float least,
                 float beyond)
{
    assert(bytes % LINE == 0);
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "fill", &cuda) || bytes == 0)
        return;
    size_t n_lines = bytes / LINE, n_blocks = (n_lines + THREADS - 1) / THREADS;
    unsigned grid = (unsigned)(n_blocks < FILL_BLOCKS_MAX ? n_blocks : FILL_BLOCKS_MAX);
    cuda_stream_check(stream, "fill",
                      launch(fill_lines<kind>, grid, THREADS, 0, cuda, (uint4 *)to, n_lines,
                             seed << 32, least, beyond - least));
}

extern "C" void gpu_fill_bits(struct stream *stream, void *to, size_t bytes, uint64_t seed)
{
    fill<FILL_BITS>(stream, to, bytes, seed, 0.0f, 0.0f);
}

extern "C" void gpu_fill_halves(struct stream *stream, void *to, size_t bytes, uint64_t seed,
                                float least, float beyond)
{
    fill<FILL_HALVES>(stream, to, bytes, seed, least, beyond);
}

extern "C" void gpu_fill_bfloats(struct stream *stream, void *to, size_t bytes, uint64_t seed,
                                 float least, float beyond)
{
    fill<FILL_BFLOATS>(stream, to, bytes, seed, least, beyond);
}

extern "C" void gpu_fill_floats(struct stream *stream, void *to, size_t bytes, uint64_t seed,
                                float least, float beyond)
{
    fill<FILL_FLOATS>(stream, to, bytes, seed, least, beyond);
}
