#include "kernels/cpu/cpu_weight.h"
#include "base/status.h"
#include "kernels/cpu/cpu_tile.h"
#include "kernels/weight_source.h"

#include <assert.h>
#include <stdlib.h>

struct weight cpu_weight_expert(const struct weight *weight, uint32_t expert_idx)
{
    assert(expert_idx < weight->n_experts);
    struct weight expert = *weight;
    expert.fuse = weight_fuse_is_pair(weight->fuse) ? WEIGHT_GATE_UP : WEIGHT_PLAIN;
    expert.n_experts = 0;
    expert.bytes = weight->expert_bytes;
    expert.memory = weight->memory + expert_idx * weight->expert_bytes;
    return expert;
}

uint32_t cpu_weight_n_units(const struct weight *weight)
{
    if (weight_fuse_is_pair(weight->fuse))
        return (weight->n_out + BLOCK_VALUES - 1) / BLOCK_VALUES;
    return weight->n_tiles;
}

void cpu_weight_share(uint32_t n_units, int worker_idx, int n_workers, uint32_t *begin,
                      uint32_t *end)
{
    *begin = (uint32_t)((uint64_t)n_units * (uint32_t)worker_idx / (uint32_t)n_workers);
    *end = (uint32_t)((uint64_t)n_units * ((uint32_t)worker_idx + 1) / (uint32_t)n_workers);
}

const struct cpu_segment *cpu_weight_segment(const struct weight *weight, uint32_t tile_idx)
{
    assert(!weight_fuse_is_pair(weight->fuse) && tile_idx < weight->n_tiles);
    const struct cpu_segment *segment = weight->segments;
    while (tile_idx >= segment->first_tile + segment->n_tiles)
        segment++;
    return segment;
}

/* Sizes and places of all segments. */
static int plan_segments(struct weight *weight, const struct weight_source *sources,
                         const struct weight_parts *parts, enum activations activations,
                         struct why *why)
{
    uint64_t bytes = 0, stride = 0;
    uint32_t first_out = 0;
    for (uint32_t i = 0; i < weight->n_segments; i++)
        stride += cpu_tile_bytes(sources[i * parts->stride].type, weight->n_in);

    for (uint32_t i = 0; i < weight->n_segments; i++) {
        const struct weight_source *source = &sources[i * parts->stride];
        struct cpu_segment *segment = &weight->segments[i];
        uint64_t tile_bytes = cpu_tile_bytes(source->type, weight->n_in);
        uint32_t n_tiles = (uint32_t)(((uint64_t)source->n_out + TILE_ROWS - 1) / TILE_ROWS);
        bool is_pair = weight_fuse_is_pair(weight->fuse);
        *segment = (struct cpu_segment){
            .type = source->type,
            .n_out = source->n_out,
            .n_tiles = n_tiles,
            .first_tile = is_pair ? 0 : weight->n_tiles,
            .first_out = is_pair ? 0 : first_out,
            .tile_bytes = tile_bytes,
            .tile_stride = is_pair ? stride : tile_bytes,
            .first_byte = is_pair ? i * cpu_tile_bytes(sources[0].type, weight->n_in) : bytes,
        };
        int status = weight_source_add_bytes(source, n_tiles, tile_bytes, &bytes, why);
        if (status < 0)
            return status;
        first_out += source->n_out;
        weight->n_tiles += n_tiles;
        weight->act_forms |=
            cpu_tile_wants_floats(segment->type, activations) ? ACT_FLOATS : ACT_BLOCKS;
    }
    weight->bytes = weight->expert_bytes = bytes;
    if (weight->n_experts > 0 &&
        __builtin_mul_overflow(weight->expert_bytes, weight->n_experts, &weight->bytes))
        return refuse(why, STATUS_TOO_LARGE, "%s: %u experts of %zu bytes do not fit in memory",
                      weight_source_name(sources), weight->n_experts, weight->expert_bytes);
    return STATUS_OK;
}

int cpu_weight_plan(enum weight_fuse fuse, const struct weight_source *sources, uint32_t n_sources,
                    enum activations activations, struct weight *out, struct why *why)
{
    struct weight_parts parts;
    int status = weight_source_check(fuse, sources, n_sources, &parts, why);
    if (status < 0)
        return status;
    *out = (struct weight){.fuse = fuse,
                           .n_in = sources[0].n_in,
                           .n_out = parts.n_out,
                           .n_segments = parts.n,
                           .n_experts = parts.n_experts};
    return plan_segments(out, sources, &parts, activations, why);
}

