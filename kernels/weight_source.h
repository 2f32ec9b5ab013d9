/* kernels/weight_source.h: what every backend asks of the matrices that weight_load is given. */
#ifndef QUIRE_KERNELS_WEIGHT_SOURCE_H
#define QUIRE_KERNELS_WEIGHT_SOURCE_H

#include "kernels/ops.h"

/* For refusals; never NULL. */
const char *weight_source_name(const struct weight_source *source);

static inline bool weight_fuse_is_pair(enum weight_fuse fuse) /* gate and up side by side */
{
    return fuse == WEIGHT_GATE_UP || fuse == WEIGHT_EXPERTS_GATE_UP;
}

/* Matrices one behind the other, of experts or of heads. */
static inline bool weight_fuse_has_experts(enum weight_fuse fuse)
{
    return fuse == WEIGHT_EXPERTS || fuse == WEIGHT_EXPERTS_GATE_UP || fuse == WEIGHT_HEADS;
}

/* What stands beside each other in one weight, or in that of one expert: for sources of experts the
 * first of each side, for others all of them. */
struct weight_parts {
    uint32_t n_experts; /* 0: none */
    uint32_t n;         /* part i is sources[i * stride], of expert e sources[i * stride + e] */
    uint32_t stride;
    uint32_t n_out;     /* rows of the whole, or of one expert's: of gate and up those of one */
};

/* Types that this build reads, whole blocks, rows of one length, as many matrices as the kind of
 * fusing takes, experts of one type and shape. STATUS_UNSUPPORTED, STATUS_INVALID,
 * STATUS_TOO_LARGE; the sentence names the matrix. */
int weight_source_check(enum weight_fuse fuse, const struct weight_source *sources,
                        uint32_t n_sources, struct weight_parts *out, struct why *why);

/* Adds a matrix of so many tiles to the bytes of the whole. STATUS_TOO_LARGE where that is more
 * than memory can be. */
int weight_source_add_bytes(const struct weight_source *source, uint64_t n_tiles,
                            uint64_t tile_bytes, uint64_t *bytes, struct why *why);

#endif
