/* model/layer_plan.h: what the forward pass walks: an architecture's keys turned into plans, one a
 * layer.
 *
 * model/arch_*.c read a file's keys into struct model_plan; model/forward.c never asks which
 * architecture it is. Sizes are per layer, never per model.
 */
#ifndef QUIRE_MODEL_LAYER_PLAN_H
#define QUIRE_MODEL_LAYER_PLAN_H

#include "kernels/kv_view.h"
#include "kernels/ops.h"

struct gguf;

enum ffn_kind { FFN_DENSE, FFN_MOE };

struct experts_plan {
    struct route_rule rule;
    uint32_t n_ff;              /* of one expert */
    bool scales_input;          /* an expert reads weight * x (Llama 4) */
    bool has_choice_bias;
    uint32_t n_shared_ff;       /* of the expert that every row meets; 0: none */
    bool has_shared_gate;       /* whose output is multiplied by sigmoid(gate . x) */
};

/* Latent attention: keys and values of all heads are made of one vector of `rank` values a token,
 * beside which `rope` values turn with the position: one head of keys [latent | rope] (kv.k_dim =
 * rank + rope), whose first rank values are the values too (kv.v_dim = rank, kv.v_in_k). A head's
 * matrix takes its query into that space (attn_k_b), another what it has attended to out of it
 * (attn_v_b): the absorbed form. */
struct latent_plan {
    uint32_t q_rank;            /* of q's own latent vector; 0: q is made of x at once */
    uint32_t nope_dim;          /* of a head's query, beside `rope` values that turn */
    uint32_t value_dim;         /* of a head, out of the latent space */
    bool is_joined;             /* the file has attn_kv_b */
};

struct layer_plan {
    uint32_t n_heads;           /* of q */
    struct kv_shape kv;
    struct latent_plan latent;  /* where kv.v_in_k */
    uint32_t kv_group;          /* which group of the cache holds this layer */
    uint32_t kv_layer;          /* its index within the group */
    enum rope_style rope;       /* ROPE_NONE: no rotation in this layer */
    uint32_t first_rot, n_rot;
    uint32_t rope_idx;          /* which table of angles (model_plan.ropes) */
    enum qk_norm qk_norm;
    float q_scale;              /* log2(e) / sqrt(head dim), and what YaRN makes of it */
    struct q_temperature q_temperature;
    enum ffn_kind ffn;
    uint32_t n_ff;              /* of a dense layer, or of the shared expert; may be 0 then */
    struct experts_plan experts; /* of FFN_MOE */
    bool has_qkv_bias, has_output_bias, has_ffn_bias;
};

#define MODEL_ROPES_MAX 2

struct rope_plan {
    uint32_t n_pairs;
    double *inv_freq;           /* [n_pairs], owned by the plan; scaling and rope_freqs included */
    float scale;                /* multiplier of cos and sin */
    double score_scale;         /* multiplier of scores; 1 but where YaRN grows those */
};

struct kv_group_plan {
    enum kv_kind kind;
    uint32_t window;
    struct kv_shape shape;
    uint32_t n_layers;
};

struct model_plan {
    char architecture[32];
    char name[128];             /* general.name, or the file's stem */
    uint32_t n_layers, width, vocabulary;
    uint32_t context;           /* trained context, tokens */
    float norm_eps;
    bool tied_output, has_head_bias;
    uint32_t n_groups;
    struct kv_group_plan groups[KV_GROUPS_MAX];
    uint32_t n_ropes;
    struct rope_plan ropes[MODEL_ROPES_MAX];
    struct layer_plan *layers;  /* [n_layers], owned */
    uint64_t n_parameters;
    uint64_t weight_bytes;      /* of all tensors, as the file has them */
    bool *uses_tensor;          /* [gguf_n_tensors], owned: others stand in the file for nothing */
};

/* Reads keys, checks every number and every tensor's shape and type before any large allocation.
 * STATUS_UNSUPPORTED lists what this build knows; STATUS_CORRUPT names key or tensor and numbers.
 * */
int model_plan_read(const struct gguf *file, struct model_plan *out, struct why *why);
/* Of a file with a vocabulary and no tensors: its names, as far as it has them, and no layers. */
void model_plan_read_names(const struct gguf *file, struct model_plan *out);
void model_plan_release(struct model_plan *plan);
/* Bytes of keys and values of one token, all layers of all groups. */
uint64_t model_plan_token_bytes(const struct model_plan *plan, const struct kv_dtypes *dtypes);

#endif
