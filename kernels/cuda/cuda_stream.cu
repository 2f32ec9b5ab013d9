#include "kernels/cuda/cuda_stream.cuh"

#include <sched.h>
#include <stdlib.h>

extern "C" {
#include "base/clock.h"
#include "base/log.h"
#include "base/status.h"
}

#define POLL_NS 200000 /* between two polls of a waiting host, at least */

struct cuda_list { /* of a submit */
    cudaEvent_t passed;
    bool is_recorded; /* the event: what was enqueued before is under way or done */
    int *error_copy;  /* pinned: the error word as the list left it */
};

struct cuda_stream {
    struct stream base;
    cudaStream_t cuda;
    struct cuda_list lists[DEVICE_DEPTH_MAX]; /* those under way, from `oldest` around */
    uint32_t oldest;
    cudaEvent_t started; /* recorded behind each list that nobody waits for */
    cudaEvent_t last;    /* of the list that began last; NULL: none has */
    uint32_t n_ops, n_pending; /* of the list that is being enqueued */
    int *error;                /* device: the first status that a kernel put there */
    int status;
    bool is_capturing;
    int capture_status; /* its first error, and that error's words */
    struct why capture_why;
};

static struct cuda_stream *of(const struct stream *stream)
{
    return (struct cuda_stream *)stream;
}

int cuda_status_of(cudaError_t error)
{
    if (error == cudaSuccess)
        return STATUS_OK;
    return error == cudaErrorMemoryAllocation ? STATUS_NO_MEMORY : STATUS_UNAVAILABLE;
}

/* --- life --- */

static cudaError_t create_list(struct cuda_list *list)
{
    cudaError_t error = cudaEventCreateWithFlags(&list->passed, cudaEventDisableTiming);
    if (error == cudaSuccess)
        error = cudaMallocHost((void **)&list->error_copy, sizeof *list->error_copy);
    if (error == cudaSuccess)
        *list->error_copy = 0;
    return error;
}

extern "C" int cuda_stream_create(struct device *device, uint32_t n_ops, struct stream **out,
                                  struct why *why)
{
    struct cuda_stream *stream = (struct cuda_stream *)calloc(1, sizeof *stream);
    if (stream == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a stream (%zu bytes)", sizeof *stream);
    stream->base.device = device;
    stream->n_ops = n_ops;
    cudaError_t error = cudaErrorInvalidDevice;
    if (cuda_device_make_current(device))
        error = cudaStreamCreateWithFlags(&stream->cuda, cudaStreamNonBlocking);
    for (int i = 0; i < DEVICE_DEPTH_MAX && error == cudaSuccess; i++)
        error = create_list(&stream->lists[i]);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&stream->started, cudaEventDisableTiming);
    if (error == cudaSuccess)
        error = cudaMalloc((void **)&stream->error, sizeof *stream->error);
    if (error == cudaSuccess)
        error = cudaMemsetAsync(stream->error, 0, sizeof *stream->error, stream->cuda);
    if (error != cudaSuccess) {
        cudaGetLastError();
        cuda_stream_free(&stream->base);
        return refuse(why, cuda_status_of(error), "the GPU gives no stream: %s",
                      cudaGetErrorString(error));
    }
    *out = &stream->base;
    return STATUS_OK;
}

extern "C" void cuda_stream_free(struct stream *base)
{
    struct cuda_stream *stream = of(base);
    cudaGraph_t unfinished = NULL;
    cuda_device_make_current(base->device);
    if (stream->is_capturing && cuda_stream_end_capture(base, &unfinished, NULL) == STATUS_OK)
        cudaGraphDestroy(unfinished);
    if (stream->cuda != NULL)
        cudaStreamSynchronize(stream->cuda);
    for (int i = 0; i < DEVICE_DEPTH_MAX; i++) {
        cudaFreeHost(stream->lists[i].error_copy);
        if (stream->lists[i].passed != NULL)
            cudaEventDestroy(stream->lists[i].passed);
    }
    if (stream->started != NULL)
        cudaEventDestroy(stream->started);
    cudaFree(stream->error);
    if (stream->cuda != NULL)
        cudaStreamDestroy(stream->cuda);
    free(stream);
}

