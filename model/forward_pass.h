/* model/forward_pass.h: the workspace of a step and one pass over it, for forward.c and the files
 * that are parts of it. */
#ifndef QUIRE_MODEL_FORWARD_PASS_H
#define QUIRE_MODEL_FORWARD_PASS_H

#include "model/forward.h"
#include "model/model.h"
#include "model/weights.h"

struct forward {
    struct device *device;
    const struct ops *ops;
    const struct model *model;
    uint32_t max_rows, max_outputs;
    bool keeps_last_layer_whole;
    uint64_t bytes;
    float *x;        /* device [max_rows, width] */
    float *qkv;      /* device [max_rows, widest qkv] */
    float *heads;    /* device [max_rows, ..]: of latent attention, heads outside of its space */
    float *picked;   /* device [max_outputs, width] */
    float *logits;   /* device [max_outputs, vocabulary] */
    void *normed;    /* panel of a normed row block, consumed by qkv, gate_up and the head */
    void *query;     /* panel of rotated queries */
    void *attended;  /* panel of attention outputs */
    void *gated;     /* panel of silu(gate) * up */
    void *routed;    /* forward_routed_bytes: what a router gives and what is made of it */
    void *workspace; /* of attend and moe */
    size_t workspace_bytes;
};

struct pass {
    const struct forward *forward;
    struct stream *stream;
    const struct rows_view *rows;
    const struct kv_view *view;
};

static inline uint32_t forms_of(const struct forward *forward, const struct weight *weight)
{
    return weight != NULL ? forward->ops->weight_info(weight).act_forms : 0;
}

static inline struct act act_of(const struct pass *pass, void *base, uint32_t width, uint32_t forms)
{
    return (struct act){
        .base = base, .max_rows = pass->forward->max_rows, .width = width, .forms = forms};
}

static inline uint32_t query_width(const struct layer_plan *layer)
{
    return layer->n_heads * layer->kv.k_dim;
}

static inline uint32_t qkv_width(const struct layer_plan *layer)
{
    uint32_t v_dim = layer->kv.v_in_k ? 0 : layer->kv.v_dim;
    return query_width(layer) + layer->kv.n_kv_heads * (layer->kv.k_dim + v_dim);
}

/* What is made of a row in front of attention. */
enum { PART_QUERY = 1, PART_KEYS = 2 };

static inline uint32_t parts_width(const struct layer_plan *layer, uint32_t parts)
{
    return ((parts & PART_QUERY) != 0 ? query_width(layer) : 0) +
           ((parts & PART_KEYS) != 0 ? qkv_width(layer) - query_width(layer) : 0);
}

/* Into the panel of normed rows. */
struct act forward_norm(const struct pass *pass, const float *x, uint32_t n_rows,
                        const float *weight, uint32_t forms);

/* --- forward_latent.c --- */

/* Bytes of rows of heads outside of the latent space, and of the panels that a layer of latent
 * attention wants; 0 of other layers. */
size_t forward_heads_bytes(const struct forward *forward, const struct layer_plan *layer);
size_t forward_latent_normed_bytes(const struct forward *forward, const struct layer_plan *layer,
                                   const struct layer_weights *w);
size_t forward_latent_attended_bytes(const struct forward *forward, const struct layer_plan *layer,
                                     const struct layer_weights *w);
/* forward->qkv of the rows x, some parts of it: queries in the latent space, and the latent key. */
void forward_latent_qkv(const struct pass *pass, const struct layer_plan *layer,
                        const struct layer_weights *w, const float *x, uint32_t parts);
/* What attention gives, out of the latent space: as w->out reads it. */
struct act forward_latent_attended(const struct pass *pass, const struct layer_plan *layer,
                                   const struct layer_weights *w, struct act attended);

/* --- forward_ffn.c --- */

/* Forms of the normed rows that a layer's feed-forward reads, of whatever kind it is. */
uint32_t forward_ffn_forms(const struct forward *forward, const struct layer_weights *w);
size_t forward_gated_bytes(const struct forward *forward, const struct layer_plan *layer,
                           const struct layer_weights *w);
size_t forward_routed_bytes(const struct forward *forward, const struct layer_plan *layer);
size_t forward_moe_workspace_bytes(const struct forward *forward, const struct layer_plan *layer,
                                   const struct layer_weights *w);
/* x [n, width] += the feed-forward of the normed x */
void forward_ffn(const struct pass *pass, const struct layer_plan *layer,
                 const struct layer_weights *w, float *x, uint32_t n);

#endif
