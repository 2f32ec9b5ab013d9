/* model/weights.h: a file's tensors on the device, fused and repacked as the ops want them.
 *
 * Which tensors exist, their shapes and types were checked by model_plan_read: here they are only
 * loaded. Each tensor's file pages are dropped once it is repacked, so the peak is one copy.
 * Read-only after load.
 */
#ifndef QUIRE_MODEL_WEIGHTS_H
#define QUIRE_MODEL_WEIGHTS_H

#include "model/layer_plan.h"
#include "model/model.h"

/* Of latent attention (layer_plan.h). q_a and its norm are NULL where q is whole. */
struct latent_weights {
    struct weight *q_a;             /* PLAIN [width -> q_rank] */
    struct weight *q;               /* PLAIN [q_rank, or width -> H * (nope + rope)] */
    struct weight *kv_a;            /* PLAIN [width -> rank + rope] */
    struct weight *k_b, *v_b;       /* HEADS [nope -> rank], [rank -> value] */
    float *q_a_norm, *kv_a_norm;    /* device [q_rank], [rank] */
};

struct layer_weights {
    float *attn_norm, *ffn_norm;   /* device [width] */
    /* QKV [width -> (H + 2K) * head], PLAIN [H * head -> width]; latent attention has no qkv */
    struct weight *qkv, *out;
    struct weight *q, *kv;         /* for qkv in the last layer, where fewer rows want the first */
    struct latent_weights latent;
    /* of a dense layer, or of the shared expert: GATE_UP [width -> n_ff], PLAIN [n_ff -> width];
     * with a gate EXPERTS_GATE_UP and EXPERTS of one */
    struct weight *gate_up, *down;
    struct weight *router, *shared_gate;         /* PLAIN [width -> E], [width -> 1] */
    struct weight *experts_gate_up, *experts_down;
    float *qkv_bias, *out_bias;    /* device, or NULL; the first of the last layer too */
    float *q_norm, *k_norm;        /* device [head], or NULL */
    float *gate_bias, *up_bias, *down_bias;
    float *choice_bias;            /* device [E], or NULL */
};

struct model_weights {
    struct weight *embedding; /* [width -> vocabulary] */
    struct weight *output;    /* the embedding again when tied */
    float *output_norm, *output_bias; /* device; no bias: NULL */
    double *ropes[MODEL_ROPES_MAX]; /* device [n_pairs] */
    struct layer_weights *layers;   /* [n_layers] */
    uint64_t bytes;                 /* on the device, of all */
    uint64_t step_bytes;            /* read by one decode step */
};

struct gguf;

/* What weights_load will take of a device on which a matrix takes matrix_bytes (gpu_matrix.h): to
 * some 100 bytes a tensor. Of a plan of this file. */
uint64_t weights_planned_bytes(const struct gguf *file, const struct model_plan *plan,
                               uint64_t (*matrix_bytes)(uint32_t type, uint64_t n_in,
                                                        uint64_t n_out));

/* STATUS_NO_MEMORY, STATUS_UNSUPPORTED; nothing is left behind then. */
int weights_load(struct device *device, const struct gguf *file, const struct model_plan *plan,
                 const struct model_options *options, struct model_weights *out, struct why *why);
void weights_release(struct device *device, const struct model_plan *plan,
                     struct model_weights *weights);

#endif
