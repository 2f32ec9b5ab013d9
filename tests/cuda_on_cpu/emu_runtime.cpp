/* tests/cuda_on_cpu/emu_runtime.cpp: the CUDA runtime's questions about devices, functions and
 * errors.
 */
#include <cuda_runtime_api.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cuda_on_cpu/emu_chip.h"
#include "tests/cuda_on_cpu/emu_launch.h"
#include "tests/cuda_on_cpu/emu_stream.h"

#define SM_COUNT 4 /* multiprocessors: anything small; results must not depend on it */

static int number_of(const char *name, int otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? atoi(text) : otherwise;
}

static int n_devices(void)
{
    return number_of("EMU_DEVICES", 1);
}

/* Of CUDA as the driver counts it; 0 where there is none. */
static int driver_version(void)
{
    return number_of("EMU_DRIVER", CUDART_VERSION);
}

/* A driver runs programs of its own major version and of older ones. */
static cudaError_t any_device(void)
{
    if (driver_version() / 1000 < CUDART_VERSION / 1000)
        return cudaErrorInsufficientDriver;
    return n_devices() > 0 ? emu_status() : cudaErrorNoDevice;
}

/* Each thread of the host has its own. */
static thread_local int current;

int emu_current_device(void)
{
    return current;
}

cudaError_t cudaGetDeviceCount(int *out)
{
    cudaError_t error = any_device();
    *out = error == cudaSuccess ? n_devices() : 0;
    return emu_fail(error);
}

cudaError_t cudaSetDevice(int device)
{
    cudaError_t error = any_device();
    if (error == cudaSuccess && (device < 0 || device >= n_devices()))
        error = cudaErrorInvalidDevice;
    if (error == cudaSuccess)
        current = device;
    return emu_fail(error);
}

cudaError_t cudaGetDevice(int *out)
{
    *out = current;
    return emu_fail(any_device());
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int device)
{
    if (device < 0 || device >= n_devices())
        return emu_fail(cudaErrorInvalidDevice);
    size_t free_bytes = 0;
    memset(out, 0, sizeof *out);
    int capability = number_of("EMU_CAPABILITY", emu_chip_sm());
    snprintf(out->name, sizeof out->name, "an sm_%d emulated on the CPU", emu_chip_sm());
    out->major = capability / 10;
    out->minor = capability % 10;
    out->multiProcessorCount = SM_COUNT;
    out->warpSize = EMU_WARP_LANES;
    out->maxThreadsPerBlock = EMU_THREADS_MAX;
    out->sharedMemPerBlock = EMU_STATIC_SHARED_BYTES_MAX;
    out->sharedMemPerBlockOptin = emu_chip_shared_bytes_max();
    return cudaMemGetInfo(&free_bytes, &out->totalGlobalMem);
}

cudaError_t cudaDeviceGetAttribute(int *out, enum cudaDeviceAttr attribute, int device)
{
    struct cudaDeviceProp properties;
    cudaError_t error = cudaGetDeviceProperties(&properties, device);
    if (error != cudaSuccess)
        return error;
    switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
        *out = properties.major;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *out = properties.minor;
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *out = properties.multiProcessorCount;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *out = (int)properties.sharedMemPerBlockOptin;
        return cudaSuccess;
    default:
        return emu_fail(cudaErrorNotSupported);
    }
}

cudaError_t cudaDriverGetVersion(int *out)
{
    *out = driver_version();
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *out)
{
    *out = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attribute, int value)
{
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0)
        return emu_fail(cudaErrorInvalidValue);
    cudaError_t error = emu_status();
    return emu_fail(error != cudaSuccess ? error : emu_allow_shared(function, (size_t)value));
}

/* --- errors --- */

static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorIllegalState, "cudaErrorIllegalState",
     "the operation cannot be performed in the present state"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined",
     "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
};

const char *cudaGetErrorName(cudaError_t error)
{
    for (const auto &row : errors)
        if (row.error == error)
            return row.name;
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
    for (const auto &row : errors)
        if (row.error == error)
            return row.text;
    return "unrecognized error code";
}
