#include "engine/lookback.h"

#include "model/layer_plan.h"

#include <assert.h>

void lookback_of_plan(const struct model_plan *plan, struct lookback *out)
{
    *out = (struct lookback){.n_layers = plan->n_layers, .n_groups = plan->n_groups};
    for (uint32_t g = 0; g < plan->n_groups; g++) {
        const struct kv_group_plan *group = &plan->groups[g];
        bool has_last = plan->layers[plan->n_layers - 1].kv_group == g;
        out->groups[g] = (struct lookback_group){.kind = group->kind,
                                                 .window = group->window,
                                                 .n_layers = group->n_layers,
                                                 .n_prompt_layers = group->n_layers - has_last};
    }
}

static uint64_t triangle(uint64_t n)
{
    return n * (n + 1) / 2;
}

/* Of the rows before position n, in one layer. */
static uint64_t seen_before(enum kv_kind kind, uint32_t window, uint64_t n)
{
    if (kind == KV_CHUNKED)
        return n / window * triangle(window) + triangle(n % window);
    if (kind == KV_SLIDING && n > window)
        return triangle(window) + (n - window) * window;
    return triangle(n);
}

static double seen_in(const struct lookback *lookback, bool is_prompt, uint64_t first, uint64_t end)
{
    double all = 0;

    if (lookback->n_layers == 0)
        return (double)(triangle(end) - triangle(first));
    for (uint32_t g = 0; g < lookback->n_groups; g++) {
        const struct lookback_group *group = &lookback->groups[g];
        uint64_t seen = seen_before(group->kind, group->window, end) -
                        seen_before(group->kind, group->window, first);
        all += (double)seen * (is_prompt ? group->n_prompt_layers : group->n_layers);
    }
    return all / lookback->n_layers;
}

double lookback_prefill(const struct lookback *lookback, uint64_t n_context, uint64_t n_rows)
{
    assert(n_context + n_rows <= UINT32_MAX); /* whose triangle has 64 bits */
    return seen_in(lookback, true, n_context, n_context + n_rows);
}

double lookback_decode(const struct lookback *lookback, uint64_t n_context)
{
    return seen_in(lookback, false, n_context, n_context + 1);
}
