/* kernels/cuda/platform.cuh: the CUDA that Quire's kernels are written in. Each .cu includes this
 * first and no CUDA header beside it.
 *
 *   nvcc          CUDA C++, and the instructions of platform_ptx.cuh
 *   g++, clang++  the same names, executed on the CPU (tests/cuda_on_cpu)
 *
 * What a kernel may use beyond plain C++:
 *   SHARED(float[32], sums);        a variable of the block; static, at most 48 KiB together
 *   DYNAMIC_SHARED(struct tile, t); a pointer to the launch's dynamic memory, at a multiple of 128
 *   launch(kernel<128>, grid, block, shared_bytes, stream, arguments...)
 *   allow_shared(kernel<128>, bytes)   before launches with more than 48 KiB
 *   QUIRE_SM                        80, 90, 100 or 120: the chip that this pass compiles for
 *   threadIdx and its kin, __syncthreads, __syncwarp, shuffles, votes, __reduce_*_sync, atomics of
 *   integers, __threadfence, and the functions of platform_ptx.cuh
 * Blocks are whole warps. A thread returns before a barrier only if its whole block does. Lanes
 * that exchange through memory stand at __syncwarp between.
 */
#ifndef QUIRE_KERNELS_CUDA_PLATFORM_CUH
#define QUIRE_KERNELS_CUDA_PLATFORM_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>
#include <vector_types.h>

#define WARP_LANES 32
#define ALL_LANES 0xffffffffu

#if defined(__CUDACC__)
#include "kernels/cuda/platform_nvcc.cuh"
#include "kernels/cuda/platform_ptx.cuh"
#else
#include <platform_emulation.cuh> /* where the build finds it */
#endif

/* Lets launches of this kernel have up to so many bytes of dynamic shared memory. */
template <class... P> static inline cudaError_t allow_shared(void (*kernel)(P...), size_t bytes)
{
    return cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                (int)bytes);
}

/* The lane's place in its warp; blocks are one-dimensional wherever this is used. */
static __device__ __forceinline__ uint32_t lane_idx(void)
{
    return threadIdx.x % WARP_LANES;
}

static __device__ __forceinline__ uint32_t warp_idx(void)
{
    return threadIdx.x / WARP_LANES;
}

#endif
