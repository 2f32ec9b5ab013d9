/* Matrices without a file: filled where they stand, or as bytes of a file. */
#include "bench/cuda/gpu_check_weight.h"

#include "base/status.h"
#include "bench/cuda/gpu_ops.h"
#include "kernels/cuda/cuda_weight.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SOURCES_MAX (2 * CHECK_EXPERTS_MAX)

static uint32_t n_parts_of(const struct check_matrix *matrix)
{
    uint32_t n = 1, most = sizeof matrix->n_out / sizeof *matrix->n_out;
    while (n < most && matrix->n_out[n] > 0)
        n++;
    return n;
}

static uint32_t n_each_of(const struct check_matrix *matrix)
{
    return matrix->n_experts > 0 ? matrix->n_experts : 1;
}

/* Source i is of expert i % n_experts and part i / n_experts. Returns how many there are. */
static uint32_t list_sources(const struct check_matrix *matrix, struct weight_source *sources)
{
    uint32_t n_each = n_each_of(matrix), n = n_parts_of(matrix) * n_each;
    assert(n <= SOURCES_MAX);
    for (uint32_t i = 0; i < n; i++)
        sources[i] = (struct weight_source){.type = matrix->type,
                                            .n_in = matrix->n_in,
                                            .n_out = matrix->n_out[i / n_each],
                                            .name = matrix->name};
    return n;
}

/* How far values deviate under a d of 1, where codes and small scales are any. */
static float deviation_of(uint32_t type)
{
    switch (type) {
    case TENSOR_Q8_0:
    case CUDA_PLANE_BYTES:
    case CUDA_PLANE_HALVES:
        return 74.0f;
    case CUDA_PLANE_SIXTEENS: /* small scales of about 90 */
        return 74.0f * 90.0f;
    case TENSOR_MXFP4:
        return 5.9f;
    case TENSOR_Q5_1:
        return 9.2f;
    case TENSOR_Q4_K:
        return 258.0f;
    case TENSOR_Q6_K:
        return 18.5f * 74.0f;
    default: /* four bits */
        return 4.6f;
    }
}

/* Scales are spread over [scale / 2, scale). `type` is one of the file's, or a plane. */
static float scale_of(uint32_t type, uint32_t n_in)
{
    float deviation = 1.0f / sqrtf((float)n_in);
    if (tensor_type_is_float(type))
        return 1.7f * deviation; /* half the width of an even spread */
    return 4.0f / 3.0f * deviation / deviation_of(type);
}

/* --- on the device --- */

static void fill_segment(struct stream *stream, const struct weight *weight,
                         const struct cuda_segment *segment, uint64_t seed)
{
    size_t n_tiles = (size_t)segment->n_tiles * weight->n_in_tiles;
    size_t bytes = n_tiles * cuda_tile_bytes(segment->type);
    float scale = scale_of(segment->type, weight->n_in);
    void *codes = (void *)segment->codes, *scales = (void *)segment->scales;
    if (segment->type == TENSOR_F32)
        gpu_fill_floats(stream, codes, bytes, seed, -scale, scale);
    else if (segment->type == TENSOR_F16)
        gpu_fill_halves(stream, codes, bytes, seed, -scale, scale);
    else if (segment->type == TENSOR_BF16)
        gpu_fill_bfloats(stream, codes, bytes, seed, -scale, scale);
    else
        gpu_fill_bits(stream, codes, bytes, seed);
    bytes = n_tiles * cuda_tile_scale_bytes(segment->type);
    if (bytes > 0 && cuda_scales_are_floats(segment->type))
        gpu_fill_floats(stream, scales, bytes, seed + 1, scale / 2, scale);
    else if (bytes > 0)
        gpu_fill_halves(stream, scales, bytes, seed + 1, scale / 2, scale);
}

