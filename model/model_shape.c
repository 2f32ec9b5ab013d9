#include "model/model_shape.h"

#include "base/status.h"
#include "model/layer_plan.h"

#include <stdio.h>
#include <string.h>

#define GQA(heads, kv_heads, dim) .n_heads = heads, .kv = {kv_heads, dim, dim, false}
#define LATENT(heads, rank, rope) .n_heads = heads, .kv = {1, (rank) + (rope), rank, true}
#define DENSE(layers, ff) .n_layers = layers, .n_dense_layers = layers, .n_ff = ff
#define EXPERTS(n, used, ff, shared)                                                               \
    .n_experts = n, .n_used = used, .n_expert_ff = ff, .n_shared_ff = shared

/* From the publishers' configurations. */
static const struct model_shape shapes[] = {
    {"smollm2-135m", "SmolLM2 135M", NULL, DENSE(30, 1536), .width = 576, .vocabulary = 49152,
     .tied_output = true, .context = 8192, GQA(9, 3, 64)},
    {"llama3.2-1b", "Llama 3.2 1B", NULL, DENSE(16, 8192), .width = 2048, .vocabulary = 128256,
     .tied_output = true, .context = 131072, GQA(32, 8, 64)},
    {"llama3.2-3b", "Llama 3.2 3B", NULL, DENSE(28, 8192), .width = 3072, .vocabulary = 128256,
     .tied_output = true, .context = 131072, GQA(24, 8, 128)},
    {"llama3.1-8b", "Llama 3.1 8B", NULL, DENSE(32, 14336), .width = 4096, .vocabulary = 128256,
     .context = 131072, GQA(32, 8, 128)},
    {"llama3.3-70b", "Llama 3.1 and 3.3 70B", NULL, DENSE(80, 28672), .width = 8192,
     .vocabulary = 128256, .context = 131072, GQA(64, 8, 128)},
    {"llama3.1-405b", "Llama 3.1 405B", NULL, DENSE(126, 53248), .width = 16384,
     .vocabulary = 128256, .context = 131072, GQA(128, 8, 128)},
    {"llama4-scout", "Llama 4 Scout", NULL, .n_layers = 48, .n_local_layers = 36, .window = 8192,
     .width = 5120, .vocabulary = 202048, .context = 10485760, GQA(40, 8, 128),
     EXPERTS(16, 1, 8192, 8192)},
    {"llama4-maverick", "Llama 4 Maverick", NULL, .n_layers = 48, .n_local_layers = 36,
     .window = 8192, .n_dense_layers = 24, .n_ff = 16384, .width = 5120, .vocabulary = 202048,
     .context = 1048576, GQA(40, 8, 128), EXPERTS(128, 1, 8192, 8192)},
    {"llama4-behemoth", "Llama 4 Behemoth",
     "announced with about 2 T parameters in 16 experts, 288 B of them active, and not released: "
     "its layers, heads and context are unknown",
     .n_experts = 16, .published_parameters = 2000000000000u, .published_active = 288000000000u},
    {"mistral-7b", "Mistral 7B v0.3", NULL, DENSE(32, 14336), .width = 4096, .vocabulary = 32768,
     .context = 32768, GQA(32, 8, 128)},
    {"mixtral-8x7b", "Mixtral 8x7B", NULL, .n_layers = 32, .width = 4096, .vocabulary = 32000,
     .context = 32768, GQA(32, 8, 128), EXPERTS(8, 2, 14336, 0)},
    {"mistral-nemo-12b", "Mistral Nemo 12B", NULL, DENSE(40, 14336), .width = 5120,
     .vocabulary = 131072, .context = 131072, GQA(32, 8, 128)},
    {"mistral-small-24b", "Mistral Small 3.1 24B", NULL, DENSE(40, 32768), .width = 5120,
     .vocabulary = 131072, .context = 131072, GQA(32, 8, 128)},
    {"qwen2.5-7b-1m", "Qwen2.5 7B 1M", NULL, DENSE(28, 18944), .width = 3584, .vocabulary = 152064,
     .context = 1010000, GQA(28, 4, 128)},
    {"qwen2.5-14b-1m", "Qwen2.5 14B 1M", NULL, DENSE(48, 13824), .width = 5120,
     .vocabulary = 152064, .context = 1010000, GQA(40, 8, 128)},
    {"qwen3-8b", "Qwen3 8B", NULL, DENSE(36, 12288), .width = 4096, .vocabulary = 151936,
     .context = 40960, GQA(32, 8, 128)},
    {"qwen3-30b-a3b", "Qwen3 30B A3B 2507", NULL, .n_layers = 48, .width = 2048,
     .vocabulary = 151936, .context = 262144, GQA(32, 4, 128), EXPERTS(128, 8, 768, 0)},
    {"qwen3-235b-a22b", "Qwen3 235B A22B 2507", NULL, .n_layers = 94, .width = 4096,
     .vocabulary = 151936, .context = 262144, GQA(64, 4, 128), EXPERTS(128, 8, 1536, 0)},
    {"deepseek-v2-lite", "DeepSeek V2 Lite", NULL, .n_layers = 27, .n_dense_layers = 1,
     .n_ff = 10944, .width = 2048, .vocabulary = 102400, .context = 163840, LATENT(16, 512, 64),
     .nope_dim = 128, .value_dim = 128, EXPERTS(64, 6, 1408, 2 * 1408)},
    {"deepseek-v2", "DeepSeek V2", NULL, .n_layers = 60, .n_dense_layers = 1, .n_ff = 12288,
     .width = 5120, .vocabulary = 102400, .context = 163840, LATENT(128, 512, 64), .q_rank = 1536,
     .nope_dim = 128, .value_dim = 128, EXPERTS(160, 6, 1536, 2 * 1536)},
    {"deepseek-v3", "DeepSeek V3 and R1", NULL, .n_layers = 61, .n_dense_layers = 3,
     .n_ff = 18432, .width = 7168, .vocabulary = 129280, .context = 163840, LATENT(128, 512, 64),
     .q_rank = 1536, .nope_dim = 128, .value_dim = 128, EXPERTS(256, 8, 2048, 2048)},
};

