/* bench/cuda/gpu_check_model.h: models without a file: a shape, a type of weights and a seed.
 *
 *   by the host    the same model on a CPU and on a GPU (gpu_check_weight.h)
 *   on the device  CUDA: an 8B model in well under a second
 *
 * The program has a struct model of its own: model/forward.c asks a model for its plan and its
 * weights and nothing else, and model/model.c is not linked. Read-only once made.
 */
#ifndef QUIRE_BENCH_GPU_CHECK_MODEL_H
#define QUIRE_BENCH_GPU_CHECK_MODEL_H

#include "kernels/tensor_type.h"
#include "model/model.h"

struct check_shape {
    const char *name;
    uint32_t n_layers, width, n_heads, n_kv_heads, head_dim, n_ff, vocabulary;
    uint32_t type; /* enum tensor_type of every matrix */
    double rope_base;
    /* As Llama 4: each period-th layer sees everything and turns nothing, the others see their
     * chunk. 0: all see everything, and turn. */
    uint32_t period, chunk;
    /* of n_ff values each, and one that every row meets; at most CHECK_EXPERTS_MAX. 0: dense */
    uint32_t n_experts, n_used;
};

extern const struct check_shape check_shape_8b;    /* of Llama 3 8B; tiny where emulated */
extern const struct check_shape check_shape_scout; /* of Llama 4 Scout; likewise */
extern const struct check_shape check_shape_tiny;  /* for comparing with a CPU */
extern const struct check_shape check_shape_small_scout; /* the same, with chunks and experts */

/* The device must outlive *out, which check_model_free frees. STATUS_NO_MEMORY. */
int check_model_create(struct device *device, const struct check_shape *shape, bool on_device,
                       uint64_t seed, struct model **out, struct why *why);
void check_model_free(struct model *model); /* NULL is allowed */
uint64_t check_model_bytes(const struct check_shape *shape); /* of its matrices on a GPU */

#endif
