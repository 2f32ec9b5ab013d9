/* kernels/cpu/cpu_weight.h: repacked matrices: tiles of 16 rows (cpu_kernels.md 2).
 *
 * A weight is a list of segments, one a source (or one a source and half of a fused pair), each of one tensor type with its own tiles;
 * GATE_UP interleaves tile by tile: gate 0, up 0, gate 1, ... Rows beyond n_out in the last tile are zero.
 */
#ifndef QUIRE_KERNELS_CPU_WEIGHT_H
#define QUIRE_KERNELS_CPU_WEIGHT_H

#include "kernels/cpu/cpu_stream.h"

#define TILE_ROWS 16

int cpu_weight_load(struct device *device, enum weight_fuse fuse, const struct weight_source *sources,
                    uint32_t n_sources, uint32_t rank, uint32_t n_ranks, struct weight **out, struct why *why);
void cpu_weight_free(struct device *device, struct weight *weight);
struct weight_info cpu_weight_info(const struct weight *weight);
/* The exact f32 values of one row of a PLAIN weight (embedding lookup). row < n_out. */
void cpu_weight_row(const struct weight *weight, uint32_t row, float *out);

#endif