struct repack {
    const struct weight *weight;
    const struct weight_source *sources;
    int n_workers;
};

/* sources: of the segments. */
static void repack_tile(const struct weight *weight, const struct weight_source *sources,
                        uint32_t segment_idx, uint32_t tile_idx)
{
    const struct cpu_segment *segment = &weight->segments[segment_idx];
    const struct weight_source *source = &sources[segment_idx];
    uint32_t first_row = tile_idx * TILE_ROWS, left = segment->n_out - first_row;
    size_t row_bytes = tensor_type_bytes(source->type, source->n_in, 1);

    cpu_tile_repack(source->type, source->n_in,
                    (const uint8_t *)source->bytes + first_row * row_bytes,
                    left < TILE_ROWS ? left : TILE_ROWS,
                    cpu_weight_tile(weight, segment, tile_idx));
}

/* The share of a worker of one matrix, or of one expert's. */
static void repack_share(const struct weight *weight, const struct weight_source *sources,
                         int worker_idx, int n_workers)
{
    uint32_t begin, end;
    cpu_weight_share(cpu_weight_n_units(weight), worker_idx, n_workers, &begin, &end);

    for (uint32_t unit = begin; unit < end; unit++) {
        if (weight->fuse != WEIGHT_GATE_UP) {
            const struct cpu_segment *segment = cpu_weight_segment(weight, unit);
            repack_tile(weight, sources, (uint32_t)(segment - weight->segments),
                        unit - segment->first_tile);
            continue;
        }
        for (uint32_t tile = 2 * unit; tile < 2 * unit + 2 && tile < weight->segments[0].n_tiles;
             tile++) {
            repack_tile(weight, sources, 0, tile);
            repack_tile(weight, sources, 1, tile);
        }
    }
}

static void repack_work(void *arg, int worker_idx)
{
    const struct repack *repack = arg;
    const struct weight *weight = repack->weight;
    if (weight->n_experts == 0) {
        repack_share(weight, repack->sources, worker_idx, repack->n_workers);
        return;
    }
    for (uint32_t e = 0; e < weight->n_experts; e++) {
        struct weight expert = cpu_weight_expert(weight, e);
        struct weight_source sources[WEIGHT_SEGMENTS_MAX];
        for (uint32_t i = 0; i < weight->n_segments; i++)
            sources[i] = repack->sources[i * weight->n_experts + e];
        repack_share(&expert, sources, worker_idx, repack->n_workers);
    }
}

int cpu_weight_load(struct device *device, enum weight_fuse fuse,
                    const struct weight_source *sources, uint32_t n_sources, uint32_t rank,
                    uint32_t n_ranks, struct weight **out, struct why *why)
{
    *out = NULL;
    if (rank != 0 || n_ranks != 1)
        return refuse(why, STATUS_UNSUPPORTED,
                      "rank %u of %u: the CPU backend keeps whole matrices; load with rank 0 of 1",
                      rank, n_ranks);
    struct weight planned;
    const struct device_cpu *cpu = device_cpu(device);
    int status = cpu_weight_plan(fuse, sources, n_sources, cpu->activations, &planned, why);
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
    weight->memory = memory;

    device_unlock(device);
    team_run(cpu->team, repack_work, &(struct repack){weight, sources, team_size(cpu->team)});
    device_lock(device);
    *out = weight;
    return STATUS_OK;
}

void cpu_weight_free(struct device *device, struct weight *weight)
{
    if (weight == NULL)
        return;
    device_free(device, weight->memory);
    free(weight);
}

struct weight_info cpu_weight_info(const struct weight *weight)
{
    return (struct weight_info){.n_in = weight->n_in,
                                .n_out = weight->n_out,
                                .n_experts = weight->n_experts,
                                .bytes = weight->bytes,
                                .act_forms = weight->act_forms};
}

void cpu_weight_row(const struct weight *weight, uint32_t row, float *out)
{
    assert(weight->fuse == WEIGHT_PLAIN && row < weight->n_out);
    const struct cpu_segment *segment = &weight->segments[0];
    const uint8_t *tile = cpu_weight_tile(weight, segment, row / TILE_ROWS);
    for (uint32_t first = 0; first < weight->n_in; first += BLOCK_VALUES)
        cpu_tile_block_to_f32(segment->type, weight->n_in, tile, row % TILE_ROWS,
                              first / BLOCK_VALUES, out + first);
}
