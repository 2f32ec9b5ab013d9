#include "kernels/cuda/cuda_weight.h"
#include "base/status.h"
#include "kernels/weight_source.h"

#include <assert.h>
#include <stdlib.h>

#define STAGING_BYTES ((size_t)4 << 20)

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

static const uint8_t *place_at(uint64_t offset)
{
    return (const uint8_t *)(uintptr_t)offset;
}

/* Sizes of all segments; pointers count from zero until there is memory. */
static int plan_segments(struct weight *weight, const struct weight_source *sources,
                         const struct weight_parts *parts, struct why *why)
{
    uint64_t bytes = 0;
    uint32_t first_out = 0;
    for (uint32_t i = 0; i < weight->n_segments; i++) {
        const struct weight_source *source = &sources[(size_t)i * parts->stride];
        bool is_pair = weight_fuse_is_pair(weight->fuse);
        struct cuda_segment *segment = &weight->segments[i];
        *segment = (struct cuda_segment){
            .type = cuda_plane_of(source->type),
            .n_out = source->n_out,
            .n_tiles = (uint32_t)(((uint64_t)source->n_out + CUDA_TILE_OUTPUTS - 1) /
                                  CUDA_TILE_OUTPUTS),
            .first_tile = is_pair ? 0 : weight->n_tiles,
            .first_out = is_pair ? 0 : first_out,
        };
        uint64_t n_tiles = (uint64_t)segment->n_tiles * weight->n_in_tiles;
        uint32_t scale_bytes = cuda_tile_scale_bytes(segment->type);
        segment->codes = place_at(bytes);
        int status =
            weight_source_add_bytes(source, n_tiles, cuda_tile_bytes(segment->type), &bytes, why);
        bytes = round_up(bytes, CUDA_PLANE_ALIGNMENT);
        segment->scales = scale_bytes > 0 ? place_at(bytes) : NULL;
        if (status == STATUS_OK)
            status = weight_source_add_bytes(source, n_tiles, scale_bytes, &bytes, why);
        if (status < 0)
            return status;
        bytes = round_up(bytes, CUDA_PLANE_ALIGNMENT);
        first_out += source->n_out;
        weight->n_tiles += segment->n_tiles;
        weight->act_forms |= segment->type == TENSOR_F32 ? ACT_FLOATS : ACT_BLOCKS;
    }
    weight->bytes = weight->expert_bytes = bytes;
    if (weight->n_experts > 0 &&
        __builtin_mul_overflow(weight->expert_bytes, weight->n_experts, &weight->bytes))
        return refuse(why, STATUS_TOO_LARGE, "%s: %u experts of %zu bytes do not fit in memory",
                      weight_source_name(sources), weight->n_experts, weight->expert_bytes);
    return STATUS_OK;
}

/* Repacks as many stripes at a time as the staging memory holds. */
static int upload_segment(struct device *device, const struct cuda_segment *segment,
                          uint32_t n_in_tiles, const struct weight_source *source, struct why *why)
{
    size_t codes_bytes = (size_t)n_in_tiles * cuda_tile_bytes(segment->type);
    size_t scales_bytes = (size_t)n_in_tiles * cuda_tile_scale_bytes(segment->type);
    size_t n_at_once = STAGING_BYTES / (codes_bytes + scales_bytes);
    n_at_once = n_at_once < 1 ? 1 : n_at_once > segment->n_tiles ? segment->n_tiles : n_at_once;
    size_t row_bytes = tensor_type_bytes(source->type, source->n_in, 1);
    uint8_t *staging = malloc(n_at_once * (codes_bytes + scales_bytes));
    if (staging == NULL)
        return refuse(why, STATUS_NO_MEMORY, "%s: no memory to repack %zu bytes",
                      weight_source_name(source), n_at_once * (codes_bytes + scales_bytes));
    uint8_t *scales = staging + n_at_once * codes_bytes;

    int status = STATUS_OK;
    for (size_t first = 0; first < segment->n_tiles && status == STATUS_OK; first += n_at_once) {
        size_t left = segment->n_tiles - first, n = left < n_at_once ? left : n_at_once;
        for (size_t i = 0; i < n; i++) {
            size_t row = (first + i) * CUDA_TILE_OUTPUTS, rows_left = source->n_out - row;
            cuda_repack(source, (const uint8_t *)source->bytes + row * row_bytes,
                        rows_left < CUDA_TILE_OUTPUTS ? (uint32_t)rows_left : CUDA_TILE_OUTPUTS,
                        staging + i * codes_bytes, scales + i * scales_bytes);
        }
        status = device_upload(device, (uint8_t *)segment->codes + first * codes_bytes, staging,
                               n * codes_bytes);
        if (status == STATUS_OK && scales_bytes > 0)
            status = device_upload(device, (uint8_t *)segment->scales + first * scales_bytes,
                                   scales, n * scales_bytes);
        if (status < 0)
            refuse(why, status, "%s: the GPU does not take its weights",
                   weight_source_name(source));
    }
    free(staging);
    return status;
}

