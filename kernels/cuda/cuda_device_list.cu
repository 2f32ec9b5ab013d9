#include "kernels/cuda/cuda_device_list.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include "base/status.h"
#include "kernels/cuda/cuda_device.h"
}

/* CUDA's versions count 12040 for 12.4. */
static int major_of(int version)
{
    return version / 1000;
}

static int minor_of(int version)
{
    return version % 1000 / 10;
}

int cuda_refuse_devices(cudaError_t error, struct why *why)
{
    int driver = 0, needed = 0;
    cudaGetLastError();
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&needed);
    if (driver == 0)
        return refuse(why, STATUS_UNAVAILABLE,
                      "there is no CUDA driver; install NVIDIA's to use a GPU (inside a container, "
                      "start it with the GPU)");
    if (error == cudaErrorInsufficientDriver)
        return refuse(why, STATUS_UNAVAILABLE,
                      "the CUDA driver is one of CUDA %d.%d and this program needs %d.0 or newer; "
                      "update the driver",
                      major_of(driver), minor_of(driver), major_of(needed));
    if (error == cudaErrorNoDevice)
        return refuse(why, STATUS_UNAVAILABLE,
                      "the CUDA driver shows no GPU; see nvidia-smi, and CUDA_VISIBLE_DEVICES");
    return refuse(why, STATUS_UNAVAILABLE, "no CUDA device can be used here: %s; see nvidia-smi",
                  cudaGetErrorString(error));
}

void cuda_load_at_once(void)
{
    setenv("CUDA_MODULE_LOADING", "EAGER", 1);
}

static const int chips[] = {QUIRE_CHIPS}; /* of the build: 80 is compute capability 8.0 */
#define N_CHIPS (sizeof chips / sizeof chips[0])

bool cuda_has_code(int major, int minor)
{
    for (size_t i = 0; i < N_CHIPS; i++)
        if (major == chips[i] / 10 && minor >= chips[i] % 10)
            return true;
    return QUIRE_PTX > 0 && major * 10 + minor >= QUIRE_PTX;
}

const char *cuda_name_code(char *out, size_t bytes)
{
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < N_CHIPS && n < bytes; i++)
        n += (size_t)snprintf(out + n, bytes - n, "%s%d.%d", i > 0 ? ", " : "", chips[i] / 10,
                              chips[i] % 10);
    return out;
}

static cudaError_t read_facts(int index, struct device_facts *out)
{
    struct cudaDeviceProp properties;
    size_t free_bytes = 0, total_bytes = 0;
    cudaError_t error = cudaGetDeviceProperties(&properties, index);
    if (error != cudaSuccess)
        return error;
    memset(out, 0, sizeof *out);
    out->index = (uint32_t)index;
    snprintf(out->name, sizeof out->name, "%.*s", DEVICE_NAME_BYTES - 1, properties.name);
    out->n_cores = (uint32_t)properties.multiProcessorCount;
    out->major = (uint32_t)properties.major;
    out->minor = (uint32_t)properties.minor;
    out->memory_bytes = properties.totalGlobalMem;
    out->shared_bytes = properties.sharedMemPerBlockOptin;
    out->l2_bytes = (uint64_t)properties.l2CacheSize;
    out->is_usable = cuda_has_code(properties.major, properties.minor);
    /* one that is in use by another process alone, or broken, tells no more */
    if (cudaSetDevice(index) == cudaSuccess &&
        cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess)
        out->memory_free = free_bytes;
    cudaGetLastError();
    return cudaSuccess;
}

extern "C" int cuda_device_list(struct device_facts *out, uint32_t *n, struct why *why)
{
    int n_devices = 0, current = 0;
    *n = 0;
    cuda_load_at_once();
    cudaError_t error = cudaGetDeviceCount(&n_devices);
    if (error == cudaSuccess)
        error = cudaGetDevice(&current);
    if (error == cudaSuccess && n_devices == 0)
        error = cudaErrorNoDevice;
    for (int i = 0; error == cudaSuccess && i < n_devices && i < DEVICES_MAX; i++) {
        error = read_facts(i, &out[*n]);
        *n += error == cudaSuccess ? 1 : 0;
    }
    if (*n > 0)
        cudaSetDevice(current); /* an open device counts on it */
    return *n > 0 ? STATUS_OK : cuda_refuse_devices(error, why);
}
