/* The llama architecture: Llama 2 and 3, Mistral, SmolLM: RoPE on adjacent pairs, gated
 * feed-forward, biases where a file has them; Mixtral: experts in every layer. */
#include "limits.h"
#include "model/arch_experts.h"
#include "model/rope_plan.h"

#include "base/log.h"
#include "kernels/tensor_type.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROPE_BASE_DEFAULT 10000.0
#define ROPE_BASE_MAX 1e12
#define FACTOR_MIN 1e-6
#define FACTOR_MAX 1e6
#define CONTEXT_MAX INT32_MAX

struct shape {
    uint32_t n_heads, n_kv_heads, k_dim, v_dim, n_ff, n_rot;
    bool has_experts;
    struct experts_plan experts;
};

static struct shape read_shape(struct arch_reader *reader, uint32_t width)
{
    struct shape shape = {.experts = arch_experts_of(ROUTE_SOFTMAX, true)};

    shape.n_heads = arch_number(reader, "attention.head_count", 1, MODEL_HEADS_MAX);
    shape.n_kv_heads =
        arch_number_or(reader, "attention.head_count_kv", 1, MODEL_HEADS_MAX, shape.n_heads);
    shape.n_ff = arch_number(reader, "feed_forward_length", 1, MODEL_FF_MAX);
    if (reader->status == STATUS_OK && shape.n_heads % shape.n_kv_heads != 0)
        arch_fault(reader, STATUS_CORRUPT,
                   "attention.head_count %u is no multiple of attention.head_count_kv %u",
                   shape.n_heads, shape.n_kv_heads);
    uint32_t head = reader->status == STATUS_OK ? width / shape.n_heads : 1;
    shape.k_dim = arch_number_or(reader, "attention.key_length", 1, MODEL_HEAD_DIM_MAX, head);
    shape.v_dim = arch_number_or(reader, "attention.value_length", 1, MODEL_HEAD_DIM_MAX, head);
    if (reader->status == STATUS_OK && (shape.k_dim == 0 || shape.k_dim > MODEL_HEAD_DIM_MAX ||
                                        shape.v_dim == 0 || shape.v_dim > MODEL_HEAD_DIM_MAX))
        arch_fault(reader, STATUS_CORRUPT,
                   "embedding_length %u over attention.head_count %u gives heads of %u values; 1 "
                   "to %d are possible",
                   width, shape.n_heads, shape.k_dim, MODEL_HEAD_DIM_MAX);
    shape.has_experts = arch_experts_read(reader, shape.n_ff, &shape.experts);
    shape.n_rot =
        arch_number_or(reader, "rope.dimension_count", 2, MODEL_HEAD_DIM_MAX, shape.k_dim);
    if (reader->status == STATUS_OK && (shape.n_rot % 2 != 0 || shape.n_rot > shape.k_dim))
        arch_fault(reader, STATUS_CORRUPT,
                   "rope.dimension_count is %u; it must be even and at most the head's %u values",
                   shape.n_rot, shape.k_dim);
    return shape;
}

static enum rope_scaling read_scaling(struct arch_reader *reader)
{
    struct slice text = arch_text_or(reader, "rope.scaling.type", "linear");
    char quoted[64];

    if (slice_equal(text, slice_from("none")))
        return ROPE_SCALING_NONE;
    if (slice_equal(text, slice_from("linear")))
        return ROPE_SCALING_LINEAR;
    if (slice_equal(text, slice_from("yarn")))
        return ROPE_SCALING_YARN;
    arch_fault(reader, STATUS_UNSUPPORTED,
               "rope.scaling.type is %s; this build knows none, linear and yarn",
               log_quote(quoted, sizeof quoted, (const char *)text.bytes, text.len));
    return ROPE_SCALING_NONE;
}

/* rope_freqs.weight as f32, malloc'ed, or NULL. */
static float *read_factors(struct arch_reader *reader, uint32_t n_pairs)
{
    if (reader->status < 0 || !arch_has(reader, "rope_freqs.weight"))
        return NULL;
    arch_vector(reader, "rope_freqs.weight", n_pairs);
    if (reader->status < 0)
        return NULL;

    const struct gguf_tensor *tensor = gguf_tensor_find(reader->file, "rope_freqs.weight");
    float *factors = malloc(n_pairs * sizeof *factors);
    if (factors == NULL) {
        arch_fault(reader, STATUS_NO_MEMORY, "no memory for %u factors", n_pairs);
        return NULL;
    }
    tensor_type_row_to_f32(tensor->type, tensor->bytes, n_pairs, factors);
    for (uint32_t k = 0; k < n_pairs; k++)
        if (!(isfinite(factors[k]) && factors[k] > 0))
            arch_fault(reader, STATUS_CORRUPT,
                       "rope_freqs.weight[%u] is %g; factors must be above 0", k,
                       (double)factors[k]);
    return factors;
}

