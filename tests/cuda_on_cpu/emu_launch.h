/* tests/cuda_on_cpu/emu_launch.h: launches: the chip's limits, and grids spread over workers.
 *
 * EMU_WORKERS  OS threads that run blocks (default 1: ctest runs tests side by side)
 * EMU_SEED     0 (default): lanes in order; others: lanes and warps at random, blocks from the last
 */
#ifndef QUIRE_EMU_LAUNCH_H
#define QUIRE_EMU_LAUNCH_H

#include <cuda_runtime_api.h>
#include <functional>
#include <tuple>

#include "tests/cuda_on_cpu/emu_block.h"

/* What the device would say to this launch at once. */
cudaError_t emu_launch_check(const void *kernel, dim3 grid, dim3 block, size_t dynamic_bytes);
/* Queues the launch behind the stream's other work. */
cudaError_t emu_launch(const void *kernel, dim3 grid, dim3 block, size_t dynamic_bytes,
                       cudaStream_t stream, std::function<void()> body);
/* The opt-in of cudaFuncSetAttribute. */
cudaError_t emu_allow_shared(const void *kernel, size_t dynamic_bytes);

/* kernels are called as fn(args...); arguments convert to the kernel's parameters here. */
template <class... P, class... A>
static inline cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t dynamic_bytes,
                                 cudaStream_t stream, A... arguments)
{
    static_assert(sizeof...(P) == sizeof...(A), "the kernel has another number of parameters");
    std::tuple<P...> parameters{static_cast<P>(arguments)...};
    return emu_launch((const void *)kernel, grid, block, dynamic_bytes, stream,
                      [=] { std::apply(kernel, parameters); });
}

#endif
