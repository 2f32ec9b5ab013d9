/* model/model_shape.h: the numbers of a model that decide what it costs: for planning before a
 * file is at hand, and read from a file that is.
 *
 * Counts leave out norms, biases and routers (together below 0.1 % of every model here). Read-only,
 * any thread.
 */
#ifndef QUIRE_MODEL_MODEL_SHAPE_H
#define QUIRE_MODEL_MODEL_SHAPE_H

#include "kernels/kv_view.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct model_plan;
struct why;

struct model_shape {
    char name[64];              /* as --model takes it: "llama4-scout" */
    char title[128];            /* "Llama 4 Scout" */
    const char *note;           /* what is not published; NULL: nothing is missing */
    uint32_t n_layers;          /* 0: the shape is not published, only the two counts below */
    uint32_t n_local_layers;    /* of them: those that see only `window` tokens */
    uint32_t window;
    uint32_t width, vocabulary;
    bool tied_output;           /* the embedding is the output matrix too */
    uint64_t context;           /* trained tokens */

    uint32_t n_heads;
    struct kv_shape kv;         /* latent attention: one head of rank + rope values, V within */
    uint32_t q_rank, nope_dim, value_dim; /* latent attention; q_rank 0: q is whole */

    uint32_t n_dense_layers, n_ff;
    uint32_t n_experts, n_used; /* in each of the other layers */
    uint32_t n_expert_ff, n_shared_ff;

    uint64_t published_parameters, published_active; /* where n_layers is 0 */
};

/* Built in; NULL when there is none of that name. */
const struct model_shape *model_shape_find(const char *name);
const struct model_shape *model_shape_at(size_t idx); /* NULL behind the last */
void model_shape_from_plan(const struct model_plan *plan, struct model_shape *out);
/* Whether a --kv-dtype is of layers that there are: one that names only a kind without any would
 * silently change nothing. STATUS_INVALID. */
int model_shape_check_pages(const struct model_shape *shape, const struct kv_dtypes *kv_dtypes,
                            struct why *why);

uint64_t model_shape_parameters(const struct model_shape *shape);
/* Those that one token of one sequence meets; of the embedding it reads one row, which is left
 * out. */
uint64_t model_shape_active_parameters(const struct model_shape *shape);

#endif