extern "C" int cuda_stream_status(const struct stream *stream)
{
    return of(stream)->status;
}

/* --- enqueueing --- */

static void fail(struct cuda_stream *stream, const char *op, int status, const char *text)
{
    if (stream->is_capturing) {
        if (stream->capture_status == STATUS_OK)
            stream->capture_status = refuse(&stream->capture_why, status, "%s: %s", op, text);
        return;
    }
    if (stream->status != STATUS_OK)
        return;
    stream->status = status;
    log_write(LOG_ERROR, "device_error", "op=%s status=%s text=\"%s\"", op, status_name(status),
              text);
}

bool cuda_stream_begin(struct stream *base, const char *op, cudaStream_t *out)
{
    struct cuda_stream *stream = of(base);
    cuda_device_make_current(base->device);
    *out = stream->cuda;
    if (stream->is_capturing)
        return stream->capture_status == STATUS_OK;
    base->n_enqueued++;
    if (stream->n_pending == stream->n_ops)
        fail(stream, op, STATUS_INTERNAL, "more ops than the stream was made for");
    if (stream->status != STATUS_OK)
        return false;
    stream->n_pending++;
    return true;
}

void cuda_stream_check(struct stream *stream, const char *op, cudaError_t error)
{
    if (error != cudaSuccess)
        fail(of(stream), op, STATUS_UNAVAILABLE, cudaGetErrorString(error));
}

int *cuda_stream_error(struct stream *stream)
{
    return of(stream)->error;
}

cudaStream_t cuda_stream_handle(const struct stream *stream)
{
    return of(stream)->cuda;
}

static void copy(struct stream *stream, const char *op, void *to, const void *from, size_t bytes,
                 enum cudaMemcpyKind kind)
{
    cudaStream_t cuda;
    if (cuda_stream_begin(stream, op, &cuda))
        cuda_stream_check(stream, op, cudaMemcpyAsync(to, from, bytes, kind, cuda));
}

extern "C" void cuda_stream_write(struct stream *stream, void *device_to, const void *host_from,
                                  size_t bytes)
{
    copy(stream, "write", device_to, host_from, bytes, cudaMemcpyHostToDevice);
}

extern "C" void cuda_stream_read(struct stream *stream, void *host_to, const void *device_from,
                                 size_t bytes)
{
    copy(stream, "read", host_to, device_from, bytes, cudaMemcpyDeviceToHost);
}

/* --- capture --- */

int cuda_stream_begin_capture(struct stream *base, struct why *why)
{
    struct cuda_stream *stream = of(base);
    if (stream->status != STATUS_OK)
        return refuse(why, stream->status, "no graph can be made, the stream has failed: %s",
                      status_text(stream->status));
    cuda_device_make_current(base->device);
    cudaError_t error = cudaStreamBeginCapture(stream->cuda, cudaStreamCaptureModeThreadLocal);
    if (error != cudaSuccess) {
        cudaGetLastError();
        return refuse(why, cuda_status_of(error), "the GPU does not begin a graph: %s",
                      cudaGetErrorString(error));
    }
    stream->is_capturing = true;
    stream->capture_status = STATUS_OK;
    return STATUS_OK;
}

int cuda_stream_end_capture(struct stream *base, cudaGraph_t *out, struct why *why)
{
    struct cuda_stream *stream = of(base);
    *out = NULL;
    cudaError_t error = cudaStreamEndCapture(stream->cuda, out);
    stream->is_capturing = false;
    if (error == cudaSuccess && stream->capture_status == STATUS_OK)
        return STATUS_OK;
    cudaGetLastError();
    if (*out != NULL)
        cudaGraphDestroy(*out);
    *out = NULL;
    if (stream->capture_status != STATUS_OK)
        return refuse(why, stream->capture_status, "%s", stream->capture_why.text);
    return refuse(why, cuda_status_of(error), "%s", cudaGetErrorString(error));
}

