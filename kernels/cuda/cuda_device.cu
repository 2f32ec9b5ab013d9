#include "kernels/cuda/cuda_device_list.cuh"
#include "kernels/cuda/cuda_stream.cuh"

#include <assert.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include "base/clock.h"
#include "base/log.h"
#include "base/status.h"
}

#define POLL_NS 200000 /* between two polls of a waiting host, at least */

struct cuda_device {
    struct device base;
    int index;
    cudaStream_t loading; /* copies outside of steps */
    size_t n_blocks;
    char name[288];
};

struct cuda_stream {
    struct stream base;
    cudaStream_t cuda;
    cudaEvent_t passed;    /* recorded by submit */
    bool is_submitted;
    uint32_t n_ops, n_pending;
    int *error;            /* device: the first status that a kernel put there */
    int *error_copy;       /* pinned: as of the last submit */
    int status;
};

static struct cuda_device *device_of(const struct device *device)
{
    return (struct cuda_device *)device;
}

static struct cuda_stream *stream_of(const struct stream *stream)
{
    return (struct cuda_stream *)stream;
}

/* --- the device --- */

/* CUDA has a current device for each thread of the host, device 0 to begin with: one that loads and
 * one that steps must both say which they mean. */
static thread_local int current = -1;

static cudaError_t choose(int index)
{
    cudaError_t error = cudaSetDevice(index);
    current = error == cudaSuccess ? index : -1;
    return error;
}

/* An error shows in the call behind it. */
static void make_current(const struct device *device)
{
    if (current != device_of(device)->index)
        choose(device_of(device)->index);
}

static int refuse_index(uint32_t index, int n_devices, struct why *why)
{
    return refuse(why, STATUS_OUT_OF_RANGE,
                  "there is no GPU %u: the driver shows %d, counted from 0; quire devices lists "
                  "them, --device chooses one",
                  index, n_devices);
}

extern "C" int cuda_device_open(const struct device_options *options, struct device **out,
                                struct why *why)
{
    int n_devices = 0, index = (int)options->index;
    struct cudaDeviceProp properties;
    cudaError_t error = cudaGetDeviceCount(&n_devices);
    if (error == cudaSuccess && n_devices == 0)
        error = cudaErrorNoDevice;
    if (error == cudaSuccess && options->index >= (uint32_t)n_devices)
        return refuse_index(options->index, n_devices, why);
    if (error == cudaSuccess)
        error = choose(index);
    if (error == cudaSuccess)
        error = cudaGetDeviceProperties(&properties, index);
    if (error != cudaSuccess)
        return cuda_refuse_devices(error, why);
    if (properties.major < CUDA_MAJOR_MIN)
        return refuse(why, STATUS_UNAVAILABLE,
                      "GPU %d, %s, has compute capability %d.%d; %d.0 (A100, RTX 30) is the least",
                      index, properties.name, properties.major, properties.minor, CUDA_MAJOR_MIN);

    struct cuda_device *device = (struct cuda_device *)calloc(1, sizeof *device);
    if (device == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a device (%zu bytes)", sizeof *device);
    error = cudaStreamCreateWithFlags(&device->loading, cudaStreamNonBlocking);
    if (error != cudaSuccess) {
        free(device);
        return cuda_refuse_devices(error, why);
    }
    device->base.backend = &cuda_backend;
    device->index = index;
    snprintf(device->name, sizeof device->name, "cuda %d, %s", index, properties.name);
    *out = &device->base;
    return STATUS_OK;
}

extern "C" void cuda_device_close(struct device *base)
{
    struct cuda_device *device = device_of(base);
    assert(device->n_blocks == 0);
    cudaStreamDestroy(device->loading);
    free(device);
}

extern "C" const char *cuda_device_name(const struct device *device)
{
    return device_of(device)->name;
}

extern "C" int cuda_device_n_threads(const struct device *)
{
    return 1;
}

static int status_of(cudaError_t error)
{
    if (error == cudaSuccess)
        return STATUS_OK;
    return error == cudaErrorMemoryAllocation ? STATUS_NO_MEMORY : STATUS_UNAVAILABLE;
}

extern "C" uint64_t cuda_device_memory_free(const struct device *device)
{
    size_t free_bytes = 0, total_bytes = 0;
    make_current(device);
    return cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess ? free_bytes : 0;
}

extern "C" int cuda_device_alloc(struct device *base, size_t bytes, void **out, struct why *why)
{
    struct cuda_device *device = device_of(base);
    size_t taken = bytes == 0 ? 1 : bytes;
    make_current(base);
    cudaError_t error = cudaMalloc(out, taken);
    if (error != cudaSuccess) {
        cudaGetLastError();
        return refuse(why, status_of(error),
                      "%zu bytes of GPU memory are needed and %llu are free (%s); take a smaller "
                      "model or --kv-memory, or a GPU with more",
                      bytes, (unsigned long long)cuda_device_memory_free(base),
                      cudaGetErrorString(error));
    }
    device->n_blocks++;
    error = cudaMemsetAsync(*out, 0, taken, device->loading);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(device->loading);
    if (error == cudaSuccess)
        return STATUS_OK;
    cuda_device_free(base, *out);
    return refuse(why, status_of(error), "the GPU does not clear its memory: %s",
                  cudaGetErrorString(error));
}

extern "C" void cuda_device_free(struct device *base, void *memory)
{
    cudaFree(memory);
    device_of(base)->n_blocks--;
}

static int copy(struct device *base, void *to, const void *from, size_t bytes,
                enum cudaMemcpyKind kind)
{
    cudaStream_t loading = device_of(base)->loading;
    make_current(base);
    cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, loading);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(loading);
    return status_of(error);
}

