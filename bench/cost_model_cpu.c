#include "bench/op_counter.h"

#include "kernels/cpu/cpu_cost.h"
#include "kernels/cpu/cpu_weight.h"

const struct cost_model cost_model_cpu = {
    .name = "CPU",
    .weight_bytes = sizeof(struct weight),
    .weight_plan = cpu_weight_plan,
    .weight_info = cpu_weight_info,
    .embed = cpu_cost_embed,
    .norm = cpu_cost_norm,
    .quantize = cpu_cost_quantize,
    .linear = cpu_cost_linear,
    .linear_heads = cpu_cost_linear_heads,
    .linear_glu = cpu_cost_linear_glu,
    .route = cpu_cost_route,
    .moe = cpu_cost_moe,
    .rope_append = cpu_cost_rope_append,
    .page_seal = cpu_cost_page_seal,
    .attend = cpu_cost_attend,
    .gather = cpu_cost_gather,
    .greedy = cpu_cost_greedy,
};
