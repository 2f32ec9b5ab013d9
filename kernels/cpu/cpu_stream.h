/* kernels/cpu/cpu_stream.h: the CPU device and its list of ops, as the files of this folder see
 * them.
 *
 * A launcher (cpu_linear, cpu_attend, ...) asserts its arguments and pushes one entry: a run
 * function that every worker calls with the same arguments and its own index. Workers split the op
 * among themselves by index or by the op's counter. After an entry with `barrier` all workers meet
 * before the next one starts.
 */
#ifndef QUIRE_KERNELS_CPU_STREAM_H
#define QUIRE_KERNELS_CPU_STREAM_H

#include "base/threads.h"
#include "kernels/ops.h"

#define CPU_ARGS_BYTES 512 /* of one entry */

struct cpu_worker {
    int idx, n_workers;
    const char *op;               /* the name of the entry that it runs */
    struct team_counter *counter; /* of this op, 0 when it starts */
    void *scratch;                /* this worker's own, CPU_SCRATCH_BYTES, 64-byte aligned */
    struct stream *stream;
};

#define CPU_SCRATCH_BYTES (1u << 20)

typedef void cpu_run(const struct cpu_worker *worker, const void *args);

/* Copies args_bytes (<= CPU_ARGS_BYTES). */
void cpu_stream_push(struct stream *stream, const char *name, cpu_run *run, const void *args,
                     size_t args_bytes, bool barrier);
/* From any worker, at any time: the first error sticks to the stream and is logged with the op that
 * it came from; later ones are dropped. */
void cpu_worker_fail(const struct cpu_worker *worker, int status);

struct device_cpu { /* what planning functions need to know of an open CPU device */
    enum isa isa;
    enum activations activations;
    int n_threads;
    struct team *team;
};
const struct device_cpu *device_cpu(const struct device *device);
enum activations stream_activations(const struct stream *stream);
enum isa stream_isa(const struct stream *stream);
int stream_n_threads(const struct stream *stream);
/* Host loading code that must write device memory (strict mode): bracket it. Nests. */
void device_unlock(struct device *device);
void device_lock(struct device *device);

#endif
