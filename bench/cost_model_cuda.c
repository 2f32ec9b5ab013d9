#include "bench/op_counter.h"

#include "kernels/cuda/cuda_cost.h"
#include "kernels/cuda/cuda_weight.h"

/* Activations are f16 wherever weights are blocks: nothing chooses. */

static int plan_weight(enum weight_fuse fuse, const struct weight_source *sources,
                       uint32_t n_sources, enum activations activations, struct weight *out,
                       struct why *why)
{
    (void)activations;
    return cuda_weight_plan(fuse, sources, n_sources, out, why);
}

static struct op_cost cost_of_norm(const struct norm_args *args, enum activations activations)
{
    (void)activations;
    return cuda_cost_norm(args);
}

static struct op_cost cost_of_quantize(const struct quantize_args *args,
                                       enum activations activations)
{
    (void)activations;
    return cuda_cost_quantize(args);
}

static struct op_cost cost_of_linear(const struct linear_args *args, enum activations activations)
{
    (void)activations;
    return cuda_cost_linear(args);
}

static struct op_cost cost_of_linear_heads(const struct linear_heads_args *args,
                                           enum activations activations)
{
    (void)activations;
    return cuda_cost_linear_heads(args);
}

static struct op_cost cost_of_linear_glu(const struct linear_glu_args *args,
                                         enum activations activations)
{
    (void)activations;
    return cuda_cost_linear_glu(args);
}

static struct op_cost cost_of_moe(const struct moe_args *args, enum activations activations)
{
    (void)activations;
    return cuda_cost_moe(args);
}

static struct op_cost cost_of_attend(const struct attend_args *args, enum activations activations)
{
    (void)activations;
    return cuda_cost_attend(args);
}

const struct cost_model cost_model_cuda = {
    .name = "CUDA",
    .weight_bytes = sizeof(struct weight),
    .weight_plan = plan_weight,
    .weight_info = cuda_weight_info,
    .embed = cuda_cost_embed,
    .norm = cost_of_norm,
    .quantize = cost_of_quantize,
    .linear = cost_of_linear,
    .linear_heads = cost_of_linear_heads,
    .linear_glu = cost_of_linear_glu,
    .route = cuda_cost_route,
    .moe = cost_of_moe,
    .rope_append = cuda_cost_rope_append,
    .page_seal = cuda_cost_page_seal,
    .attend = cost_of_attend,
    .gather = cuda_cost_gather,
    .greedy = cuda_cost_greedy,
};
