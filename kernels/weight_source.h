/* kernels/weight_source.h: what every backend asks of the matrices that weight_load is given. */
#ifndef QUIRE_KERNELS_WEIGHT_SOURCE_H
#define QUIRE_KERNELS_WEIGHT_SOURCE_H

#include "kernels/ops.h"

/* For refusals; never NULL. */
const char *weight_source_name(const struct weight_source *source);

/* Types that this build reads, whole blocks, rows of one length, as many matrices as the kind of
 * fusing takes. *n_out gets the rows of the whole: of gate and up those of one. STATUS_UNSUPPORTED,
 * STATUS_INVALID, STATUS_TOO_LARGE; the sentence names the matrix. */
int weight_source_check(enum weight_fuse fuse, const struct weight_source *sources,
                        uint32_t n_sources, uint32_t *n_out, struct why *why);

/* Adds a matrix of so many tiles to the bytes of the whole. STATUS_TOO_LARGE where that is more
 * than memory can be. */
int weight_source_add_bytes(const struct weight_source *source, uint64_t n_tiles,
                            uint64_t tile_bytes, uint64_t *bytes, struct why *why);

#endif
