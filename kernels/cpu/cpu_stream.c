#include "kernels/cpu/cpu_stream.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/status.h"
#include "kernels/cpu/cpu_device.h"

#define POLL_NS 200000               /* between two polls of a running list, at least */
#define COPY_ALONE_BYTES (64u << 10) /* a copy up to this size is not worth sharing */

struct entry {
    struct team_counter counter;
    const char *name;
    cpu_run *run;
    bool barrier;
    _Alignas(64) uint8_t args[CPU_ARGS_BYTES];
};

struct stream {
    struct device *device;
    struct entry *entries; /* [n_ops] */
    uint32_t n_ops, n_entries, n_submitted;
    uint64_t n_enqueued;
    _Atomic int status;
};

struct copy_args {
    uint8_t *to;
    const uint8_t *from;
    size_t bytes;
};

struct list_run { /* one device_wait, as the workers see it */
    struct stream *stream;
    void (*poll)(void *arg);
    void *poll_arg;
    int64_t next_poll_ns;
};

int stream_create(struct device *device, uint32_t n_ops, struct stream **out, struct why *why)
{
    assert(n_ops > 0);
    struct stream *stream = calloc(1, sizeof *stream);
    size_t bytes = (size_t)n_ops * sizeof *stream->entries;
    if (stream != NULL)
        stream->entries = aligned_alloc(_Alignof(struct entry), bytes);
    if (stream == NULL || stream->entries == NULL) {
        free(stream);
        return refuse(why, STATUS_NO_MEMORY, "no memory for a stream of %u ops (%zu bytes)", n_ops,
                      bytes);
    }
    memset(stream->entries, 0, bytes);
    stream->device = device;
    stream->n_ops = n_ops;
    device->n_streams++;
    *out = stream;
    return STATUS_OK;
}

void stream_free(struct stream *stream)
{
    if (stream == NULL)
        return;
    stream->device->n_streams--;
    free(stream->entries);
    free(stream);
}

int stream_status(const struct stream *stream)
{
    return atomic_load_explicit(&stream->status, memory_order_acquire);
}

uint64_t stream_n_enqueued(const struct stream *stream)
{
    return stream->n_enqueued;
}

enum activations stream_activations(const struct stream *stream)
{
    return stream->device->cpu.activations;
}

enum isa stream_isa(const struct stream *stream)
{
    return stream->device->cpu.isa;
}

int stream_n_threads(const struct stream *stream)
{
    return stream->device->cpu.n_threads;
}

static void fail(struct stream *stream, int status, const char *op)
{
    assert(status < 0);
    int none = STATUS_OK;
    if (atomic_compare_exchange_strong_explicit(&stream->status, &none, status,
                                                memory_order_acq_rel, memory_order_relaxed))
        log_write(LOG_ERROR, "device_error", "op=%s status=%s", op, status_name(status));
}

void cpu_worker_fail(const struct cpu_worker *worker, int status)
{
    fail(worker->stream, status, worker->op);
}

void cpu_stream_push(struct stream *stream, const char *name, cpu_run *run, const void *args,
                     size_t args_bytes, bool barrier)
{
    assert(args_bytes <= CPU_ARGS_BYTES);
    stream->n_enqueued++;
    if (stream->n_entries == stream->n_ops) {
        fail(stream, STATUS_INTERNAL, name);
        return;
    }
    struct entry *entry = &stream->entries[stream->n_entries++];
    team_counter_reset(&entry->counter);
    entry->name = name;
    entry->run = run;
    entry->barrier = barrier;
    memcpy(entry->args, args, args_bytes);
}

static void run_copy(const struct cpu_worker *worker, const void *args)
{
    const struct copy_args *copy = args;
    size_t share = copy->bytes;
    if (copy->bytes > COPY_ALONE_BYTES)
        share = (copy->bytes / (size_t)worker->n_workers + 64) / 64 * 64;
    size_t begin = share * (size_t)worker->idx;
    if (begin >= copy->bytes)
        return;
    size_t n = copy->bytes - begin < share ? copy->bytes - begin : share;
    memcpy(copy->to + begin, copy->from + begin, n);
}

void device_write(struct stream *stream, void *device_to, const void *host_from, size_t bytes)
{
    struct copy_args copy = {device_to, host_from, bytes};
    cpu_stream_push(stream, "write", run_copy, &copy, sizeof copy, true);
}

void device_read(struct stream *stream, void *host_to, const void *device_from, size_t bytes)
{
    struct copy_args copy = {host_to, device_from, bytes};
    cpu_stream_push(stream, "read", run_copy, &copy, sizeof copy, true);
}

void device_submit(struct stream *stream)
{
    stream->n_submitted = stream->n_entries;
}

static void poll_when_due(struct list_run *list)
{
    if (list->poll == NULL)
        return;
    int64_t now = clock_now(&clock_monotonic);
    if (now < list->next_poll_ns)
        return;
    list->poll(list->poll_arg);
    list->next_poll_ns = clock_now(&clock_monotonic) + POLL_NS;
}

static void run_list(void *arg, int worker_idx)
{
    struct list_run *list = arg;
    struct stream *stream = list->stream;
    const struct device_cpu *cpu = &stream->device->cpu;
    struct cpu_worker worker = {
        .idx = worker_idx,
        .n_workers = cpu->n_threads,
        .scratch = stream->device->scratch + (size_t)worker_idx * CPU_SCRATCH_BYTES,
        .stream = stream,
    };
    for (uint32_t i = 0; i < stream->n_submitted; i++) {
        struct entry *entry = &stream->entries[i];
        worker.op = entry->name;
        worker.counter = &entry->counter;
        if (worker_idx == 0)
            poll_when_due(list);
        if (stream_status(stream) == STATUS_OK)
            entry->run(&worker, entry->args);
        if (entry->barrier)
            team_barrier(cpu->team, worker_idx);
    }
}

/* What was enqueued behind the last submit moves to the front. */
static void drop_submitted(struct stream *stream)
{
    uint32_t n_left = stream->n_entries - stream->n_submitted;
    memmove(stream->entries, stream->entries + stream->n_submitted,
            n_left * sizeof *stream->entries);
    stream->n_entries = n_left;
    stream->n_submitted = 0;
}

int device_wait(struct stream *stream, void (*poll)(void *arg), void *arg)
{
    struct list_run list = {stream, poll, arg, 0};
    if (stream->n_submitted > 0 && stream_status(stream) == STATUS_OK) {
        device_unlock(stream->device);
        team_run(stream->device->cpu.team, run_list, &list);
        device_lock(stream->device);
    } else {
        poll_when_due(&list);
    }
    drop_submitted(stream);
    return stream_status(stream);
}
