/* deepseek2: DeepSeek V2, V2 Lite, V2.5, V3, R1. Heads share one latent vector a token and one key
 * that turns (latent_plan); the first layers are dense, the others have experts in groups, and a
 * shared one without a gate. models.md 4.8, 4.9.
 *
 * V2 chooses among experts by softmax and takes a group for its best one; V3 by sigmoid, with a
 * bias, and takes a group for its best two. */
#include "model/arch_decoder.h"

#include "limits.h"

#include <math.h>

struct latent {
    struct arch_heads heads; /* of pages: one of [latent | rope] */
    struct latent_plan plan;
    uint32_t head_dim;       /* of a query: nope + rope */
};

/* What the file says beside the ranks must be what they come to. */
static void check_number(struct arch_reader *reader, const char *key, uint32_t implied,
                         const char *by)
{
    uint32_t number = arch_number_or(reader, key, 0, UINT32_MAX, implied);
    if (reader->status == STATUS_OK && number != implied)
        arch_fault(reader, STATUS_CORRUPT, "%s.%s is %u; %s implies %u", reader->architecture, key,
                   number, by, implied);
}

/* A file whose attention is absorbed has the heads' own sizes in keys of their own. */
static bool is_absorbed(struct arch_reader *reader)
{
    return arch_layer_has(reader, 0, "attn_k_b.weight") ||
           arch_number_or(reader, "attention.key_length_mla", 0, UINT32_MAX, 0) > 0;
}

static void read_head_dims(struct arch_reader *reader, struct latent *out)
{
    const struct arch_heads *heads = &out->heads;

    out->plan.is_joined = !is_absorbed(reader);
    if (out->plan.is_joined) {
        out->head_dim = arch_number(reader, "attention.key_length", 1, MODEL_HEAD_DIM_MAX);
        out->plan.value_dim = arch_number(reader, "attention.value_length", 1, MODEL_HEAD_DIM_MAX);
        check_number(reader, "attention.head_count_kv", heads->n_heads, "attn_kv_b");
    } else {
        out->head_dim = arch_number(reader, "attention.key_length_mla", 1, MODEL_HEAD_DIM_MAX);
        out->plan.value_dim =
            arch_number(reader, "attention.value_length_mla", 1, MODEL_HEAD_DIM_MAX);
        check_number(reader, "attention.head_count_kv", 1, "attention.key_length_mla");
        check_number(reader, "attention.key_length", heads->k_dim,
                     "attention.kv_lora_rank + rope.dimension_count");
        check_number(reader, "attention.value_length", heads->v_dim, "attention.kv_lora_rank");
    }
    if (reader->status == STATUS_OK && out->head_dim <= heads->n_rot)
        arch_fault(reader, STATUS_CORRUPT,
                   "heads of %u values leave none beside the %u of rope.dimension_count",
                   out->head_dim, heads->n_rot);
    out->plan.nope_dim = out->head_dim - heads->n_rot;
    uint32_t widest = out->head_dim > out->plan.value_dim ? out->head_dim : out->plan.value_dim;
    if (reader->status == STATUS_OK && (uint64_t)heads->n_heads * widest > MODEL_WIDTH_MAX)
        arch_fault(reader, STATUS_CORRUPT, "%u heads of %u values are wider than %d, all together",
                   heads->n_heads, widest, MODEL_WIDTH_MAX);
}

static void read_latent(struct arch_reader *reader, struct latent *out)
{
    struct arch_heads *heads = &out->heads;

    *out = (struct latent){.heads = {.n_kv_heads = 1, .v_in_k = true}};
    heads->n_heads = arch_number(reader, "attention.head_count", 1, MODEL_HEADS_MAX);
    heads->v_dim = arch_number(reader, "attention.kv_lora_rank", 1, MODEL_HEAD_DIM_MAX);
    heads->n_rot = arch_number(reader, "rope.dimension_count", 2, MODEL_HEAD_DIM_MAX);
    heads->k_dim = heads->v_dim + heads->n_rot;
    if (reader->status == STATUS_OK && (heads->n_rot % 2 != 0 || heads->k_dim > MODEL_HEAD_DIM_MAX))
        arch_fault(reader, STATUS_CORRUPT,
                   "attention.kv_lora_rank %u and rope.dimension_count %u make keys of %u values; "
                   "%d are possible, and an even number turns",
                   heads->v_dim, heads->n_rot, heads->k_dim, MODEL_HEAD_DIM_MAX);
    if (arch_layer_has(reader, 0, "attn_q_a.weight"))
        out->plan.q_rank = arch_number(reader, "attention.q_lora_rank", 1, MODEL_WIDTH_MAX);
    read_head_dims(reader, out);
}