static void read_rope(struct arch_reader *reader, const struct shape *shape,
                      struct model_plan *plan)
{
    struct rope_source source = {.n_rot = shape->n_rot};

    source.base = arch_real_or(reader, "rope.freq_base", 1, ROPE_BASE_MAX, ROPE_BASE_DEFAULT);
    source.scaling = read_scaling(reader);
    double old = arch_real_or(reader, "rope.scale_linear", 0, FACTOR_MAX, 0);
    source.factor = arch_real_or(reader, "rope.scaling.factor", 0, FACTOR_MAX, old);
    if (source.factor == 0)
        source.factor = 1; /* as written by converters that mean "none" */
    else if (source.factor < FACTOR_MIN)
        arch_fault(reader, STATUS_CORRUPT, "rope.scaling.factor is %g; it must be %g to %g",
                   source.factor, FACTOR_MIN, FACTOR_MAX);
    source.original_context = arch_number_or(reader, "rope.scaling.original_context_length", 1,
                                             CONTEXT_MAX, plan->context);
    source.beta_fast =
        arch_real_or(reader, "rope.scaling.yarn_beta_fast", FACTOR_MIN, FACTOR_MAX, 32);
    source.beta_slow =
        arch_real_or(reader, "rope.scaling.yarn_beta_slow", FACTOR_MIN, FACTOR_MAX, 1);
    source.log_multiplier =
        arch_real_or(reader, "rope.scaling.yarn_log_multiplier", 0, FACTOR_MAX, 0);
    source.attn_factor =
        arch_real_or(reader, "rope.scaling.attn_factor", FACTOR_MIN, FACTOR_MAX, 1);
    if (source.scaling == ROPE_SCALING_YARN && source.base <= 1)
        arch_fault(reader, STATUS_CORRUPT, "rope.freq_base is %g; yarn needs one above 1",
                   source.base);

    float *factors = read_factors(reader, shape->n_rot / 2);
    source.factors = factors;
    if (reader->status == STATUS_OK)
        reader->status = rope_plan_make(&source, &plan->ropes[0], reader->why);
    if (reader->status == STATUS_OK)
        plan->n_ropes = 1;
    free(factors);
}

static bool check_optional(struct arch_reader *reader, uint32_t layer, const char *part, uint64_t n)
{
    if (!arch_layer_has(reader, layer, part))
        return false;
    arch_layer_vector(reader, layer, part, n);
    return true;
}

/* Whether there is a bias: of the three any may be missing and is then zero. */
static bool check_qkv(struct arch_reader *reader, uint32_t layer, const struct model_plan *plan,
                      const struct shape *shape)
{
    uint64_t q = (uint64_t)shape->n_heads * shape->k_dim,
             k = (uint64_t)shape->n_kv_heads * shape->k_dim,
             v = (uint64_t)shape->n_kv_heads * shape->v_dim;

    if (!arch_layer_has(reader, layer, "attn_q.weight") &&
        arch_layer_has(reader, layer, "attn_qkv.weight")) {
        arch_layer_matrix(reader, layer, "attn_qkv.weight", plan->width, q + k + v);
        return check_optional(reader, layer, "attn_qkv.bias", q + k + v);
    }
    arch_layer_matrix(reader, layer, "attn_q.weight", plan->width, q);
    arch_layer_matrix(reader, layer, "attn_k.weight", plan->width, k);
    arch_layer_matrix(reader, layer, "attn_v.weight", plan->width, v);
    bool has_q = check_optional(reader, layer, "attn_q.bias", q);
    bool has_k = check_optional(reader, layer, "attn_k.bias", k);
    bool has_v = check_optional(reader, layer, "attn_v.bias", v);
    return has_q || has_k || has_v;
}

