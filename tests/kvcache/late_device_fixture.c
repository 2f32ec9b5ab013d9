#include "late_device_fixture.h"

#include "base/status.h"
#include "kernels/device_backend.h"
#include "kernels/ops.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct late_op {
    enum { LATE_COPY, LATE_ZERO, LATE_PAGE_COPY, LATE_CALL, LATE_FOLLOW } kind;
    union {
        struct {
            void *to;
            const void *from;
            size_t bytes;
        } copy;
        struct page_zero_args zero;
        struct page_copy_args page_copy;
        struct {
            void (*run)(void *arg);
            void *arg;
        } call;
        struct {
            struct late_stream *stream;
            uint64_t end; /* of its ops, ever */
        } first;
    };
};

struct late_stream {
    struct stream base;
    uint32_t n_ops, n_queued, n_run;
    uint64_t n_gone, began; /* ops that left the queue; of lists that are submitted or started */
    uint32_t ends[DEVICE_DEPTH_MAX]; /* of the lists under way */
    struct late_op *queue;           /* [(DEVICE_DEPTH_MAX + 1) * n_ops] */
};

static struct late_stream *of(const struct stream *stream)
{
    return (struct late_stream *)stream;
}

static void run_op(const struct late_op *op);

static void run_to(struct late_stream *stream, uint32_t end)
{
    while (stream->n_run < end)
        run_op(&stream->queue[stream->n_run++]);
}

static void run_op(const struct late_op *op)
{
    switch (op->kind) {
    case LATE_COPY:
        memcpy(op->copy.to, op->copy.from, op->copy.bytes);
        return;
    case LATE_ZERO:
        for (uint32_t i = 0; i < op->zero.n; i++)
            memset(op->zero.base + op->zero.pages[i] * op->zero.page_stride, 0,
                   op->zero.page_stride);
        return;
    case LATE_PAGE_COPY:
        for (uint32_t i = 0; i < op->page_copy.n; i++)
            memcpy(op->page_copy.base + op->page_copy.to[i] * op->page_copy.page_stride,
                   op->page_copy.base + op->page_copy.from[i] * op->page_copy.page_stride,
                   op->page_copy.page_stride);
        return;
    case LATE_CALL:
        op->call.run(op->call.arg);
        return;
    case LATE_FOLLOW:
        if (op->first.end > op->first.stream->n_gone)
            run_to(op->first.stream, (uint32_t)(op->first.end - op->first.stream->n_gone));
    }
}

static void push(struct stream *base, struct late_op op)
{
    struct late_stream *stream = of(base);
    assert(stream->n_queued < (DEVICE_DEPTH_MAX + 1) * stream->n_ops);
    stream->queue[stream->n_queued++] = op;
    base->n_enqueued++;
}

void late_stream_call(struct stream *stream, void (*run)(void *arg), void *arg)
{
    push(stream, (struct late_op){.kind = LATE_CALL, .call = {run, arg}});
}

void late_stream_progress(struct stream *base, uint32_t n)
{
    struct late_stream *stream = of(base);
    if (base->n_under_way == 0)
        return;
    uint32_t end = stream->ends[base->n_under_way - 1], left = end - stream->n_run;
    run_to(stream, stream->n_run + (n < left ? n : left));
}

/* --- the backend --- */

static void late_copy(struct stream *stream, void *to, const void *from, size_t bytes)
{
    push(stream, (struct late_op){.kind = LATE_COPY, .copy = {to, from, bytes}});
}

static void late_zero(struct stream *stream, const struct page_zero_args *args)
{
    push(stream, (struct late_op){.kind = LATE_ZERO, .zero = *args});
}

static void late_page_copy(struct stream *stream, const struct page_copy_args *args)
{
    push(stream, (struct late_op){.kind = LATE_PAGE_COPY, .page_copy = *args});
}

static size_t late_page_layer_bytes(const struct kv_shape *shape, enum kv_dtype dtype)
{
    return (size_t)PAGE_TOKENS * shape->n_kv_heads * (shape->k_dim + shape->v_dim) * sizeof(float);
}

