#include "kernels/cpu/cpu_ops.h"

#include "kernels/cpu/cpu_panel.h"
#include "kernels/cpu/cpu_weight.h"

const struct ops cpu_ops = {
    .name = "cpu",
    .numerics = 1,
    .weight_load = cpu_weight_load,
    .weight_free = cpu_weight_free,
    .weight_info = cpu_weight_info,
    .act_bytes = cpu_act_bytes,
    .page_layer_bytes = cpu_page_layer_bytes,
    .attend_workspace_bytes = cpu_attend_workspace_bytes,
    .sample_workspace_bytes = cpu_sample_workspace_bytes,
    .moe_workspace_bytes = cpu_moe_workspace_bytes,
    .embed = cpu_embed,
    .norm = cpu_norm,
    .quantize = cpu_quantize,
    .linear = cpu_linear,
    .linear_heads = cpu_linear_heads,
    .linear_glu = cpu_linear_glu,
    .route = cpu_route,
    .moe = cpu_moe,
    .rope_append = cpu_rope_append,
    .page_seal = cpu_page_seal,
    .attend = cpu_attend,
    .gather = cpu_gather,
    .sample = cpu_sample,
    .count = cpu_count,
    .count_zero = cpu_count_zero,
    .count_copy = cpu_count_copy,
    .page_zero = cpu_page_zero,
    .page_copy = cpu_page_copy,
};
