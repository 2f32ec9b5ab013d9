/* kernels/cpu/cpu_weight.h: repacked matrices: tiles of 16 rows (cpu_kernels.md 2).
 *
 * A weight is a list of segments, one a source, each of one tensor type with its own tiles. GATE_UP
 * interleaves tile by tile: gate 0, up 0, gate 1, ... Rows beyond n_out in the last tile are zero.
 * Experts stand one behind the other, each laid out as a weight of its own.
 */
#ifndef QUIRE_KERNELS_CPU_WEIGHT_H
#define QUIRE_KERNELS_CPU_WEIGHT_H

#include "kernels/cpu/cpu_stream.h"

#define TILE_ROWS 16
#define WEIGHT_SEGMENTS_MAX 3

struct cpu_segment {
    uint32_t type;                  /* enum tensor_type */
    uint32_t n_out, n_tiles;        /* n_tiles = ceil(n_out / 16) */
    uint32_t first_tile, first_out; /* among those of the whole weight; 0 for gate and up */
    size_t tile_bytes, tile_stride; /* gate and up: a gate tile + an up tile */
    size_t first_byte;              /* tile i stands at memory + first_byte + i * tile_stride */
};

struct weight { /* of the CPU; read-only after load */
    enum weight_fuse fuse;
    uint32_t n_in, n_out; /* as weight_info gives them */
    uint32_t n_tiles;     /* of all segments, of one expert */
    uint32_t n_segments;
    uint32_t act_forms;
    uint32_t n_experts;   /* 0: none */
    size_t expert_bytes;
    size_t bytes;
    uint8_t *memory;      /* device, one allocation */
    struct cpu_segment segments[WEIGHT_SEGMENTS_MAX];
};

/* One expert's matrices as a PLAIN or a GATE_UP weight, in the memory of the whole. */
struct weight cpu_weight_expert(const struct weight *weight, uint32_t expert_idx);
/* The units that workers share: tiles; for gate and up two gate and two up tiles (32 outputs, a
 * block of the output panel). */
uint32_t cpu_weight_n_units(const struct weight *weight);
/* The fixed split of units: who repacks them (first touch), and who multiplies them in decode. */
void cpu_weight_share(uint32_t n_units, int worker_idx, int n_workers, uint32_t *begin,
                      uint32_t *end);
/* The segment that tile `tile_idx` of the weight belongs to (not GATE_UP). */
const struct cpu_segment *cpu_weight_segment(const struct weight *weight, uint32_t tile_idx);
/* Tile `idx` of the segment, counted within it. */
static inline uint8_t *cpu_weight_tile(const struct weight *weight,
                                       const struct cpu_segment *segment, uint32_t idx)
{
    return weight->memory + segment->first_byte + idx * segment->tile_stride;
}

/* Sizes and places, without memory. STATUS_UNSUPPORTED, STATUS_INVALID, STATUS_TOO_LARGE. */
int cpu_weight_plan(enum weight_fuse fuse, const struct weight_source *sources, uint32_t n_sources,
                    enum activations activations, struct weight *out, struct why *why);
int cpu_weight_load(struct device *device, enum weight_fuse fuse,
                    const struct weight_source *sources, uint32_t n_sources, uint32_t rank,
                    uint32_t n_ranks, struct weight **out, struct why *why);
void cpu_weight_free(struct device *device, struct weight *weight);
struct weight_info cpu_weight_info(const struct weight *weight);
/* The exact f32 values of one row of a PLAIN weight (embedding lookup). row < n_out. */
void cpu_weight_row(const struct weight *weight, uint32_t row, float *out);

#endif
