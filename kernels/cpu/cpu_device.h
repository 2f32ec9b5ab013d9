/* kernels/cpu/cpu_device.h: what an open CPU device holds; for cpu_device.c, cpu_stream.c and
 * kernels/device.c.
 *
 * Strict mode: blocks are PROT_NONE while `n_unlocks` is 0, readable and writable else.
 */
#ifndef QUIRE_KERNELS_CPU_DEVICE_H
#define QUIRE_KERNELS_CPU_DEVICE_H

#include "kernels/cpu/cpu_stream.h"

struct cpu_block { /* one device_alloc: its own mapping */
    uint8_t *base;
    size_t bytes;
};

struct device {
    struct device_cpu cpu;
    char name[64];
    bool strict;
    struct cpu_block *blocks; /* in no order */
    size_t n_blocks, max_blocks;
    uint32_t n_unlocks;
    uint32_t n_streams;
    uint8_t *scratch; /* CPU_SCRATCH_BYTES a worker; never protected */
};

/* `options` has its instruction set chosen. The caller closes *out with device_close. */
int cpu_device_open(const struct device_options *options, struct device **out, struct why *why);

#endif