const struct model_shape *model_shape_at(size_t idx)
{
    return idx < sizeof shapes / sizeof *shapes ? &shapes[idx] : NULL;
}

const struct model_shape *model_shape_find(const char *name)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (strcmp(shapes[i].name, name) == 0)
            return &shapes[i];
    return NULL;
}

/* Layers of one kind are taken to be alike. */
static void count_feed_forward(const struct model_plan *plan, struct model_shape *out)
{
    for (uint32_t i = 0; i < plan->n_layers; i++) {
        const struct layer_plan *layer = &plan->layers[i];
        if (layer->ffn == FFN_DENSE) {
            out->n_dense_layers++;
            out->n_ff = layer->n_ff;
            continue;
        }
        out->n_experts = layer->experts.rule.n_experts;
        out->n_used = layer->experts.rule.n_used;
        out->n_expert_ff = layer->experts.n_ff;
        out->n_shared_ff = layer->experts.n_shared_ff;
    }
}

void model_shape_from_plan(const struct model_plan *plan, struct model_shape *out)
{
    const struct layer_plan *layer = &plan->layers[0];

    *out = (struct model_shape){.n_layers = plan->n_layers,
                                .width = plan->width,
                                .vocabulary = plan->vocabulary,
                                .tied_output = plan->tied_output,
                                .context = plan->context,
                                .n_heads = layer->n_heads,
                                .kv = layer->kv,
                                .q_rank = layer->latent.q_rank,
                                .nope_dim = layer->latent.nope_dim,
                                .value_dim = layer->latent.value_dim};
    count_feed_forward(plan, out);
    snprintf(out->title, sizeof out->title, "%s", plan->name);
    for (uint32_t i = 0; i < plan->n_groups; i++)
        if (plan->groups[i].kind != KV_FULL) {
            out->n_local_layers += plan->groups[i].n_layers;
            out->window = plan->groups[i].window;
        }
}

int model_shape_check_pages(const struct model_shape *shape, const struct kv_dtypes *kv_dtypes,
                            struct why *why)
{
    uint32_t n = shape->n_layers, n_local = shape->n_local_layers;

    if (kv_dtypes->names_local && !kv_dtypes->names_global && n > 0 && n_local == 0)
        return refuse(why, STATUS_INVALID,
                      "--kv-dtype local=%s changes no page: none of the model's %u layers has a "
                      "window; name global=, or one type for all",
                      kv_dtype_name(kv_dtypes->local), n);
    if (kv_dtypes->names_global && !kv_dtypes->names_local && n > 0 && n_local == n)
        return refuse(why, STATUS_INVALID,
                      "--kv-dtype global=%s changes no page: all of the model's %u layers have a "
                      "window; name local=, or one type for all",
                      kv_dtype_name(kv_dtypes->global), n);
    return STATUS_OK;
}

static uint64_t attention_parameters(const struct model_shape *shape)
{
    uint64_t width = shape->width, heads = shape->n_heads;
    const struct kv_shape *kv = &shape->kv;

    if (!kv->v_in_k)
        return width * heads * kv->k_dim + width * kv->n_kv_heads * (kv->k_dim + kv->v_dim) +
               heads * kv->v_dim * width;
    uint64_t rank = kv->v_dim, rope = kv->k_dim - kv->v_dim;
    uint64_t q_out = heads * (shape->nope_dim + rope);
    uint64_t q = shape->q_rank > 0 ? (width + q_out) * shape->q_rank : width * q_out;
    return q + width * kv->k_dim + rank * heads * (shape->nope_dim + shape->value_dim) +
           heads * shape->value_dim * width;
}

static uint64_t count(const struct model_shape *shape, uint64_t n_experts, uint64_t n_tables)
{
    uint64_t matrix = 3 * (uint64_t)shape->width; /* gate, up and down, one column of each */
    uint64_t n_moe_layers = shape->n_layers - shape->n_dense_layers;

    return shape->n_layers * attention_parameters(shape) +
           shape->n_dense_layers * matrix * shape->n_ff +
           n_moe_layers * matrix * (n_experts * shape->n_expert_ff + shape->n_shared_ff) +
           n_tables * shape->width * shape->vocabulary;
}

uint64_t model_shape_parameters(const struct model_shape *shape)
{
    if (shape->n_layers == 0)
        return shape->published_parameters;
    return count(shape, shape->n_experts, shape->tied_output ? 1 : 2);
}

uint64_t model_shape_active_parameters(const struct model_shape *shape)
{
    return shape->n_layers == 0 ? shape->published_active : count(shape, shape->n_used, 1);
}
