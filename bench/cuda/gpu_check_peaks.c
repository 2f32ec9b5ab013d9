/* What the device does at most: copies of memory far beyond its caches, mma from registers. */
#include "base/status.h"
#include "bench/cuda/gpu_check.h"
#include "bench/cuda/gpu_ops.h"

#include <math.h>

#ifdef GPU_CHECK_EMULATED
#define COPY_BYTES ((size_t)1 << 20)
#define MMA_BLOCKS_PER_CORE 1
#define MMA_TURNS 2
#define REPEATS 1
#else
#define COPY_BYTES ((size_t)2 << 30)
#define MMA_BLOCKS_PER_CORE 16
#define MMA_TURNS 20000
#define REPEATS 10 /* the best counts */
#endif

static int run_list(struct stream *stream, double *seconds)
{
    double begin = check_now();
    device_submit(stream);
    int status = device_wait(stream, NULL, NULL);
    *seconds = fmin(*seconds, check_now() - begin);
    return status;
}

static int measure_copy(struct gpu_check *check, struct stream *stream, struct why *why)
{
    size_t bytes = COPY_BYTES, most = (size_t)device_memory_free(check->device) / 4;
    void *from, *to;
    double seconds = INFINITY;
    bytes = (bytes < most ? bytes : most) / 16 * 16;
    int status = device_alloc(check->device, bytes, &from, why);
    if (status < 0)
        return status;
    status = device_alloc(check->device, bytes, &to, why);
    for (int i = 0; i < REPEATS && status == STATUS_OK; i++) {
        gpu_copy(stream, to, from, bytes);
        status = run_list(stream, &seconds);
    }
    if (status == STATUS_OK)
        check->report->copy_bytes_per_s = 2.0 * (double)bytes / seconds;
    device_free(check->device, from);
    device_free(check->device, to);
    return status;
}

static int measure_mma(struct gpu_check *check, struct stream *stream, struct why *why)
{
    uint32_t n_blocks = check->facts.n_cores * MMA_BLOCKS_PER_CORE;
    void *sums;
    double seconds = INFINITY;
    int status = device_alloc(check->device, (size_t)n_blocks * GPU_MMA_THREADS * sizeof(float),
                              &sums, why);
    if (status < 0)
        return status;
    for (int i = 0; i < REPEATS && status == STATUS_OK; i++) {
        gpu_mma(stream, sums, n_blocks, MMA_TURNS);
        status = run_list(stream, &seconds);
    }
    if (status == STATUS_OK)
        check->report->mma_ops_per_s = gpu_mma_ops(n_blocks, MMA_TURNS) / seconds;
    device_free(check->device, sums);
    return status;
}

int check_peaks(struct gpu_check *check, struct why *why)
{
    struct stream *stream;
    int status = stream_create(check->device, 16, &stream, why);
    if (status < 0)
        return status;
    if (!check_is_cut(check, "copy bandwidth"))
        status = measure_copy(check, stream, why);
    if (status == STATUS_OK && !check_is_cut(check, "mma rate"))
        status = measure_mma(check, stream, why);
    stream_free(stream);
    return status;
}