/* --- lists --- */

/* A list that an error cut short is recorded too, if CUDA lets it be: its copies use memory of the
 * host until it has passed. */
extern "C" void cuda_stream_submit(struct stream *base)
{
    struct cuda_stream *stream = of(base);
    uint32_t at = (stream->oldest + base->n_under_way) % DEVICE_DEPTH_MAX;
    struct cuda_list *list = &stream->lists[at];
    stream->n_pending = 0;
    cuda_device_make_current(base->device);
    cudaError_t error = cudaMemcpyAsync(list->error_copy, stream->error, sizeof *stream->error,
                                        cudaMemcpyDeviceToHost, stream->cuda);
    if (error == cudaSuccess)
        error = cudaEventRecord(list->passed, stream->cuda);
    cuda_stream_check(base, "submit", error);
    list->is_recorded = error == cudaSuccess;
    stream->last = list->passed;
}

/* list NULL: there is none, one poll is all. */
static void wait_for(struct cuda_stream *stream, const struct cuda_list *list,
                     void (*poll)(void *arg), void *arg)
{
    bool is_recorded = list != NULL && list->is_recorded;
    int64_t next_poll_ns = 0;
    cudaError_t error = cudaErrorNotReady;
    while (error == cudaErrorNotReady) {
        if (poll != NULL && clock_now(&clock_monotonic) >= next_poll_ns) {
            poll(arg);
            next_poll_ns = clock_now(&clock_monotonic) + POLL_NS;
        }
        error = is_recorded ? cudaEventQuery(list->passed) : cudaSuccess;
        if (error == cudaErrorNotReady)
            sched_yield();
    }
    if (list != NULL && !is_recorded) /* what it copies still uses memory of the host */
        error = cudaStreamSynchronize(stream->cuda);
    cuda_stream_check(&stream->base, "wait", error);
    if (is_recorded && error == cudaSuccess && *list->error_copy != 0)
        fail(stream, "kernel", *list->error_copy, "told by a kernel");
}

extern "C" int cuda_stream_wait(struct stream *base, void (*poll)(void *arg), void *arg)
{
    struct cuda_stream *stream = of(base);
    bool is_any = base->n_under_way > 0;
    wait_for(stream, is_any ? &stream->lists[stream->oldest] : NULL, poll, arg);
    if (is_any)
        stream->oldest = (stream->oldest + 1) % DEVICE_DEPTH_MAX;
    return stream->status;
}

extern "C" bool cuda_stream_is_done(const struct stream *base)
{
    const struct cuda_list *list = &of(base)->lists[of(base)->oldest];
    cuda_device_make_current(base->device);
    return !list->is_recorded || cudaEventQuery(list->passed) != cudaErrorNotReady;
}

/* --- beside others --- */

/* A wait takes the event as it was recorded last before it: that it is recorded again is no matter.
 */
extern "C" void cuda_stream_start(struct stream *base)
{
    struct cuda_stream *stream = of(base);
    stream->n_pending = 0;
    cuda_device_make_current(base->device);
    cuda_stream_check(base, "start", cudaEventRecord(stream->started, stream->cuda));
    stream->last = stream->started;
}

extern "C" void cuda_stream_follow(struct stream *base, const struct stream *first_base)
{
    struct cuda_stream *stream = of(base);
    const struct cuda_stream *first = of(first_base);
    cuda_device_make_current(base->device);
    if (first->status != STATUS_OK)
        fail(stream, "follow", first->status, "what it follows has failed");
    else if (first->last != NULL)
        cuda_stream_check(base, "follow", cudaStreamWaitEvent(stream->cuda, first->last, 0));
}