static const struct ops late_ops = {
    .name = "late",
    .page_layer_bytes = late_page_layer_bytes,
    .page_zero = late_zero,
    .page_copy = late_page_copy,
};

static int late_alloc(struct device *device, size_t bytes, void **out, struct why *why)
{
    *out = calloc(1, bytes);
    return *out != NULL ? STATUS_OK : refuse(why, STATUS_NO_MEMORY, "no %zu bytes", bytes);
}

static void late_free(struct device *device, void *memory)
{
    free(memory);
}

static uint64_t late_memory_free(const struct device *device)
{
    return UINT64_MAX;
}

static int late_copy_now(struct device *device, void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
    return STATUS_OK;
}

static int late_stream_create(struct device *device, uint32_t n_ops, struct stream **out,
                              struct why *why)
{
    struct late_stream *stream = calloc(1, sizeof *stream);
    stream->base.device = device;
    stream->n_ops = n_ops;
    stream->queue = calloc((size_t)(DEVICE_DEPTH_MAX + 1) * n_ops, sizeof *stream->queue);
    *out = &stream->base;
    return STATUS_OK;
}

static void late_stream_free(struct stream *stream)
{
    free(of(stream)->queue);
    free(stream);
}

static int late_stream_status(const struct stream *stream)
{
    return STATUS_OK;
}

static void late_submit(struct stream *base)
{
    of(base)->ends[base->n_under_way] = of(base)->n_queued;
    of(base)->began = of(base)->n_gone + of(base)->n_queued;
}

static void forget_first(struct late_stream *stream, uint32_t n)
{
    stream->n_queued -= n;
    stream->n_run -= n;
    stream->n_gone += n;
    memmove(stream->queue, stream->queue + n, stream->n_queued * sizeof *stream->queue);
}

/* One op of the oldest list runs, so that who asks again and again hears a yes in the end. */
static bool late_is_done(const struct stream *base)
{
    struct late_stream *stream = of(base);
    if (stream->n_run < stream->ends[0])
        run_to(stream, stream->n_run + 1);
    return stream->n_run >= stream->ends[0];
}

static void late_start(struct stream *base)
{
    forget_first(of(base), of(base)->n_run);
    of(base)->began = of(base)->n_gone + of(base)->n_queued;
}

static void late_follow(struct stream *stream, const struct stream *first)
{
    push(stream, (struct late_op){.kind = LATE_FOLLOW, .first = {of(first), of(first)->began}});
    stream->n_enqueued--; /* no op */
}

static int late_wait(struct stream *base, void (*poll)(void *arg), void *arg)
{
    struct late_stream *stream = of(base);
    if (base->n_under_way == 0)
        return STATUS_OK;
    uint32_t n = stream->ends[0];
    run_to(stream, n);
    forget_first(stream, n);
    for (int i = 1; i < DEVICE_DEPTH_MAX; i++)
        stream->ends[i - 1] = stream->ends[i] - n;
    return STATUS_OK;
}

static void late_close(struct device *device)
{
    free(device);
}

static const struct device_backend late_backend = {
    .ops = &late_ops,
    .depth = DEVICE_DEPTH_MAX,
    .close = late_close,
    .alloc = late_alloc,
    .free = late_free,
    .alloc_host = late_alloc,
    .free_host = late_free,
    .memory_free = late_memory_free,
    .upload = late_copy_now,
    .download = late_copy_now,
    .stream_create = late_stream_create,
    .stream_free = late_stream_free,
    .stream_status = late_stream_status,
    .write = late_copy,
    .read = late_copy,
    .submit = late_submit,
    .wait = late_wait,
    .is_done = late_is_done,
    .start = late_start,
    .follow = late_follow,
};

struct device *late_device_open(void)
{
    struct device *device = calloc(1, sizeof *device);
    device->backend = &late_backend;
    return device;
}
