/* kernels/weight_source.h: what every backend asks of the matrices that weight_load is given. */
#ifndef QUIRE_KERNELS_WEIGHT_SOURCE_H
#define QUIRE_KERNELS_WEIGHT_SOURCE_H

#include "kernels/ops.h"

/* For refusals; never NULL. */
const char *weight_source_name(const struct weight_source *source);

/* Types that this build reads, whole blocks, rows of one length, as many matrices as the kind of
 * fusing takes. STATUS_UNSUPPORTED or STATUS_INVALID; the sentence names the matrix. */
int weight_source_check(enum weight_fuse fuse, const struct weight_source *sources,
                        uint32_t n_sources, struct why *why);

#endif