/* Source i of experts is expert i % n_experts of segment i / n_experts, of others segment i. */
static int upload_source(struct device *device, const struct weight *weight, uint32_t i,
                         const struct weight_source *source, struct why *why)
{
    uint32_t n = weight->n_experts > 0 ? weight->n_experts : 1;
    struct cuda_segment segment = cuda_segment_of_expert(weight, i / n, i % n);
    return upload_segment(device, &segment, weight->n_in_tiles, source, why);
}

int cuda_weight_plan(enum weight_fuse fuse, const struct weight_source *sources, uint32_t n_sources,
                     struct weight *out, struct why *why)
{
    struct weight_parts parts;
    int status = weight_source_check(fuse, sources, n_sources, &parts, why);
    if (status == STATUS_OK && fuse == WEIGHT_HEADS &&
        cuda_plane_of(sources[0].type) != TENSOR_F32 && sources[0].n_in % CUDA_TILE_INPUTS != 0)
        status = refuse(why, STATUS_UNSUPPORTED,
                        "%s: heads of %u values, and a GPU multiplies multiples of %d; take "
                        "--backend cpu",
                        weight_source_name(&sources[0]), sources[0].n_in, CUDA_TILE_INPUTS);
    if (status < 0)
        return status;
    *out = (struct weight){.fuse = fuse,
                           .n_in = sources[0].n_in,
                           .n_out = parts.n_out,
                           .n_segments = parts.n,
                           .n_experts = parts.n_experts};
    out->n_in_tiles = (uint32_t)(((uint64_t)out->n_in + CUDA_TILE_INPUTS - 1) / CUDA_TILE_INPUTS);
    return plan_segments(out, sources, &parts, why);
}

void cuda_weight_place(struct weight *weight, void *memory)
{
    weight->memory = memory;
    for (uint32_t i = 0; i < weight->n_segments; i++) {
        struct cuda_segment *segment = &weight->segments[i];
        segment->codes = weight->memory + (uintptr_t)segment->codes;
        if (cuda_tile_scale_bytes(segment->type) > 0)
            segment->scales = weight->memory + (uintptr_t)segment->scales;
    }
}

int cuda_weight_load(struct device *device, enum weight_fuse fuse,
                     const struct weight_source *sources, uint32_t n_sources, uint32_t rank,
                     uint32_t n_ranks, struct weight **out, struct why *why)
{
    *out = NULL;
    if (rank != 0 || n_ranks != 1)
        return refuse(why, STATUS_UNSUPPORTED,
                      "rank %u of %u: this build keeps whole matrices on one GPU; load with rank 0 "
                      "of 1",
                      rank, n_ranks);
    struct weight planned;
    int status = cuda_weight_plan(fuse, sources, n_sources, &planned, why);
    if (status < 0)
        return status;

    struct weight *weight = malloc(sizeof *weight);
    if (weight == NULL)
        return refuse(why, STATUS_NO_MEMORY, "%s: no memory for %zu bytes",
                      weight_source_name(sources), sizeof *weight);
    *weight = planned;
    void *memory;
    status = device_alloc(device, weight->bytes, &memory, why);
    if (status < 0) {
        free(weight);
        return refuse_prefix(why, status, "%s", weight_source_name(sources));
    }
    cuda_weight_place(weight, memory);
    for (uint32_t i = 0; i < n_sources && status == STATUS_OK; i++)
        status = upload_source(device, weight, i, &sources[i], why);
    if (status < 0) {
        cuda_weight_free(device, weight);
        return status;
    }
    *out = weight;
    return STATUS_OK;
}

void cuda_weight_free(struct device *device, struct weight *weight)
{
    if (weight == NULL)
        return;
    device_free(device, weight->memory);
    free(weight);
}

struct weight_info cuda_weight_info(const struct weight *weight)
{
    return (struct weight_info){.n_in = weight->n_in,
                                .n_out = weight->n_out,
                                .n_experts = weight->n_experts,
                                .bytes = weight->bytes,
                                .act_forms = weight->act_forms};
}
