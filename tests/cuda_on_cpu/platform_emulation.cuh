/* tests/cuda_on_cpu/platform_emulation.cuh: what kernels/cuda/platform.cuh is when g++ or clang++
 * compiles: CUDA C++ as far as Quire's kernels use it, executed on the CPU.
 */
#ifndef QUIRE_PLATFORM_EMULATION_CUH
#define QUIRE_PLATFORM_EMULATION_CUH

#ifndef QUIRE_SM
#error "the build says which chip is emulated: -DQUIRE_SM=80"
#endif

#include "tests/cuda_on_cpu/emu_barrier.h"
#include "tests/cuda_on_cpu/emu_block.h"
#include "tests/cuda_on_cpu/emu_copy.h"
#include "tests/cuda_on_cpu/emu_launch.h"
#include "tests/cuda_on_cpu/emu_math.h"
#include "tests/cuda_on_cpu/emu_matrix.h"
#include "tests/cuda_on_cpu/emu_mbarrier.h"
#include "tests/cuda_on_cpu/emu_shared.h"
#include "tests/cuda_on_cpu/emu_warp.h"

#define threadIdx (emu_current->thread_idx)
#define blockIdx (emu_current->block->block_idx)
#define blockDim (emu_current->block->grid->block_dim)
#define gridDim (emu_current->block->grid->grid_dim)

/* CUDA's header defines __shared__ as nothing for this compiler: each thread would silently get a
 * variable of its own. */
#undef __shared__
#define __shared__ write_SHARED_or_DYNAMIC_SHARED_instead

template <class T> static inline T *emu_shared_of(const void *key, EMU_SITE_PARAMETERS)
{
    return (T *)emu_shared(key, sizeof(T), alignof(T), EMU_SITE);
}

template <class T> static inline T *emu_dynamic_shared_of(EMU_SITE_PARAMETERS)
{
    static_assert(alignof(T) <= EMU_SHARED_ALIGNMENT, "align inside of the kernel");
    return (T *)emu_dynamic_shared(sizeof(T), EMU_SITE);
}

#define SHARED(type, name)                                                                         \
    static const char name##_key = 0;                                                              \
    using name##_type = type;                                                                      \
    name##_type &name = *emu_shared_of<name##_type>(&name##_key)

#define DYNAMIC_SHARED(type, name) type *const name = emu_dynamic_shared_of<type>()

static inline void __nanosleep(unsigned)
{
    emu_yield();
}

#undef __launch_bounds__
#define __launch_bounds__(...)

#endif
