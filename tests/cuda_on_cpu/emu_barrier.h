/* tests/cuda_on_cpu/emu_barrier.h: barriers of a block: __syncthreads (barrier 0), bar.sync and
 * bar.arrive, and memory order between threads and blocks.
 */
#ifndef QUIRE_EMU_BARRIER_H
#define QUIRE_EMU_BARRIER_H

#include "tests/cuda_on_cpu/emu_block.h"

/* n_threads: 0 for the whole block, whose threads must come from one source line. */
void emu_barrier_sync(unsigned id, unsigned n_threads, struct emu_site site);
void emu_barrier_arrive(unsigned id, unsigned n_threads, struct emu_site site);

/* Atomics are relaxed as in CUDA; with a fence before and after they order memory:
 * write, __threadfence, atomicAdd (here) ... atomicAdd (there), __threadfence, read. */
void emu_fence(void);
void emu_atomic_begin(const void *address);
void emu_atomic_end(const void *address);

static inline void __syncthreads(EMU_SITE_PARAMETERS)
{
    emu_barrier_sync(0, 0, EMU_SITE);
}

static inline void barrier_sync(unsigned id, unsigned n_threads, EMU_SITE_PARAMETERS)
{
    emu_barrier_sync(id, n_threads, EMU_SITE);
}

static inline void barrier_arrive(unsigned id, unsigned n_threads, EMU_SITE_PARAMETERS)
{
    emu_barrier_arrive(id, n_threads, EMU_SITE);
}

static inline void __threadfence(void)
{
    emu_fence();
}

static inline void __threadfence_system(void)
{
    emu_fence();
}

template <class T> static inline T atomicAdd(T *address, T value)
{
    static_assert((T)0.5 == (T)0, "sums of floats by atomics have no fixed order");
    emu_atomic_begin(address);
    T before = __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
    emu_atomic_end(address);
    return before;
}

template <class T> static inline T atomicOr(T *address, T value)
{
    emu_atomic_begin(address);
    T before = __atomic_fetch_or(address, value, __ATOMIC_RELAXED);
    emu_atomic_end(address);
    return before;
}

template <class T> static inline T atomicExch(T *address, T value)
{
    emu_atomic_begin(address);
    T before = __atomic_exchange_n(address, value, __ATOMIC_RELAXED);
    emu_atomic_end(address);
    return before;
}

template <class T> static inline T atomicCAS(T *address, T expected, T value)
{
    emu_atomic_begin(address);
    __atomic_compare_exchange_n(address, &expected, value, false, __ATOMIC_RELAXED,
                                __ATOMIC_RELAXED);
    emu_atomic_end(address);
    return expected;
}

template <class T> static inline T atomicMax(T *address, T value)
{
    emu_atomic_begin(address);
    T before = __atomic_load_n(address, __ATOMIC_RELAXED);
    while (before < value && !__atomic_compare_exchange_n(address, &before, value, false,
                                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue;
    emu_atomic_end(address);
    return before;
}

template <class T> static inline T atomicMin(T *address, T value)
{
    emu_atomic_begin(address);
    T before = __atomic_load_n(address, __ATOMIC_RELAXED);
    while (value < before && !__atomic_compare_exchange_n(address, &before, value, false,
                                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue;
    emu_atomic_end(address);
    return before;
}

#endif
