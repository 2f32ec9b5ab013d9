/* The feed-forward of a layer: dense; or experts, and beside them one that every row meets.
 *
 *   norm -+- linear(router) -> route -> moe(ADD) ------------------------------> x
 *         +- linear_glu -> linear(ADD)                          shared expert -> x
 *         '- linear(gate) -> route(1 of 1, sigmoid) -> moe(ADD)   with a gate -> x
 */
#include "model/forward_pass.h"

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* What the router of `rows` rows gives, in forward->routed: of the experts, then of the gate of a
 * shared one, in the same place. */
struct routed {
    float *logits;     /* [rows, n_experts] */
    float *weights;    /* [rows, n_used] */
    uint32_t *experts; /* [rows, n_used] */
};

#define ROUTED_ALIGNMENT 256

static size_t round_up(size_t bytes)
{
    return (bytes + ROUTED_ALIGNMENT - 1) / ROUTED_ALIGNMENT * ROUTED_ALIGNMENT;
}

static size_t routed_logits_bytes(const struct forward *forward, const struct route_rule *rule)
{
    return round_up((size_t)forward->max_rows * rule->n_experts * sizeof(float));
}

static size_t routed_slots_bytes(const struct forward *forward, const struct route_rule *rule)
{
    return round_up((size_t)forward->max_rows * rule->n_used * sizeof(float));
}

static struct routed routed_of(const struct forward *forward, const struct route_rule *rule)
{
    char *weights = (char *)forward->routed + routed_logits_bytes(forward, rule);
    return (struct routed){
        .logits = forward->routed,
        .weights = (float *)weights,
        .experts = (uint32_t *)(weights + routed_slots_bytes(forward, rule)),
    };
}

/* Of the gate of a shared expert: sigmoid(gate . x), and always the same expert. */
static struct route_rule gate_rule(void)
{
    return (struct route_rule){.n_experts = 1,
                               .n_used = 1,
                               .n_groups = 1,
                               .n_groups_used = 1,
                               .group_best = 1,
                               .score = ROUTE_SIGMOID,
                               .scale = 1};
}

/* --- sizes --- */

uint32_t forward_ffn_forms(const struct forward *forward, const struct layer_weights *w)
{
    return forms_of(forward, w->gate_up) | forms_of(forward, w->router) |
           forms_of(forward, w->experts_gate_up) |
           forms_of(forward, w->shared_gate);
}

size_t forward_gated_bytes(const struct forward *forward, const struct layer_plan *layer,
                           const struct layer_weights *w)
{
    if (w->down == NULL || w->shared_gate != NULL)
        return 0;
    return forward->ops->act_bytes(forward->device, forward->max_rows, layer->n_ff,
                                   forms_of(forward, w->down));
}

size_t forward_routed_bytes(const struct forward *forward, const struct layer_plan *layer)
{
    const struct route_rule *rule = &layer->experts.rule;
    if (layer->ffn != FFN_MOE)
        return 0;
    return routed_logits_bytes(forward, rule) + 2 * routed_slots_bytes(forward, rule);
}

size_t forward_moe_workspace_bytes(const struct forward *forward, const struct layer_plan *layer,
                                   const struct layer_weights *w)
{
    const struct ops *ops = forward->ops;
    if (layer->ffn != FFN_MOE)
        return 0;
    size_t bytes = ops->moe_workspace_bytes(forward->device, w->experts_gate_up, w->experts_down,
                                            forward->max_rows, layer->experts.rule.n_used);
    if (w->shared_gate != NULL)
        bytes = max_size(bytes, ops->moe_workspace_bytes(forward->device, w->gate_up, w->down,
                                                         forward->max_rows, 1));
    return bytes;
}

/* --- the pass --- */

/* x += the experts that the rule chooses by the router, whose logits are `router` x normed. */
static void run_experts(const struct pass *pass, const struct route_rule *rule,
                        const struct weight *router, const struct moe_args *experts,
                        const float *choice_bias)
{
    const struct forward *forward = pass->forward;
    struct routed routed = routed_of(forward, rule);
    struct moe_args moe = *experts;

    forward->ops->linear(pass->stream, &(struct linear_args){.weight = router,
                                                             .in = experts->in,
                                                             .n_rows = experts->n_rows,
                                                             .mode = LINEAR_SET,
                                                             .y = routed.logits,
                                                             .y_stride = rule->n_experts});
    forward->ops->route(pass->stream, &(struct route_args){.rule = *rule,
                                                           .logits = routed.logits,
                                                           .bias = choice_bias,
                                                           .n_rows = experts->n_rows,
                                                           .experts = routed.experts,
                                                           .weights = routed.weights});
    moe.experts = routed.experts;
    moe.weights = routed.weights;
    moe.n_used = rule->n_used;
    forward->ops->moe(pass->stream, &moe);
}

/* Gate, up and down of all rows; the dense layer, or a shared expert without a gate. */
static void run_dense(const struct pass *pass, const struct layer_plan *layer,
                      const struct layer_weights *w, struct act normed, float *x, uint32_t n)
{
    const struct forward *forward = pass->forward;
    struct act gated = act_of(pass, forward->gated, layer->n_ff,
                                      forms_of(forward, w->down));

    forward->ops->linear_glu(pass->stream, &(struct linear_glu_args){.weight = w->gate_up,
                                                                     .in = normed,
                                                                     .gate_bias = w->gate_bias,
                                                                     .up_bias = w->up_bias,
                                                                     .n_rows = n,
                                                                     .out = gated});
    forward->ops->linear(pass->stream,
                         &(struct linear_args){.weight = w->down,
                                               .in = gated,
                                               .bias = w->down_bias,
                                               .n_rows = n,
                                               .mode = LINEAR_ADD,
                                               .y = x,
                                               .y_stride = model_plan(forward->model)->width});
}

void forward_ffn(const struct pass *pass, const struct layer_plan *layer,
                 const struct layer_weights *w, float *x, uint32_t n)
{
    const struct forward *forward = pass->forward;
    struct act normed = forward_norm(pass, x, n, w->ffn_norm, forward_ffn_forms(forward, w));
    struct moe_args experts = {.gate_up = w->experts_gate_up,
                               .down = w->experts_down,
                               .in = normed,
                               .n_rows = n,
                               .scales_input = layer->experts.scales_input,
                               .workspace = forward->workspace,
                               .workspace_bytes = forward->workspace_bytes,
                               .mode = LINEAR_ADD,
                               .y = x,
                               .y_stride = model_plan(forward->model)->width};

    if (layer->ffn == FFN_MOE)
        run_experts(pass, &layer->experts.rule, w->router, &experts, w->choice_bias);
    if (w->gate_up == NULL)
        return;
    if (w->shared_gate == NULL) {
        run_dense(pass, layer, w, normed, x, n);
        return;
    }
    struct route_rule rule = gate_rule();
    experts.gate_up = w->gate_up;
    experts.down = w->down;
    experts.scales_input = false;
    run_experts(pass, &rule, w->shared_gate, &experts, NULL);
}
