/* kernels/route_rule.h: what every backend asks of the rule of a router. */
#ifndef QUIRE_KERNELS_ROUTE_RULE_H
#define QUIRE_KERNELS_ROUTE_RULE_H

#include "kernels/ops.h"

static inline bool route_rule_is_sound(const struct route_rule *rule)
{
    return rule->n_experts >= 1 && rule->n_experts <= MODEL_EXPERTS_MAX && rule->n_used >= 1 &&
           rule->n_groups >= 1 && rule->n_experts % rule->n_groups == 0 &&
           rule->n_groups_used >= 1 && rule->n_groups_used <= rule->n_groups &&
           rule->n_used <= rule->n_experts / rule->n_groups * rule->n_groups_used &&
           (rule->group_best == 1 || rule->group_best == 2);
}

#endif
