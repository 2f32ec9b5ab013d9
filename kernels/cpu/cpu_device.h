/* kernels/cpu/cpu_device.h: what an open CPU device holds; for cpu_device.c, cpu_stream.c and
 * kernels/device.c.
 *
 * Strict mode: blocks are PROT_NONE while `n_unlocks` is 0, readable and writable else.
 */
#ifndef QUIRE_KERNELS_CPU_DEVICE_H
#define QUIRE_KERNELS_CPU_DEVICE_H

#include "kernels/cpu/cpu_stream.h"
#include "kernels/device_backend.h"

struct cpu_block { /* one device_alloc: its own mapping */
    uint8_t *base;
    size_t bytes;
};

struct cpu_device {
    struct device base;
    struct device_cpu cpu;
    char name[64];
    bool strict;
    struct cpu_block *blocks; /* in no order */
    size_t n_blocks, max_blocks;
    uint32_t n_unlocks;
    uint8_t *scratch; /* CPU_SCRATCH_BYTES a worker; never protected */
};

static inline struct cpu_device *cpu_device_of(const struct device *device)
{
    return (struct cpu_device *)device;
}

/* `options` has its instruction set chosen. The caller closes *out with device_close. */
int cpu_device_open(const struct device_options *options, struct device **out, struct why *why);
uint64_t cpu_memory_free(void); /* bytes that this process could still take */

/* The streams' part of the backend (cpu_stream.c). */
int cpu_stream_create(struct device *device, uint32_t n_ops, struct stream **out, struct why *why);
void cpu_stream_free(struct stream *stream);
int cpu_stream_status(const struct stream *stream);
void cpu_stream_write(struct stream *stream, void *device_to, const void *host_from, size_t bytes);
void cpu_stream_read(struct stream *stream, void *host_to, const void *device_from, size_t bytes);
void cpu_stream_submit(struct stream *stream);
int cpu_stream_wait(struct stream *stream, void (*poll)(void *arg), void *arg);
bool cpu_stream_is_done(const struct stream *stream);
void cpu_stream_start(struct stream *stream);
void cpu_stream_follow(struct stream *stream, const struct stream *first);

#endif
