#include "model/arch_experts.h"
#include "limits.h"

#include "kernels/tensor_type.h"

#include <math.h>
#include <stdio.h>

#define WEIGHTS_SCALE_MAX 1e6

enum gating { GATING_SOFTMAX = 1, GATING_SIGMOID = 2 }; /* expert_gating_func */

struct experts_plan arch_experts_of(enum route_score score, bool normalise)
{
    return (struct experts_plan){.rule = {.n_groups = 1,
                                          .n_groups_used = 1,
                                          .group_best = 2,
                                          .score = score,
                                          .normalise = normalise,
                                          .scale = 1}};
}

/* --- keys --- */

static void read_gating(struct arch_reader *reader, struct route_rule *rule)
{
    uint32_t fallback = rule->score == ROUTE_SOFTMAX ? GATING_SOFTMAX : GATING_SIGMOID;
    uint32_t gating = arch_number_or(reader, "expert_gating_func", 0, UINT32_MAX, fallback);

    if (gating == 0) /* as written by converters that mean the default */
        gating = fallback;
    if (reader->status == STATUS_OK && gating != GATING_SOFTMAX && gating != GATING_SIGMOID)
        arch_fault(reader, STATUS_UNSUPPORTED,
                   "%s.expert_gating_func is %u; this build knows 1 (softmax) and 2 (sigmoid)",
                   reader->architecture, gating);
    rule->score = gating == GATING_SIGMOID ? ROUTE_SIGMOID : ROUTE_SOFTMAX;
}

static void read_groups(struct arch_reader *reader, struct route_rule *rule)
{
    rule->n_groups = arch_number_or(reader, "expert_group_count", 0, MODEL_EXPERTS_MAX, 1);
    rule->n_groups = rule->n_groups == 0 ? 1 : rule->n_groups;
    rule->n_groups_used = arch_number_or(reader, "expert_group_used_count", 0, rule->n_groups,
                                         rule->n_groups);
    if (rule->n_groups == 1 || rule->n_groups_used == 0)
        rule->n_groups_used = rule->n_groups;
    if (reader->status < 0)
        return;
    if (rule->n_experts % rule->n_groups != 0) {
        arch_fault(reader, STATUS_CORRUPT,
                   "%s.expert_count %u is no multiple of expert_group_count %u",
                   reader->architecture, rule->n_experts, rule->n_groups);
        return;
    }
    uint32_t n_left = rule->n_experts / rule->n_groups * rule->n_groups_used;
    if (rule->n_used > n_left)
        arch_fault(reader, STATUS_CORRUPT,
                   "%s.expert_used_count is %u; the %u groups that are used have %u experts",
                   reader->architecture, rule->n_used, rule->n_groups_used, n_left);
}

bool arch_experts_read(struct arch_reader *reader, uint32_t n_ff, struct experts_plan *experts)
{
    struct route_rule *rule = &experts->rule;

    rule->n_experts = arch_number_or(reader, "expert_count", 0, MODEL_EXPERTS_MAX, 0);
    if (reader->status < 0 || rule->n_experts == 0)
        return false;
    rule->n_used = arch_number(reader, "expert_used_count", 1, rule->n_experts);
    uint32_t fallback = experts->n_ff > 0 ? experts->n_ff : n_ff;
    experts->n_ff = arch_number_or(reader, "expert_feed_forward_length", 0, MODEL_FF_MAX, fallback);
    experts->n_ff = experts->n_ff == 0 ? fallback : experts->n_ff;
    if (reader->status == STATUS_OK && experts->n_ff == 0)
        arch_fault(reader, STATUS_CORRUPT, "key %s.expert_feed_forward_length is missing",
                   reader->architecture);
    read_gating(reader, rule);
    rule->normalise = arch_flag_or(reader, "expert_weights_norm", rule->normalise);
    rule->scale = arch_real_or(reader, "expert_weights_scale", 0, WEIGHTS_SCALE_MAX, rule->scale);
    rule->scale = rule->scale == 0 ? 1 : rule->scale;
    read_groups(reader, rule);
    return reader->status == STATUS_OK;
}

