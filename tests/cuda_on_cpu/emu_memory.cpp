/* tests/cuda_on_cpu/emu_memory.cpp: the CUDA runtime's memory: allocations, copies, fills.
 *
 * Each allocation is a block of memory of its own, filled with 0xFF. Copies are checked against
 * the allocations that they touch, in every build.
 */
#include <cuda_runtime_api.h>

#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

#include "tests/cuda_on_cpu/emu_sanitizer.h"
#include "tests/cuda_on_cpu/emu_shared.h"
#include "tests/cuda_on_cpu/emu_stream.h"

#define ALLOCATION_ALIGNMENT 256

enum place { PLACE_PAGEABLE, PLACE_PINNED, PLACE_DEVICE };

struct allocation {
    size_t bytes;
    enum place place;
};

static std::map<const char *, struct allocation> &allocations(void)
{
    static std::map<const char *, struct allocation> map;
    return map;
}

static size_t device_bytes_used;

static size_t device_bytes(void)
{
    const char *text = getenv("EMU_DEVICE_MBYTES");
    return (text != NULL ? strtoull(text, NULL, 10) : 8192) << 20;
}

/* The allocation that holds the address, or NULL: pageable memory. */
static const std::pair<const char *const, struct allocation> *find(const void *address)
{
    auto next = allocations().upper_bound((const char *)address);
    if (next == allocations().begin())
        return NULL;
    --next;
    return (const char *)address < next->first + next->second.bytes ? &*next : NULL;
}

static enum place place_of(const void *address)
{
    auto found = find(address);
    return found != NULL ? found->second.place : PLACE_PAGEABLE;
}

/* Whether all bytes lie in one allocation of that place; pageable memory is not ours to check. */
static bool holds(const void *address, size_t bytes, bool on_device)
{
    auto found = find(address);
    if (found == NULL)
        return !on_device;
    if (on_device != (found->second.place == PLACE_DEVICE))
        return false;
    return (const char *)address + bytes <= found->first + found->second.bytes;
}

/* --- allocating --- */

static cudaError_t take(void **out, size_t bytes, enum place place)
{
    emu_count(EMU_ALLOCATIONS);
    cudaError_t error = emu_outside_of_capture();
    if (error != cudaSuccess)
        return error;
    *out = NULL;
    if (bytes == 0)
        return cudaSuccess;
    if (place == PLACE_DEVICE && bytes > device_bytes() - device_bytes_used)
        return emu_fail(cudaErrorMemoryAllocation);
    if (posix_memalign(out, ALLOCATION_ALIGNMENT, bytes) != 0)
        return emu_fail(cudaErrorMemoryAllocation);
    memset(*out, EMU_POISON, bytes);
    allocations()[(const char *)*out] = {bytes, place};
    if (place == PLACE_DEVICE)
        device_bytes_used += bytes;
    return cudaSuccess;
}

/* Waits for the device, as cudaFree does. */
static cudaError_t give_back(void *memory, enum place place)
{
    if (memory == NULL)
        return cudaSuccess;
    emu_count(EMU_ALLOCATIONS);
    cudaError_t error = emu_outside_of_capture();
    if (error == cudaErrorStreamCaptureUnsupported)
        return error;
    emu_run_all();
    auto found = allocations().find((const char *)memory);
    if (found == allocations().end() || found->second.place != place)
        return emu_fail(cudaErrorInvalidValue);
    if (place == PLACE_DEVICE)
        device_bytes_used -= found->second.bytes;
    allocations().erase(found);
    free(memory);
    return error;
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    return take(out, bytes, PLACE_DEVICE);
}

cudaError_t cudaFree(void *memory)
{
    return give_back(memory, PLACE_DEVICE);
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned)
{
    return take(out, bytes, PLACE_PINNED);
}

cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    return take(out, bytes, PLACE_PINNED);
}

cudaError_t cudaFreeHost(void *memory)
{
    return give_back(memory, PLACE_PINNED);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *total_bytes = device_bytes();
    *free_bytes = *total_bytes - device_bytes_used;
    return emu_fail(emu_status());
}

/* --- copying and filling --- */

static bool kind_fits(const void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    switch (kind) {
    case cudaMemcpyHostToHost:
        return holds(to, bytes, false) && holds(from, bytes, false);
    case cudaMemcpyHostToDevice:
        return holds(to, bytes, true) && holds(from, bytes, false);
    case cudaMemcpyDeviceToHost:
        return holds(to, bytes, false) && holds(from, bytes, true);
    case cudaMemcpyDeviceToDevice:
        return holds(to, bytes, true) && holds(from, bytes, true);
    default:
        return holds(to, bytes, place_of(to) == PLACE_DEVICE) &&
               holds(from, bytes, place_of(from) == PLACE_DEVICE);
    }
}

static cudaError_t refuse_copy(const void *to, const void *from, size_t bytes)
{
    fprintf(stderr, "cuda_on_cpu: a copy of %zu bytes from %p to %p is not within allocations\n",
            bytes, from, to);
    return emu_fail(cudaErrorInvalidValue);
}

/* From pageable memory the bytes are taken at once; to pageable memory the call waits for them: as
 * the runtime's documentation has it for asynchronous copies of memory that is not pinned. */
static cudaError_t copy_pageable(void *to, const void *from, size_t bytes, cudaStream_t stream)
{
    cudaError_t error = emu_outside_of_capture();
    if (error != cudaSuccess)
        return error;
    if (place_of(from) == PLACE_PAGEABLE) {
        std::vector<char> taken((const char *)from, (const char *)from + bytes);
        return emu_enqueue(stream, [=] {
            memcpy(to, taken.data(), bytes);
            return cudaSuccess;
        });
    }
    error = emu_enqueue(stream, [=] {
        memmove(to, from, bytes);
        return cudaSuccess;
    });
    return error != cudaSuccess ? error : emu_run_stream(stream);
}

/* A driver may wait in either direction when the host's memory is not pinned: both count. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    if (!kind_fits(to, from, bytes, kind))
        return refuse_copy(to, from, bytes);
    if (place_of(from) == PLACE_PAGEABLE || place_of(to) == PLACE_PAGEABLE) {
        emu_count(EMU_SYNCHRONISATIONS);
        return copy_pageable(to, from, bytes, stream);
    }
    return emu_enqueue(stream, [=] {
        memmove(to, from, bytes);
        return cudaSuccess;
    });
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    if (!kind_fits(to, from, bytes, kind))
        return refuse_copy(to, from, bytes);
    emu_count(EMU_SYNCHRONISATIONS);
    cudaError_t error = copy_pageable(to, from, bytes, NULL);
    return error != cudaSuccess ? error : emu_run_stream(NULL);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    if (!holds(to, bytes, true)) {
        fprintf(stderr, "cuda_on_cpu: a fill of %zu bytes at %p is not within an allocation\n",
                bytes, to);
        return emu_fail(cudaErrorInvalidValue);
    }
    return emu_enqueue(stream, [=] {
        memset(to, value, bytes);
        return cudaSuccess;
    });
}
