#include "tools/bench_cost.h"

#include <math.h>

/* Multiplications of one row through the linears of a layer. */
static double layer_products(const struct model_plan *plan, const struct layer_plan *layer)
{
    double width = plan->width, q = (double)layer->n_heads * layer->kv.k_dim;
    double kv = (double)layer->kv.n_kv_heads * (layer->kv.k_dim + layer->kv.v_dim);
    double attended = (double)layer->n_heads * layer->kv.v_dim;
    return width * (q + kv) + attended * width + 3 * width * layer->n_ff;
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

struct bench_cost bench_cost_of(const struct model *model, enum kv_dtype dtype, uint64_t first,
                                uint64_t n_rows, uint64_t n_steps, uint64_t n_outputs)
{
    const struct model_plan *plan = model_plan(model);
    struct bench_cost cost = {.bytes = (double)model_step_bytes(model) * (double)n_steps};
    double products = (double)n_outputs * plan->width * plan->vocabulary, pairs = 0;

    for (uint32_t i = 0; i < plan->n_layers; i++) {
        const struct layer_plan *layer = &plan->layers[i];
        const struct kv_group_plan *group = &plan->groups[layer->kv_group];
        double seen = 0;
        for (uint64_t r = 0; r < n_rows; r++)
            seen += visible(group, (double)(first + r));
        products += layer_products(plan, layer) * (double)n_rows;
        pairs += seen * layer->n_heads * (layer->kv.k_dim + layer->kv.v_dim);
        uint32_t values = layer->kv.v_in_k ? layer->kv.k_dim : layer->kv.k_dim + layer->kv.v_dim;
        if (n_steps == n_rows) /* each row reads all that it sees; rows of one step share it */
            cost.bytes += seen * layer->kv.n_kv_heads * values * (double)kv_dtype_bytes(dtype);
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
