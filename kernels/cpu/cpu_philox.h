/* kernels/cpu/cpu_philox.h: Philox4x32-10, a random function without state: the same bits on every
 * backend. */
#ifndef QUIRE_KERNELS_CPU_PHILOX_H
#define QUIRE_KERNELS_CPU_PHILOX_H

#include <stdint.h>

/* key = seed (low, high); counter = position (low, high), choice, 0. Returns words 0 (low) and 1
 * (high). */
uint64_t cpu_philox(uint64_t seed, uint32_t choice_idx, uint64_t position);

#endif
