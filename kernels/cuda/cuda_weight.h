/* kernels/cuda/cuda_weight.h: matrices on a GPU: a plane of codes and a plane of scales.
 *
 *   codes   [n_out][row_bytes]       F32, F16: the values. Q8_0: 32 int8 a block of 32 values.
 *                                    Q4_0, Q4_1: 16 bytes a block, value j in the low half of byte
 *                                    j, value j + 16 in its high half.
 *   scales  [n_out][n_in / 32][n]    f16: d, and with Q4_1 (n is 2) m behind it
 *
 * A file's blocks of 18 or 20 bytes lie at no multiple of 16; planes do. The scales begin at a
 * multiple of 256 bytes. Read-only after load.
 */
#ifndef QUIRE_KERNELS_CUDA_WEIGHT_H
#define QUIRE_KERNELS_CUDA_WEIGHT_H

#include "kernels/ops.h"

#define CUDA_BLOCK_VALUES 32

/* What kernels get, by value. */
struct cuda_planes {
    uint32_t type;         /* enum tensor_type */
    uint32_t n_in, n_out;
    uint32_t n_scales;     /* a block: 0 (floats), 1 or 2 */
    size_t row_bytes;      /* of codes */
    const uint8_t *codes;  /* device */
    const uint16_t *scales; /* device, or NULL */
};

struct cuda_weight {
    struct cuda_planes planes;
    size_t bytes;
    void *memory;          /* device, one allocation */
};

static inline const struct cuda_weight *cuda_weight_of(const struct weight *weight)
{
    return (const struct cuda_weight *)weight;
}

/* PLAIN, rank 0 of 1; STATUS_UNSUPPORTED for others until there is an op that reads them. */
int cuda_weight_load(struct device *device, enum weight_fuse fuse,
                     const struct weight_source *sources, uint32_t n_sources, uint32_t rank,
                     uint32_t n_ranks, struct weight **out, struct why *why);
void cuda_weight_free(struct device *device, struct weight *weight);
struct weight_info cuda_weight_info(const struct weight *weight);

#endif