extern "C" int cuda_device_upload(struct device *device, void *device_to, const void *host_from,
                                  size_t bytes)
{
    return copy(device, device_to, host_from, bytes, cudaMemcpyHostToDevice);
}

extern "C" int cuda_device_download(struct device *device, void *host_to, const void *device_from,
                                    size_t bytes)
{
    return copy(device, host_to, device_from, bytes, cudaMemcpyDeviceToHost);
}

/* --- streams --- */

extern "C" int cuda_stream_create(struct device *device, uint32_t n_ops, struct stream **out,
                                  struct why *why)
{
    struct cuda_stream *stream = (struct cuda_stream *)calloc(1, sizeof *stream);
    if (stream == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a stream (%zu bytes)", sizeof *stream);
    stream->base.device = device;
    stream->n_ops = n_ops;
    make_current(device);
    cudaError_t error = cudaStreamCreateWithFlags(&stream->cuda, cudaStreamNonBlocking);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&stream->passed, cudaEventDisableTiming);
    if (error == cudaSuccess)
        error = cudaMallocHost((void **)&stream->error_copy, sizeof *stream->error_copy);
    if (error == cudaSuccess)
        error = cudaMalloc((void **)&stream->error, sizeof *stream->error);
    if (error == cudaSuccess)
        error = cudaMemsetAsync(stream->error, 0, sizeof *stream->error, stream->cuda);
    if (error != cudaSuccess) {
        cuda_stream_free(&stream->base);
        return refuse(why, status_of(error), "the GPU gives no stream: %s",
                      cudaGetErrorString(error));
    }
    *stream->error_copy = 0;
    *out = &stream->base;
    return STATUS_OK;
}

extern "C" void cuda_stream_free(struct stream *base)
{
    struct cuda_stream *stream = stream_of(base);
    cudaFree(stream->error);
    cudaFreeHost(stream->error_copy);
    if (stream->passed != NULL)
        cudaEventDestroy(stream->passed);
    if (stream->cuda != NULL)
        cudaStreamDestroy(stream->cuda);
    free(stream);
}

extern "C" int cuda_stream_status(const struct stream *stream)
{
    return stream_of(stream)->status;
}

static void fail(struct cuda_stream *stream, const char *op, int status, const char *text)
{
    if (stream->status != STATUS_OK)
        return;
    stream->status = status;
    log_write(LOG_ERROR, "device_error", "op=%s status=%s text=\"%s\"", op, status_name(status),
              text);
}

bool cuda_stream_begin(struct stream *base, const char *op, cudaStream_t *out)
{
    struct cuda_stream *stream = stream_of(base);
    base->n_enqueued++;
    if (stream->n_pending == stream->n_ops)
        fail(stream, op, STATUS_INTERNAL, "more ops than the stream was made for");
    if (stream->status != STATUS_OK)
        return false;
    make_current(base->device);
    stream->n_pending++;
    *out = stream->cuda;
    return true;
}

void cuda_stream_check(struct stream *stream, const char *op, cudaError_t error)
{
    if (error != cudaSuccess)
        fail(stream_of(stream), op, STATUS_UNAVAILABLE, cudaGetErrorString(error));
}

int *cuda_stream_error(struct stream *stream)
{
    return stream_of(stream)->error;
}

extern "C" void cuda_stream_write(struct stream *stream, void *device_to, const void *host_from,
                                  size_t bytes)
{
    cudaStream_t cuda;
    if (cuda_stream_begin(stream, "write", &cuda))
        cuda_stream_check(stream, "write",
                          cudaMemcpyAsync(device_to, host_from, bytes, cudaMemcpyHostToDevice,
                                          cuda));
}

extern "C" void cuda_stream_read(struct stream *stream, void *host_to, const void *device_from,
                                 size_t bytes)
{
    cudaStream_t cuda;
    if (cuda_stream_begin(stream, "read", &cuda))
        cuda_stream_check(stream, "read",
                          cudaMemcpyAsync(host_to, device_from, bytes, cudaMemcpyDeviceToHost,
                                          cuda));
}

extern "C" void cuda_stream_submit(struct stream *base)
{
    struct cuda_stream *stream = stream_of(base);
    if (stream->status != STATUS_OK)
        return;
    make_current(base->device);
    cudaError_t error = cudaMemcpyAsync(stream->error_copy, stream->error, sizeof *stream->error,
                                        cudaMemcpyDeviceToHost, stream->cuda);
    if (error == cudaSuccess)
        error = cudaEventRecord(stream->passed, stream->cuda);
    cuda_stream_check(base, "submit", error);
    stream->is_submitted = error == cudaSuccess;
}

extern "C" int cuda_stream_wait(struct stream *base, void (*poll)(void *arg), void *arg)
{
    struct cuda_stream *stream = stream_of(base);
    int64_t next_poll_ns = 0;
    cudaError_t error = cudaErrorNotReady;
    do {
        int64_t now = clock_now(&clock_monotonic);
        if (poll != NULL && now >= next_poll_ns) {
            poll(arg);
            next_poll_ns = clock_now(&clock_monotonic) + POLL_NS;
        }
        if (!stream->is_submitted || stream->status != STATUS_OK)
            break;
        error = cudaEventQuery(stream->passed);
        if (error == cudaErrorNotReady)
            sched_yield();
    } while (error == cudaErrorNotReady);
    if (stream->is_submitted && error != cudaErrorNotReady) {
        cuda_stream_check(base, "wait", error);
        if (error == cudaSuccess && *stream->error_copy != 0)
            fail(stream, "kernel", *stream->error_copy, "told by a kernel");
    }
    stream->is_submitted = false;
    stream->n_pending = 0;
    return stream->status;
}