int check_weight_on_device(struct device *device, struct stream *stream,
                           const struct check_matrix *matrix, struct weight **out, struct why *why)
{
    struct weight_source sources[SOURCES_MAX];
    uint32_t n_sources = list_sources(matrix, sources), n_each = n_each_of(matrix);
    struct weight planned, *weight = malloc(sizeof *weight);
    void *memory = NULL;
    if (weight == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a weight");
    int status = cuda_weight_plan(matrix->fuse, sources, n_sources, &planned, why);
    if (status == STATUS_OK)
        status = device_alloc(device, planned.bytes, &memory, why);
    if (status < 0) {
        free(weight);
        return refuse_prefix(why, status, "%s", matrix->name);
    }
    *weight = planned;
    cuda_weight_place(weight, memory);
    for (uint32_t i = 0; i < n_sources; i++) {
        struct cuda_segment segment = cuda_segment_of_expert(weight, i / n_each, i % n_each);
        fill_segment(stream, weight, &segment, matrix->seed + 2 * i);
    }
    device_submit(stream);
    status = device_wait(stream, NULL, NULL);
    if (status < 0) {
        cuda_weight_free(device, weight);
        return refuse(why, status, "%s could not be filled: %s", matrix->name, status_text(status));
    }
    *out = weight;
    return STATUS_OK;
}

uint64_t check_weight_bytes(const struct check_matrix *matrix)
{
    uint64_t bytes = 0, k_tiles = (matrix->n_in + CUDA_TILE_INPUTS - 1) / CUDA_TILE_INPUTS;
    uint32_t plane = cuda_plane_of(matrix->type);
    for (uint32_t i = 0; i < n_parts_of(matrix); i++) {
        uint64_t n_tiles = (matrix->n_out[i] + CUDA_TILE_OUTPUTS - 1) / CUDA_TILE_OUTPUTS;
        bytes += n_tiles * k_tiles * (cuda_tile_bytes(plane) + cuda_tile_scale_bytes(plane));
    }
    return bytes * n_each_of(matrix);
}

/* --- by the host --- */

static uint64_t next_random(uint64_t *x)
{
    *x = *x * 6364136223846793005u + 1442695040888963407u;
    return *x >> 33;
}

static float next_spread(uint64_t *x, float least, float beyond)
{
    return least + (beyond - least) * (float)next_random(x) * 0x1p-31f;
}

/* What takes the middle of the codes away: m over d, as the file has them. 0: a type without. */
static float minimum_over_scale(uint32_t type)
{
    switch (type) {
    case TENSOR_Q4_1:
        return -7.5f;
    case TENSOR_Q5_1:
        return -15.5f;
    case TENSOR_Q4_K: /* where it is subtracted */
        return 7.5f;
    default:
        return 0.0f;
    }
}

/* Of types whose blocks begin with d and m or with an exponent, or end with d; else any bits. */
static void make_block(uint8_t *block, uint32_t type, float scale, uint64_t *x)
{
    for (uint32_t i = 0; i < tensor_type_info(type)->block_bytes; i++)
        block[i] = (uint8_t)next_random(x);
    if (type == TENSOR_MXFP4) {
        block[0] = (uint8_t)(128 + ilogbf(scale));
        return;
    }
    /* Without an m, d has either sign: else every output had the same share of the inputs' sum, and
     * logits hardly anything besides. */
    float minimum = minimum_over_scale(type);
    float sign = minimum == 0.0f && (next_random(x) & 1) != 0 ? -1.0f : 1.0f;
    for (uint32_t i = 0; i < (minimum != 0.0f ? 2 : 1); i++) {
        float value = next_spread(x, scale / 2, scale) * (i == 0 ? sign : minimum);
        uint16_t half = f16_from_f32(value);
        memcpy(block + (type == TENSOR_Q6_K ? 208 : 2 * i), &half, sizeof half);
    }
}

static void make_bytes(uint8_t *bytes, uint64_t n_bytes, uint32_t type, uint32_t n_in,
                       uint64_t seed)
{
    const struct tensor_type_info *info = tensor_type_info(type);
    float scale = scale_of(type, n_in);
    uint64_t x = seed * 2654435761u + 1;
    for (uint64_t at = 0; at < n_bytes; at += info->block_bytes) {
        float value = next_spread(&x, -scale, scale);
        uint16_t half = f16_from_f32(value);
        if (type == TENSOR_F32)
            memcpy(bytes + at, &value, sizeof value);
        else if (type == TENSOR_F16)
            memcpy(bytes + at, &half, sizeof half);
        else if (type == TENSOR_BF16)
            memcpy(bytes + at, (const uint8_t *)&value + 2, 2);
        else
            make_block(bytes + at, type, scale, &x);
    }
}

int check_weight_by_host(struct device *device, const struct check_matrix *matrix,
                         struct weight **out, struct why *why)
{
    struct weight_source sources[SOURCES_MAX];
    uint32_t n_sources = list_sources(matrix, sources);
    uint8_t *bytes[SOURCES_MAX] = {NULL};
    int status = STATUS_OK;
    for (uint32_t i = 0; i < n_sources && status == STATUS_OK; i++) {
        uint64_t n = tensor_type_bytes(matrix->type, matrix->n_in, sources[i].n_out);
        bytes[i] = malloc(n);
        if (bytes[i] == NULL)
            status = refuse(why, STATUS_NO_MEMORY, "no memory for %s", matrix->name);
        else
            make_bytes(bytes[i], n, matrix->type, matrix->n_in, matrix->seed + 2 * i);
        sources[i].bytes = bytes[i];
    }
    if (status == STATUS_OK)
        status = device_ops(device)->weight_load(device, matrix->fuse, sources, n_sources, 0, 1,
                                                 out, why);
    for (uint32_t i = 0; i < n_sources; i++)
        free(bytes[i]);
    return status;
}
