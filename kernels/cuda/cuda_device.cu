#include "kernels/cuda/cuda_device_list.cuh"
#include "kernels/cuda/cuda_stream.cuh"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include "base/status.h"
}

struct cuda_device {
    struct device base;
    int index;
    cudaStream_t loading; /* copies outside of steps */
    size_t n_blocks;
    char name[288];
};

static struct cuda_device *device_of(const struct device *device)
{
    return (struct cuda_device *)device;
}

/* CUDA has a current device for each thread of the host, device 0 to begin with: one that loads and
 * one that steps must both say which they mean. */
static thread_local int current = -1;

static cudaError_t choose(int index)
{
    cudaError_t error = cudaSetDevice(index);
    current = error == cudaSuccess ? index : -1;
    return error;
}

extern "C" bool cuda_device_make_current(const struct device *device)
{
    int index = device_of(device)->index;
    return current == index || choose(index) == cudaSuccess;
}

static cudaError_t make_current(const struct device *device)
{
    return cuda_device_make_current(device) ? cudaSuccess : cudaErrorInvalidDevice;
}

static int refuse_index(uint32_t index, int n_devices, struct why *why)
{
    return refuse(why, STATUS_OUT_OF_RANGE,
                  "there is no GPU %u: the driver shows %d, counted from 0; quire devices lists "
                  "them, --device chooses one",
                  index, n_devices);
}

static int refuse_chip(int index, const struct cudaDeviceProp *properties, struct why *why)
{
    char chips[128];
    return refuse(why, STATUS_UNAVAILABLE,
                  "GPU %d, %s, has compute capability %d.%d; this program has code for %s%s", index,
                  properties->name, properties->major, properties->minor,
                  cuda_name_code(chips, sizeof chips),
                  properties->major < CUDA_MAJOR_MIN
                      ? ", and none can be made for less than 8.0 (A100, RTX 30)"
                      : ": build it without QUIRE_CUDA_CHIPS, or by a newer CUDA toolkit");
}

extern "C" int cuda_device_open(const struct device_options *options, struct device **out,
                                struct why *why)
{
    int n_devices = 0, index = (int)options->index;
    struct cudaDeviceProp properties;
    cuda_load_at_once();
    cudaError_t error = cudaGetDeviceCount(&n_devices);
    if (error == cudaSuccess && n_devices == 0)
        error = cudaErrorNoDevice;
    if (error == cudaSuccess && options->index >= (uint32_t)n_devices)
        return refuse_index(options->index, n_devices, why);
    if (error == cudaSuccess)
        error = cudaGetDeviceProperties(&properties, index);
    if (error != cudaSuccess)
        return cuda_refuse_devices(error, why);
    if (!cuda_has_code(properties.major, properties.minor))
        return refuse_chip(index, &properties, why);
    error = choose(index); /* takes memory of the GPU */
    if (error != cudaSuccess)
        return cuda_refuse_devices(error, why);

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
    cuda_device_make_current(base);
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

extern "C" uint64_t cuda_device_memory_free(const struct device *device)
{
    size_t free_bytes = 0, total_bytes = 0;
    cudaError_t error = make_current(device);
    if (error == cudaSuccess)
        error = cudaMemGetInfo(&free_bytes, &total_bytes);
    return error == cudaSuccess ? free_bytes : 0;
}

extern "C" int cuda_device_alloc(struct device *base, size_t bytes, void **out, struct why *why)
{
    struct cuda_device *device = device_of(base);
    size_t taken = bytes == 0 ? 1 : bytes;
    cudaError_t error = make_current(base);
    if (error == cudaSuccess)
        error = cudaMalloc(out, taken);
    if (error != cudaSuccess) {
        cudaGetLastError();
        return refuse(why, cuda_status_of(error),
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
    return refuse(why, cuda_status_of(error), "the GPU does not clear its memory: %s",
                  cudaGetErrorString(error));
}

extern "C" void cuda_device_free(struct device *base, void *memory)
{
    cuda_device_make_current(base);
    cudaFree(memory);
    device_of(base)->n_blocks--;
}

extern "C" int cuda_device_alloc_host(struct device *device, size_t bytes, void **out,
                                      struct why *why)
{
    size_t taken = bytes == 0 ? 1 : bytes;
    cudaError_t error = make_current(device);
    if (error == cudaSuccess)
        error = cudaMallocHost(out, taken);
    if (error != cudaSuccess) {
        cudaGetLastError();
        return refuse(why, cuda_status_of(error),
                      "%zu bytes of the host's memory cannot be pinned for the GPU (%s): free "
                      "some, or lower --host-pool, --max-sequences or --max-context",
                      bytes, cudaGetErrorString(error));
    }
    memset(*out, 0, taken);
    return STATUS_OK;
}

extern "C" void cuda_device_free_host(struct device *device, void *memory)
{
    cuda_device_make_current(device);
    cudaFreeHost(memory);
}

static int copy(struct device *base, void *to, const void *from, size_t bytes,
                enum cudaMemcpyKind kind)
{
    cudaStream_t loading = device_of(base)->loading;
    cudaError_t error = make_current(base);
    if (error == cudaSuccess)
        error = cudaMemcpyAsync(to, from, bytes, kind, loading);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(loading);
    return cuda_status_of(error);
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