static void read_dense(struct arch_reader *reader, uint32_t i, uint32_t n_ff,
                       const struct model_plan *plan)
{
    struct layer_plan *layer = &plan->layers[i];

    layer->ffn = FFN_DENSE;
    layer->n_ff = n_ff;
    arch_layer_vector(reader, i, "ffn_norm.weight", plan->width);
    arch_layer_matrix(reader, i, "ffn_gate.weight", plan->width, n_ff);
    arch_layer_matrix(reader, i, "ffn_up.weight", plan->width, n_ff);
    arch_layer_matrix(reader, i, "ffn_down.weight", n_ff, plan->width);
    bool gate = check_optional(reader, i, "ffn_gate.bias", n_ff);
    bool up = check_optional(reader, i, "ffn_up.bias", n_ff);
    bool down = check_optional(reader, i, "ffn_down.bias", plan->width);
    layer->has_ffn_bias = gate || up || down;
}

static void read_layer(struct arch_reader *reader, uint32_t i, const struct shape *shape,
                       struct model_plan *plan)
{
    struct layer_plan *layer = &plan->layers[i];
    uint64_t v_width = (uint64_t)shape->n_heads * shape->v_dim;

    layer->n_heads = shape->n_heads;
    layer->kv = plan->groups[0].shape;
    layer->kv_group = 0;
    layer->kv_layer = i;
    layer->rope = ROPE_NORM;
    layer->n_rot = shape->n_rot;
    layer->rope_idx = 0;
    layer->q_scale = (float)(M_LOG2E / sqrt(shape->k_dim));

    arch_layer_vector(reader, i, "attn_norm.weight", plan->width);
    layer->has_qkv_bias = check_qkv(reader, i, plan, shape);
    arch_layer_matrix(reader, i, "attn_output.weight", v_width, plan->width);
    layer->has_output_bias = check_optional(reader, i, "attn_output.bias", plan->width);
    if (shape->has_experts)
        arch_experts_layer(reader, i, &shape->experts, plan);
    else
        read_dense(reader, i, shape->n_ff, plan);
}

static void read_embedding(struct arch_reader *reader, struct model_plan *plan)
{
    const struct gguf_tensor *embedding = gguf_tensor_find(reader->file, "token_embd.weight");

    if (embedding != NULL &&
        (embedding->dims[1] == 0 || embedding->dims[1] > MODEL_VOCABULARY_MAX)) {
        arch_fault(reader, STATUS_CORRUPT, "token_embd.weight has %llu rows; 1 to %u are possible",
                   (unsigned long long)embedding->dims[1], MODEL_VOCABULARY_MAX);
        return;
    }
    plan->vocabulary = embedding != NULL ? (uint32_t)embedding->dims[1] : 0;
    arch_matrix(reader, "token_embd.weight", plan->width, plan->vocabulary);
    arch_vector(reader, "output_norm.weight", plan->width);
    plan->tied_output = !arch_has(reader, "output.weight");
    if (!plan->tied_output)
        arch_matrix(reader, "output.weight", plan->width, plan->vocabulary);
}

void arch_llama_read(struct arch_reader *reader, struct model_plan *plan)
{
    plan->n_layers = reader->n_layers = arch_number(reader, "block_count", 1, MODEL_LAYERS_MAX);
    plan->context = arch_number(reader, "context_length", 1, CONTEXT_MAX);
    plan->width = arch_number(reader, "embedding_length", 1, MODEL_WIDTH_MAX);
    plan->norm_eps = arch_real(reader, "attention.layer_norm_rms_epsilon", 1e-20, 0.999);
    struct shape shape = read_shape(reader, plan->width);
    read_rope(reader, &shape, plan);
    if (reader->status < 0)
        return;

    plan->n_groups = 1;
    plan->groups[0] = (struct kv_group_plan){
        .kind = KV_FULL,
        .shape = {.n_kv_heads = shape.n_kv_heads, .k_dim = shape.k_dim, .v_dim = shape.v_dim},
        .n_layers = plan->n_layers};
    plan->layers = calloc(plan->n_layers, sizeof *plan->layers);
    if (plan->layers == NULL) {
        arch_fault(reader, STATUS_NO_MEMORY, "no memory for %u layers", plan->n_layers);
        return;
    }
    read_embedding(reader, plan);
    for (uint32_t i = 0; i < plan->n_layers && reader->status == STATUS_OK; i++)
        read_layer(reader, i, &shape, plan);
}
