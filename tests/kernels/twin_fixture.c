#include "tests/kernels/twin_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

#define TWIN_OPS 16

bool twin_has_cuda(void)
{
    struct device_options options = {.backend = BACKEND_CUDA};
    struct device *device;
    struct why why;
    if (device_open(&options, &device, &why) < 0) {
        printf("skipped: %s\n", why.text);
        return false;
    }
    device_close(device);
    return true;
}

struct twin twin_open(enum backend backend)
{
    struct twin twin = {0};
    struct device_options options = {.backend = backend, .n_threads = 1};
    struct why why;
    if (device_open(&options, &twin.device, &why) < 0 ||
        stream_create(twin.device, TWIN_OPS, &twin.stream, &why) < 0)
        fail_msg("%s", why.text);
    twin.ops = device_ops(twin.device);
    return twin;
}

void twin_close(struct twin *twin)
{
    for (uint32_t i = 0; i < twin->n_allocs; i++)
        device_free(twin->device, twin->allocs[i]);
    stream_free(twin->stream);
    device_close(twin->device);
}

void *twin_alloc(struct twin *twin, size_t bytes)
{
    struct why why;
    assert_true(twin->n_allocs < sizeof twin->allocs / sizeof twin->allocs[0]);
    if (device_alloc(twin->device, bytes, &twin->allocs[twin->n_allocs], &why) < 0)
        fail_msg("%s", why.text);
    void *nans = malloc(bytes);
    memset(nans, 0xff, bytes);
    device_upload(twin->device, twin->allocs[twin->n_allocs], nans, bytes);
    free(nans);
    return twin->allocs[twin->n_allocs++];
}

void *twin_upload(struct twin *twin, const void *from, size_t bytes)
{
    void *to = twin_alloc(twin, bytes);
    assert_int_equal(device_upload(twin->device, to, from, bytes), STATUS_OK);
    return to;
}

void *twin_download(struct twin *twin, const void *from, size_t bytes)
{
    void *to = malloc(bytes);
    assert_non_null(to);
    assert_int_equal(device_download(twin->device, to, from, bytes), STATUS_OK);
    return to;
}

int twin_run(struct twin *twin)
{
    device_submit(twin->stream);
    return device_wait(twin->stream, NULL, NULL);
}

float *random_floats(size_t n, uint32_t seed, float scale)
{
    float *values = malloc(n * sizeof *values);
    assert_non_null(values);
    uint64_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        float value = (float)((double)(x >> 11) * 0x1p-52 - 1.0) * scale;
        values[i] = i % 97 == 0 ? 100.0f * value : value;
    }
    return values;
}