/* --- tensors --- */

/* Once one tensor for each expert; converters have long stopped. */
static void refuse_single_experts(struct arch_reader *reader, uint32_t layer_idx)
{
    if (!arch_layer_has(reader, layer_idx, "ffn_gate_exps.weight") &&
        arch_layer_has(reader, layer_idx, "ffn_gate.0.weight"))
        arch_fault(reader, STATUS_UNSUPPORTED,
                   "blk.%u.ffn_gate.0.weight: a file with a tensor for each expert, as they were "
                   "written before 2024; convert the model anew",
                   layer_idx);
}

static void check_experts(struct arch_reader *reader, uint32_t layer_idx, uint32_t width,
                          const struct experts_plan *experts)
{
    uint32_t n = experts->rule.n_experts;

    if (arch_layer_has(reader, layer_idx, "ffn_gate_up_exps.weight")) {
        arch_layer_matrices(reader, layer_idx, "ffn_gate_up_exps.weight", width,
                            2 * (uint64_t)experts->n_ff, n);
    } else {
        arch_layer_matrices(reader, layer_idx, "ffn_gate_exps.weight", width, experts->n_ff, n);
        arch_layer_matrices(reader, layer_idx, "ffn_up_exps.weight", width, experts->n_ff, n);
    }
    arch_layer_matrices(reader, layer_idx, "ffn_down_exps.weight", experts->n_ff, width, n);
}

static void check_shared(struct arch_reader *reader, uint32_t layer_idx, uint32_t width,
                         const struct experts_plan *experts)
{
    arch_layer_matrix(reader, layer_idx, "ffn_gate_shexp.weight", width, experts->n_shared_ff);
    arch_layer_matrix(reader, layer_idx, "ffn_up_shexp.weight", width, experts->n_shared_ff);
    arch_layer_matrix(reader, layer_idx, "ffn_down_shexp.weight", experts->n_shared_ff, width);
    if (experts->has_shared_gate)
        arch_layer_matrix(reader, layer_idx, "ffn_gate_inp_shexp.weight", width, 1);
}

/* A bias that is no number would make every row of the layer an error. */
static void check_choice_bias(struct arch_reader *reader, uint32_t layer_idx, uint32_t n)
{
    float values[MODEL_EXPERTS_MAX];
    char name[64];

    arch_layer_vector(reader, layer_idx, "exp_probs_b.bias", n);
    if (reader->status < 0)
        return;
    snprintf(name, sizeof name, "blk.%u.exp_probs_b.bias", layer_idx);
    const struct gguf_tensor *tensor = gguf_tensor_find(reader->file, name);
    tensor_type_row_to_f32(tensor->type, tensor->bytes, n, values);
    for (uint32_t e = 0; e < n; e++)
        if (!isfinite(values[e]))
            arch_fault(reader, STATUS_CORRUPT, "%s[%u] is %g; it must be finite", name, e,
                       (double)values[e]);
}

void arch_experts_layer(struct arch_reader *reader, uint32_t layer_idx,
                        const struct experts_plan *experts, struct model_plan *plan)
{
    struct layer_plan *layer = &plan->layers[layer_idx];

    layer->ffn = FFN_MOE;
    layer->experts = *experts;
    layer->n_ff = experts->n_shared_ff;
    refuse_single_experts(reader, layer_idx);
    arch_layer_vector(reader, layer_idx, "ffn_norm.weight", plan->width);
    arch_layer_matrix(reader, layer_idx, "ffn_gate_inp.weight", plan->width,
                      experts->rule.n_experts);
    check_experts(reader, layer_idx, plan->width, experts);
    layer->experts.has_choice_bias = arch_layer_has(reader, layer_idx, "exp_probs_b.bias");
    if (layer->experts.has_choice_bias)
        check_choice_bias(reader, layer_idx, experts->rule.n_experts);
    if (experts->n_shared_ff > 0)
        check_shared(reader, layer_idx, plan->width, experts);
}
