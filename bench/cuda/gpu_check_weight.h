/* bench/cuda/gpu_check_weight.h: one matrix without a file, from a seed.
 *
 * Values deviate by about 1 / sqrt(inputs), so that what passes through keeps its size. The same
 * matrix by the host is the same on every backend; on the device it is another one, made without
 * repacking or sending anything.
 */
#ifndef QUIRE_BENCH_GPU_CHECK_WEIGHT_H
#define QUIRE_BENCH_GPU_CHECK_WEIGHT_H

#include "kernels/ops.h"

#define CHECK_EXPERTS_MAX 16

struct check_matrix {
    const char *name;
    enum weight_fuse fuse;
    uint32_t type; /* enum tensor_type; by the host of those of gpu_check_law.c alone */
    uint32_t n_in;
    uint32_t n_out[3]; /* of each part; 0: no more */
    uint32_t n_experts; /* each part is there for each of them; 0: once, of no expert */
    uint64_t seed;
};

/* The backend's weight_free frees *out. STATUS_NO_MEMORY. */
int check_weight_by_host(struct device *device, const struct check_matrix *matrix,
                         struct weight **out, struct why *why);
/* CUDA alone; waits for the stream. */
int check_weight_on_device(struct device *device, struct stream *stream,
                           const struct check_matrix *matrix, struct weight **out, struct why *why);
uint64_t check_weight_bytes(const struct check_matrix *matrix); /* on a GPU, without alignment */

#endif
