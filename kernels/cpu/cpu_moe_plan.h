/* kernels/cpu/cpu_moe_plan.h: how the rows of a step are grouped by expert.
 *
 *   pair      (row, slot): row * n_used + slot
 *   position  pairs sorted by expert, those of one expert in their own order
 *   chosen    an expert that has rows: its positions, and its panels of them alone
 *   item      a chosen expert with as many panel groups of its rows as stay in L2 while its weights
 *             pass; workers take pieces of an item's units
 *
 *   workspace: | plan | chosen | items | order | panels in | panels gated | results by pair |
 */
#ifndef QUIRE_KERNELS_CPU_MOE_PLAN_H
#define QUIRE_KERNELS_CPU_MOE_PLAN_H

#include "kernels/cpu/cpu_walk.h"

struct moe_chosen {
    uint32_t expert, first, n; /* positions first .. first + n - 1 */
    size_t in_at, gated_at;    /* where its panels begin, from those of the first */
};

struct moe_item {
    uint32_t chosen_idx, group_begin, group_end;
};

struct moe_plan { /* in the workspace */
    uint32_t n_chosen, n_items;
};

struct moe_places { /* of the workspace's parts, for the pairs that it was sized for */
    struct moe_plan *plan;
    struct moe_chosen *chosen; /* [min(n_experts, pairs)] */
    struct moe_item *items;    /* [pairs] */
    uint32_t *order;           /* [pairs]: the pair of a position */
    uint8_t *in, *gated;       /* panels, one behind the other */
    float *results;            /* [pairs, n_out of down] */
    size_t bytes;
};

struct moe_places cpu_moe_places(const struct device *device, const struct weight *gate_up,
                                 const struct weight *down, uint32_t max_rows, uint32_t n_used,
                                 void *workspace);
/* The panels of a chosen expert: the rows that gate and up read, what down reads. */
struct act cpu_moe_in(const struct moe_args *args, const struct moe_places *places,
                      const struct moe_chosen *chosen);
struct act cpu_moe_gated(const struct moe_args *args, const struct moe_places *places,
                         const struct moe_chosen *chosen);
/* Panel groups of an item at most: the wider panel decides. */
uint32_t cpu_moe_item_groups(const struct moe_args *args, enum activations activations);
/* Sorts and fills the plan; one worker, with scratch of its own. STATUS_OUT_OF_RANGE: an expert
 * that is not there. */
int cpu_moe_plan_fill(const struct device *device, const struct moe_args *args,
                      const struct moe_places *places, void *scratch);

#endif
