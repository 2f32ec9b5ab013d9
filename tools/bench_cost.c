#include "tools/bench_cost.h"

#include <math.h>

/* Multiplications of a row through a feed-forward. */
static double ffn_products(const struct model_plan *plan, const struct layer_plan *layer)
{
    const struct experts_plan *experts = &layer->experts;
    double width = plan->width, products = 3 * width * layer->n_ff;
    if (layer->ffn == FFN_MOE)
        products += width * experts->rule.n_experts +
                    3 * width * experts->n_ff * experts->rule.n_used +
                    (experts->has_shared_gate ? width : 0);
    return products;
}

struct attention_products { /* of a row: for its keys and values, and all others */
    double keys, rest;
};

static struct attention_products latent_products(const struct model_plan *plan,
                                                 const struct layer_plan *layer)
{
    const struct latent_plan *latent = &layer->latent;
    double width = plan->width, heads = layer->n_heads, rank = layer->kv.v_dim;
    double q = heads * (latent->nope_dim + layer->n_rot);
    double of_q = latent->q_rank > 0 ? (width + q) * latent->q_rank : width * q;
    return (struct attention_products){
        .keys = width * layer->kv.k_dim,
        .rest = of_q + heads * latent->nope_dim * rank + heads * latent->value_dim * (rank + width),
    };
}

static struct attention_products attention_products(const struct model_plan *plan,
                                                    const struct layer_plan *layer)
{
    if (layer->kv.v_in_k)
        return latent_products(plan, layer);
    double width = plan->width, heads = layer->n_heads;
    return (struct attention_products){
        .keys = width * layer->kv.n_kv_heads * (layer->kv.k_dim + layer->kv.v_dim),
        .rest = width * heads * (layer->kv.k_dim + layer->kv.v_dim),
    };
}

/* Multiplications of the rows through the linears of a layer. */
static double layer_products(const struct model_plan *plan, const struct layer_plan *layer,
                             const struct bench_work *work, bool is_last)
{
    struct attention_products attention = attention_products(plan, layer);
    double n_whole = (double)(is_last ? work->n_last_rows : work->n_rows);
    return attention.keys * (double)work->n_rows +
           (attention.rest + ffn_products(plan, layer)) * n_whole;
}

/* Keys that a row at `position` of this layer sees. */
static double visible(const struct kv_group_plan *group, double position)
{
    if (group->kind == KV_SLIDING)
        return fmin(position + 1, group->window);
    if (group->kind == KV_CHUNKED)
        return fmod(position, group->window) + 1;
    return position + 1;
}

/* Keys that the last n rows see, together. */
static double all_visible(const struct kv_group_plan *group, const struct bench_work *work,
                          uint64_t n)
{
    double seen = 0;
    for (uint64_t r = work->n_rows - n; r < work->n_rows; r++)
        seen += visible(group, (double)(work->first + r));
    return seen;
}

struct bench_cost bench_cost_of(const struct model *model, const struct kv_dtypes *dtypes,
                                const struct bench_work *work)
{
    const struct model_plan *plan = model_plan(model);
    struct bench_cost cost = {.bytes = (double)model_step_bytes(model) * (double)work->n_steps};
    double products = (double)work->n_outputs * plan->width * plan->vocabulary, pairs = 0;

    for (uint32_t i = 0; i < plan->n_layers; i++) {
        const struct layer_plan *layer = &plan->layers[i];
        bool is_last = i + 1 == plan->n_layers;
        const struct kv_group_plan *group = &plan->groups[layer->kv_group];
        double seen = all_visible(group, work, is_last ? work->n_last_rows : work->n_rows);
        enum kv_dtype dtype = kv_dtypes_of(dtypes, group->kind);
        products += layer_products(plan, layer, work, is_last);
        pairs += seen * layer->n_heads * (layer->kv.k_dim + layer->kv.v_dim);
        if (work->n_steps == work->n_rows) /* each row reads what it sees; a step's rows share it */
            cost.bytes += seen * (double)kv_shape_page_bytes(&layer->kv, dtype) / PAGE_TOKENS;
    }
    cost.linear_ops = 2 * products;
    cost.attention_ops = 2 * pairs;
    return cost;
}

double bench_linear_peak(const struct peaks *peaks, enum activations activations,
                         bool has_block_weights)
{
    if (!has_block_weights || activations == ACTIVATIONS_F32)
        return peaks->fma_ops;
    return activations == ACTIVATIONS_16 ? peaks->int8_ops / 2 : peaks->int8_ops;
}

double bench_least_seconds(const struct bench_cost *cost, const struct peaks *peaks,
                           double linear_peak)
{
    return fmax(cost->linear_ops / linear_peak + cost->attention_ops / peaks->fma_ops,
                cost->bytes / peaks->read_bytes);
}
