#include "kernels/cpu/cpu_moe_plan.h"

#include "base/status.h"

#include <string.h>

#define PART_ALIGNMENT 64

_Static_assert(2 * MODEL_EXPERTS_MAX * sizeof(uint32_t) <= CPU_SCRATCH_BYTES,
               "counts and places of experts fit in the scratch");

static size_t add_part(size_t *bytes, size_t part)
{
    size_t at = *bytes;
    *bytes += (part + PART_ALIGNMENT - 1) / PART_ALIGNMENT * PART_ALIGNMENT;
    return at;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Panels of any split of n rows among so many experts: each part of each panel is whole lines. */
static size_t panels_bytes(const struct device *device, size_t n_rows, size_t n_panels,
                           uint32_t width, uint32_t forms)
{
    return cpu_act_bytes(device, (uint32_t)n_rows, width, forms) + n_panels * 2 * PART_ALIGNMENT;
}

struct moe_places cpu_moe_places(const struct device *device, const struct weight *gate_up,
                                 const struct weight *down, uint32_t max_rows, uint32_t n_used,
                                 void *workspace)
{
    size_t n_pairs = (size_t)max_rows * n_used, n_chosen = min_size(gate_up->n_experts, n_pairs);
    size_t bytes = 0;
    uint8_t *base = workspace;
    struct moe_places places;

    places.plan = (struct moe_plan *)(base + add_part(&bytes, sizeof *places.plan));
    places.chosen =
        (struct moe_chosen *)(base + add_part(&bytes, n_chosen * sizeof *places.chosen));
    places.items = (struct moe_item *)(base + add_part(&bytes, n_pairs * sizeof *places.items));
    places.order = (uint32_t *)(base + add_part(&bytes, n_pairs * sizeof *places.order));
    places.in = base + add_part(&bytes, panels_bytes(device, n_pairs, n_chosen, gate_up->n_in,
                                                     gate_up->act_forms));
    places.gated = base + add_part(&bytes, panels_bytes(device, n_pairs, n_chosen, down->n_in,
                                                        down->act_forms));
    places.results =
        (float *)(base + add_part(&bytes, n_pairs * down->n_out * sizeof *places.results));
    places.bytes = bytes;
    return places;
}

struct act cpu_moe_in(const struct moe_args *args, const struct moe_places *places,
                      const struct moe_chosen *chosen)
{
    return (struct act){.base = places->in + chosen->in_at,
                        .max_rows = chosen->n,
                        .width = args->gate_up->n_in,
                        .forms = args->gate_up->act_forms};
}

struct act cpu_moe_gated(const struct moe_args *args, const struct moe_places *places,
                         const struct moe_chosen *chosen)
{
    return (struct act){.base = places->gated + chosen->gated_at,
                        .max_rows = chosen->n,
                        .width = args->down->n_in,
                        .forms = args->down->act_forms};
}

uint32_t cpu_moe_item_groups(const struct moe_args *args, enum activations activations)
{
    struct act in = {.width = args->gate_up->n_in, .forms = args->gate_up->act_forms};
    struct act gated = {.width = args->down->n_in, .forms = args->down->act_forms};
    struct cpu_input reads_in = {.act = &in, .activations = activations};
    struct cpu_input reads_gated = {.act = &gated, .activations = activations};
    uint32_t a = cpu_walk_groups(&reads_in), b = cpu_walk_groups(&reads_gated);
    return a < b ? a : b;
}

/* Counts the pairs of each expert. */
static int count_pairs(const struct moe_args *args, uint32_t *counts)
{
    size_t n_pairs = (size_t)args->n_rows * args->n_used;
    memset(counts, 0, args->gate_up->n_experts * sizeof *counts);
    for (size_t pair = 0; pair < n_pairs; pair++) {
        if (args->experts[pair] >= args->gate_up->n_experts)
            return STATUS_OUT_OF_RANGE;
        counts[args->experts[pair]]++;
    }
    return STATUS_OK;
}

int cpu_moe_plan_fill(const struct device *device, const struct moe_args *args,
                      const struct moe_places *places, void *scratch)
{
    uint32_t *counts = scratch, *next = counts + MODEL_EXPERTS_MAX;
    struct moe_plan *plan = places->plan;
    uint32_t most = cpu_moe_item_groups(args, device_cpu(device)->activations), first = 0;
    size_t in_at = 0, gated_at = 0, n_pairs = (size_t)args->n_rows * args->n_used;

    *plan = (struct moe_plan){0};
    int status = count_pairs(args, counts);
    if (status < 0)
        return status;
    for (uint32_t e = 0; e < args->gate_up->n_experts; e++) {
        next[e] = first;
        if (counts[e] == 0)
            continue;
        uint32_t n_groups = cpu_walk_n_groups(counts[e]);
        for (uint32_t group = 0; group < n_groups; group += most)
            places->items[plan->n_items++] = (struct moe_item){
                plan->n_chosen, group, group + most < n_groups ? group + most : n_groups};
        places->chosen[plan->n_chosen++] = (struct moe_chosen){e, first, counts[e], in_at,
                                                               gated_at};
        in_at += cpu_act_bytes(device, counts[e], args->gate_up->n_in, args->gate_up->act_forms);
        gated_at += cpu_act_bytes(device, counts[e], args->down->n_in, args->down->act_forms);
        first += counts[e];
    }
    for (size_t pair = 0; pair < n_pairs; pair++)
        places->order[next[args->experts[pair]]++] = (uint32_t)pair;
    return STATUS_OK;
}
