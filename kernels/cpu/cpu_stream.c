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

struct cpu_stream {
    struct stream base;
    struct entry *entries; /* [2 * n_ops]: the list that was submitted, and the next one */
    uint32_t n_ops, n_entries, n_submitted;
    _Atomic int status;
};

struct copy_args {
    uint8_t *to;
    const uint8_t *from;
    size_t bytes;
};

struct list_run { /* one device_wait, as the workers see it */
    struct cpu_stream *stream;
    void (*poll)(void *arg);
    void *poll_arg;
    int64_t next_poll_ns;
};

static struct cpu_stream *of(const struct stream *stream)
{
    return (struct cpu_stream *)stream;
}

int cpu_stream_create(struct device *device, uint32_t n_ops, struct stream **out, struct why *why)
{
    struct cpu_stream *stream = calloc(1, sizeof *stream);
    size_t bytes = 2 * (size_t)n_ops * sizeof *stream->entries;
    if (stream != NULL)
        stream->entries = aligned_alloc(_Alignof(struct entry), bytes);
    if (stream == NULL || stream->entries == NULL) {
        free(stream);
        return refuse(why, STATUS_NO_MEMORY, "no memory for a stream of %u ops (%zu bytes)", n_ops,
                      bytes);
    }
    memset(stream->entries, 0, bytes);
    stream->base.device = device;
    stream->n_ops = n_ops;
    *out = &stream->base;
    return STATUS_OK;
}

void cpu_stream_free(struct stream *stream)
{
    free(of(stream)->entries);
    free(of(stream));
}

int cpu_stream_status(const struct stream *stream)
{
    return atomic_load_explicit(&of(stream)->status, memory_order_acquire);
}

enum activations stream_activations(const struct stream *stream)
{
    return device_cpu(stream->device)->activations;
}

enum isa stream_isa(const struct stream *stream)
{
    return device_cpu(stream->device)->isa;
}

int stream_n_threads(const struct stream *stream)
{
    return device_cpu(stream->device)->n_threads;
}

static void fail(struct cpu_stream *stream, int status, const char *op)
{
    assert(status < 0);
    int none = STATUS_OK;
    if (atomic_compare_exchange_strong_explicit(&stream->status, &none, status,
                                                memory_order_acq_rel, memory_order_relaxed))
        log_write(LOG_ERROR, "device_error", "op=%s status=%s", op, status_name(status));
}

void cpu_worker_fail(const struct cpu_worker *worker, int status)
{
    fail(of(worker->stream), status, worker->op);
}

void cpu_stream_push(struct stream *base, const char *name, cpu_run *run, const void *args,
                     size_t args_bytes, bool barrier)
{
    struct cpu_stream *stream = of(base);
    assert(args_bytes <= CPU_ARGS_BYTES);
    base->n_enqueued++;
    if (stream->n_entries - stream->n_submitted == stream->n_ops) {
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

void cpu_stream_write(struct stream *stream, void *device_to, const void *host_from, size_t bytes)
{
    struct copy_args copy = {device_to, host_from, bytes};
    cpu_stream_push(stream, "write", run_copy, &copy, sizeof copy, true);
}

void cpu_stream_read(struct stream *stream, void *host_to, const void *device_from, size_t bytes)
{
    struct copy_args copy = {host_to, device_from, bytes};
    cpu_stream_push(stream, "read", run_copy, &copy, sizeof copy, true);
}

void cpu_stream_submit(struct stream *stream)
{
    of(stream)->n_submitted = of(stream)->n_entries;
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
    struct cpu_stream *stream = list->stream;
    const struct cpu_device *device = cpu_device_of(stream->base.device);
    const struct device_cpu *cpu = &device->cpu;
    struct cpu_worker worker = {
        .idx = worker_idx,
        .n_workers = cpu->n_threads,
        .scratch = device->scratch + (size_t)worker_idx * CPU_SCRATCH_BYTES,
        .stream = &stream->base,
    };
    for (uint32_t i = 0; i < stream->n_submitted; i++) {
        struct entry *entry = &stream->entries[i];
        worker.op = entry->name;
        worker.counter = &entry->counter;
        if (worker_idx == 0)
            poll_when_due(list);
        if (cpu_stream_status(&stream->base) == STATUS_OK)
            entry->run(&worker, entry->args);
        if (entry->barrier)
            team_barrier(cpu->team, worker_idx);
    }
}

/* What was enqueued behind the last submit moves to the front. */
static void drop_submitted(struct cpu_stream *stream)
{
    uint32_t n_left = stream->n_entries - stream->n_submitted;
    memmove(stream->entries, stream->entries + stream->n_submitted,
            n_left * sizeof *stream->entries);
    stream->n_entries = n_left;
    stream->n_submitted = 0;
}

int cpu_stream_wait(struct stream *base, void (*poll)(void *arg), void *arg)
{
    struct cpu_stream *stream = of(base);
    struct list_run list = {stream, poll, arg, 0};
    if (stream->n_submitted > 0 && cpu_stream_status(base) == STATUS_OK) {
        device_unlock(base->device);
        team_run(device_cpu(base->device)->team, run_list, &list);
        device_lock(base->device);
    } else {
        poll_when_due(&list);
    }
    drop_submitted(stream);
    return cpu_stream_status(base);
}

bool cpu_stream_is_done(const struct stream *stream)
{
    (void)stream;
    return true;
}

void cpu_stream_start(struct stream *stream)
{
    cpu_stream_submit(stream);
    cpu_stream_wait(stream, NULL, NULL);
}

/* Lists run one after the other in any case. */
void cpu_stream_follow(struct stream *stream, const struct stream *first)
{
    assert(first->n_under_way == 0);
    int status = cpu_stream_status(first);
    if (status < 0)
        fail(of(stream), status, "follow");
}