static void read_attention(struct arch_reader *reader, uint32_t i, const struct latent *latent,
                           struct model_plan *plan)
{
    struct layer_plan *layer = &plan->layers[i];
    const struct arch_heads *heads = &latent->heads;
    const struct latent_plan *dims = &latent->plan;
    uint64_t n_heads = heads->n_heads, rank = heads->v_dim, q = n_heads * latent->head_dim;

    arch_place_layer(plan, i, KV_FULL, 0, heads);
    layer->n_heads = heads->n_heads;
    layer->latent = *dims;
    layer->rope = ROPE_NORM;
    layer->first_rot = heads->v_dim;
    layer->n_rot = heads->n_rot;
    layer->qk_norm = QK_NORM_LATENT;
    layer->q_scale = (float)(M_LOG2E * plan->ropes[0].score_scale / sqrt(latent->head_dim));
    arch_layer_vector(reader, i, "attn_norm.weight", plan->width);
    if (dims->q_rank > 0) {
        arch_layer_matrix(reader, i, "attn_q_a.weight", plan->width, dims->q_rank);
        arch_layer_vector(reader, i, "attn_q_a_norm.weight", dims->q_rank);
        arch_layer_matrix(reader, i, "attn_q_b.weight", dims->q_rank, q);
    } else {
        arch_layer_matrix(reader, i, "attn_q.weight", plan->width, q);
    }
    arch_layer_matrix(reader, i, "attn_kv_a_mqa.weight", plan->width, heads->k_dim);
    arch_layer_vector(reader, i, "attn_kv_a_norm.weight", rank);
    if (dims->is_joined) {
        arch_layer_matrix(reader, i, "attn_kv_b.weight", rank,
                          n_heads * (dims->nope_dim + (uint64_t)dims->value_dim));
    } else {
        arch_layer_matrices(reader, i, "attn_k_b.weight", dims->nope_dim, rank, n_heads);
        arch_layer_matrices(reader, i, "attn_v_b.weight", rank, dims->value_dim, n_heads);
    }
    arch_layer_matrix(reader, i, "attn_output.weight", n_heads * dims->value_dim, plan->width);
}

/* False: every layer is dense. */
static bool read_experts(struct arch_reader *reader, uint32_t n_dense, uint32_t n_ff,
                         const struct model_plan *plan, struct experts_plan *experts)
{
    *experts = arch_experts_of(ROUTE_SOFTMAX, false);
    if (reader->status < 0 || n_dense == plan->n_layers)
        return false;
    arch_number(reader, "expert_count", 1, MODEL_EXPERTS_MAX);
    bool has_experts = arch_experts_read(reader, n_ff, experts);
    uint32_t n_shared = arch_number_or(reader, "expert_shared_count", 0, MODEL_EXPERTS_MAX, 0);
    if ((uint64_t)n_shared * experts->n_ff > MODEL_FF_MAX)
        arch_fault(reader, STATUS_CORRUPT,
                   "%u shared experts of %u values are wider than %u, all together", n_shared,
                   experts->n_ff, MODEL_FF_MAX);
    experts->n_shared_ff = n_shared * experts->n_ff;
    bool is_v3 = experts->rule.score == ROUTE_SIGMOID ||
                 arch_layer_has(reader, n_dense, "exp_probs_b.bias");
    experts->rule.group_best = is_v3 ? 2 : 1;
    return has_experts;
}

void arch_deepseek2_read(struct arch_reader *reader, struct model_plan *plan)
{
    struct latent latent;
    struct experts_plan experts;

    arch_read_sizes(reader, plan);
    reader->n_passed = arch_number_or(reader, "nextn_predict_layers", 0,
                                      plan->n_layers > 0 ? plan->n_layers - 1 : 0, 0);
    if (reader->status == STATUS_OK)
        plan->n_layers -= reader->n_passed;
    read_latent(reader, &latent);
    struct q_temperature temperature = arch_read_temperature(reader, plan);
    uint32_t n_dense =
        arch_number_or(reader, "leading_dense_block_count", 0, plan->n_layers, 0);
    uint32_t n_ff = n_dense > 0 ? arch_number(reader, "feed_forward_length", 1, MODEL_FF_MAX)
                                : arch_read_n_ff(reader);
    bool has_experts = read_experts(reader, n_dense, n_ff, plan, &experts);
    arch_rope_read(reader, latent.heads.n_rot, true, plan);
    arch_read_ends(reader, plan, false);
    for (uint32_t i = 0; i < plan->n_layers && reader->status == STATUS_OK; i++) {
        read_attention(reader, i, &latent, plan);
        plan->layers[i].q_temperature = temperature;
        if (has_experts && i >= n_dense)
            arch_experts_layer(reader, i, &experts, plan);
        else
            arch_read_dense(reader, i, n_ff, plan);
    }
}
