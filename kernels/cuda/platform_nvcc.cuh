/* kernels/cuda/platform_nvcc.cuh: platform.cuh's macros and launches under nvcc. The twin is
 * tests/cuda_on_cpu/platform_emulation.cuh.
 */
#ifndef QUIRE_KERNELS_CUDA_PLATFORM_NVCC_CUH
#define QUIRE_KERNELS_CUDA_PLATFORM_NVCC_CUH

#include <cuda_runtime.h>
#include <tuple>
#include <utility>

/* 900 -> 90; the host's pass sees the baseline, and runs nothing. */
#if defined(__CUDA_ARCH__)
#define QUIRE_SM (__CUDA_ARCH__ / 10)
#else
#define QUIRE_SM 80
#endif

#define DYNAMIC_SHARED_ALIGNMENT 128

#define SHARED(type, name)                                                                         \
    using name##_type = type;                                                                      \
    __shared__ __align__(16) name##_type name

#define DYNAMIC_SHARED(type, name)                                                                 \
    extern __shared__ __align__(DYNAMIC_SHARED_ALIGNMENT) unsigned char quire_dynamic_shared[];    \
    type *const name = reinterpret_cast<type *>(quire_dynamic_shared)

template <class Tuple, size_t... i>
static inline cudaError_t launch_with(const void *kernel, dim3 grid, dim3 block,
                                      size_t shared_bytes, cudaStream_t stream, Tuple &parameters,
                                      std::index_sequence<i...>)
{
    void *addresses[] = {&std::get<i>(parameters)..., nullptr};
    return cudaLaunchKernel(kernel, grid, block, addresses, shared_bytes, stream);
}

/* Arguments convert to the types of the kernel's parameters, as in a call. */
template <class... P, class... A>
static inline cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                                 cudaStream_t stream, A... arguments)
{
    static_assert(sizeof...(P) == sizeof...(A), "the kernel has another number of parameters");
    std::tuple<P...> parameters{static_cast<P>(arguments)...};
    return launch_with((const void *)kernel, grid, block, shared_bytes, stream, parameters,
                       std::index_sequence_for<P...>{});
}

#endif
