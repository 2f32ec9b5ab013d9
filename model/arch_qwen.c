/* qwen2 and qwen3: RoPE on pairs half a head apart. qwen2 has biases of q, k and v; qwen3 norms the
 * heads of q and k before they are rotated. qwen2moe and qwen3moe have experts in every layer, the
 * first of them a shared one under a gate, and weights that do not add up to one. */
#include "model/arch_decoder.h"

#include "limits.h"

void arch_qwen2_read(struct arch_reader *reader, struct model_plan *plan)
{
    arch_read_plain(reader, ROPE_NEOX, NULL, plan);
}

/* Early files have no key for the width of an expert: as many as a row uses are as wide as
 * feed_forward_length, all together. */
static struct experts_plan read_experts(struct arch_reader *reader, bool normalise)
{
    struct experts_plan experts = arch_experts_of(ROUTE_SOFTMAX, normalise);
    uint32_t n_experts = arch_number(reader, "expert_count", 1, MODEL_EXPERTS_MAX);
    uint32_t n_used = arch_number(reader, "expert_used_count", 1, n_experts);
    uint32_t n_ff = arch_number_or(reader, "feed_forward_length", 0, MODEL_FF_MAX, 0);

    if (reader->status == STATUS_OK)
        experts.n_ff = n_ff / n_used;
    return experts;
}

void arch_qwen2moe_read(struct arch_reader *reader, struct model_plan *plan)
{
    struct experts_plan experts = read_experts(reader, false);
    uint32_t n_ff = arch_number_or(reader, "feed_forward_length", 0, MODEL_FF_MAX, 0);

    experts.has_shared_gate = true;
    experts.n_shared_ff = arch_number_or(reader, "expert_shared_feed_forward_length", 0,
                                         MODEL_FF_MAX, n_ff);
    if (reader->status == STATUS_OK && experts.n_shared_ff == 0)
        arch_fault(reader, STATUS_CORRUPT,
                   "key qwen2moe.expert_shared_feed_forward_length is missing");
    arch_read_plain(reader, ROPE_NEOX, &experts, plan);
}

static void read_head_norms(struct arch_reader *reader, struct model_plan *plan)
{
    for (uint32_t i = 0; i < plan->n_layers && reader->status == STATUS_OK; i++) {
        struct layer_plan *layer = &plan->layers[i];
        layer->qk_norm = QK_NORM_BEFORE;
        arch_layer_vector(reader, i, "attn_q_norm.weight", layer->kv.k_dim);
        arch_layer_vector(reader, i, "attn_k_norm.weight", layer->kv.k_dim);
    }
}

void arch_qwen3_read(struct arch_reader *reader, struct model_plan *plan)
{
    arch_read_plain(reader, ROPE_NEOX, NULL, plan);
    read_head_norms(reader, plan);
}

void arch_qwen3moe_read(struct arch_reader *reader, struct model_plan *plan)
{
    struct experts_plan experts = read_experts(reader, true);

    arch_read_plain(reader, ROPE_NEOX, &experts, plan);
    read_head_norms(reader, plan);
}
