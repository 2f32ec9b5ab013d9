#include "model/arch_decoder.h"
#include "limits.h"

#include "kernels/tensor_type.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#define CONTEXT_MAX INT32_MAX
#define TEMPERATURE_SCALE_MAX 1e3

/* --- numbers --- */

void arch_read_sizes(struct arch_reader *reader, struct model_plan *plan)
{
    plan->n_layers = reader->n_layers = arch_number(reader, "block_count", 1, MODEL_LAYERS_MAX);
    plan->context = arch_number(reader, "context_length", 1, CONTEXT_MAX);
    plan->width = arch_number(reader, "embedding_length", 1, MODEL_WIDTH_MAX);
    plan->norm_eps = arch_real(reader, "attention.layer_norm_rms_epsilon", 1e-20, 0.999);
    if (!arch_flag_or(reader, "attention.causal", true))
        arch_fault(reader, STATUS_UNSUPPORTED,
                   "%s.attention.causal is false: tokens see those behind them, as in models that "
                   "make embeddings; use a model that generates text",
                   reader->architecture);
    if (reader->status < 0)
        return;
    plan->layers = calloc(plan->n_layers, sizeof *plan->layers);
    if (plan->layers == NULL)
        arch_fault(reader, STATUS_NO_MEMORY, "no memory for %u layers", plan->n_layers);
}

static void check_heads(struct arch_reader *reader, uint32_t width, const struct arch_heads *heads)
{
    if (reader->status < 0)
        return;
    if (heads->k_dim == 0 || heads->k_dim > MODEL_HEAD_DIM_MAX || heads->v_dim == 0 ||
        heads->v_dim > MODEL_HEAD_DIM_MAX)
        arch_fault(reader, STATUS_CORRUPT,
                   "embedding_length %u over attention.head_count %u gives heads of %u values; 1 "
                   "to %d are possible",
                   width, heads->n_heads, heads->k_dim, MODEL_HEAD_DIM_MAX);
}

void arch_read_heads(struct arch_reader *reader, const struct model_plan *plan,
                     struct arch_heads *out)
{
    out->n_heads = arch_number(reader, "attention.head_count", 1, MODEL_HEADS_MAX);
    out->v_in_k = false;
    out->n_kv_heads =
        arch_number_or(reader, "attention.head_count_kv", 1, MODEL_HEADS_MAX, out->n_heads);
    if (reader->status == STATUS_OK && out->n_heads % out->n_kv_heads != 0)
        arch_fault(reader, STATUS_CORRUPT,
                   "attention.head_count %u is no multiple of attention.head_count_kv %u",
                   out->n_heads, out->n_kv_heads);
    uint32_t head = reader->status == STATUS_OK ? plan->width / out->n_heads : 1;
    out->k_dim = arch_number_or(reader, "attention.key_length", 1, MODEL_HEAD_DIM_MAX, head);
    out->v_dim = arch_number_or(reader, "attention.value_length", 1, MODEL_HEAD_DIM_MAX, head);
    check_heads(reader, plan->width, out);
    out->n_rot = arch_number_or(reader, "rope.dimension_count", 2, MODEL_HEAD_DIM_MAX, out->k_dim);
    if (reader->status == STATUS_OK && (out->n_rot % 2 != 0 || out->n_rot > out->k_dim))
        arch_fault(reader, STATUS_CORRUPT,
                   "rope.dimension_count is %u; it must be even and at most the head's %u values",
                   out->n_rot, out->k_dim);
}

struct q_temperature arch_read_temperature(struct arch_reader *reader,
                                           const struct model_plan *plan)
{
    struct q_temperature temperature = {.offset = 0};

    temperature.scale =
        arch_real_or(reader, "attention.temperature_scale", 0, TEMPERATURE_SCALE_MAX, 0);
    uint32_t original = arch_number_or(reader, "rope.scaling.original_context_length", 1, INT32_MAX,
                                       plan->context);
    temperature.length =
        arch_number_or(reader, "attention.temperature_length", 1, INT32_MAX, original);
    return temperature;
}

uint32_t arch_read_n_ff(struct arch_reader *reader)
{
    uint32_t n_experts = arch_number_or(reader, "expert_count", 0, UINT32_MAX, 0);
    if (n_experts == 0)
        return arch_number(reader, "feed_forward_length", 1, MODEL_FF_MAX);
    return arch_number_or(reader, "feed_forward_length", 0, MODEL_FF_MAX, 0);
}

/* --- tensors --- */

static bool check_optional(struct arch_reader *reader, uint32_t layer, const char *part, uint64_t n)
{
    if (!arch_layer_has(reader, layer, part))
        return false;
    arch_layer_vector(reader, layer, part, n);
    return true;
}

/* Whether there is a bias: of the three any may be missing and is then zero. */
static bool check_biases(struct arch_reader *reader, uint32_t layer, uint64_t q, uint64_t k,
                         uint64_t v)
{
    bool has_q = check_optional(reader, layer, "attn_q.bias", q);
    bool has_k = check_optional(reader, layer, "attn_k.bias", k);
    bool has_v = check_optional(reader, layer, "attn_v.bias", v);
    return has_q || has_k || has_v;
}

/* Whether there is a bias. A converter that fuses q, k and v may leave their biases apart. */
static bool check_qkv(struct arch_reader *reader, uint32_t layer, const struct model_plan *plan,
                      const struct arch_heads *heads)
{
    uint64_t q = (uint64_t)heads->n_heads * heads->k_dim,
             k = (uint64_t)heads->n_kv_heads * heads->k_dim,
             v = (uint64_t)heads->n_kv_heads * heads->v_dim;

    if (!arch_layer_has(reader, layer, "attn_q.weight") &&
        arch_layer_has(reader, layer, "attn_qkv.weight")) {
        arch_layer_matrix(reader, layer, "attn_qkv.weight", plan->width, q + k + v);
        return check_optional(reader, layer, "attn_qkv.bias", q + k + v) ||
               check_biases(reader, layer, q, k, v);
    }
    arch_layer_matrix(reader, layer, "attn_q.weight", plan->width, q);
    arch_layer_matrix(reader, layer, "attn_k.weight", plan->width, k);
    arch_layer_matrix(reader, layer, "attn_v.weight", plan->width, v);
    return check_biases(reader, layer, q, k, v);
}

void arch_place_layer(struct model_plan *plan, uint32_t i, enum kv_kind kind, uint32_t window,
                      const struct arch_heads *heads)
{
    struct kv_shape shape = {.n_kv_heads = heads->n_kv_heads,
                             .k_dim = heads->k_dim,
                             .v_dim = heads->v_dim,
                             .v_in_k = heads->v_in_k};
    uint32_t g = 0;

    while (g < plan->n_groups &&
           (plan->groups[g].kind != kind || plan->groups[g].window != window))
        g++;
    assert(g < KV_GROUPS_MAX);
    if (g == plan->n_groups)
        plan->groups[plan->n_groups++] =
            (struct kv_group_plan){.kind = kind, .window = window, .shape = shape};
    plan->layers[i].kv = shape;
    plan->layers[i].kv_group = g;
    plan->layers[i].kv_layer = plan->groups[g].n_layers++;
}

void arch_read_attention(struct arch_reader *reader, uint32_t i, const struct arch_heads *heads,
                         struct model_plan *plan)
{
    struct layer_plan *layer = &plan->layers[i];

    layer->n_heads = heads->n_heads;
    layer->n_rot = heads->n_rot;
    layer->q_scale = (float)(M_LOG2E / sqrt(heads->k_dim));
    arch_layer_vector(reader, i, "attn_norm.weight", plan->width);
    layer->has_qkv_bias = check_qkv(reader, i, plan, heads);
    arch_layer_matrix(reader, i, "attn_output.weight", (uint64_t)heads->n_heads * heads->v_dim,
                      plan->width);
    layer->has_output_bias = check_optional(reader, i, "attn_output.bias", plan->width);
}

void arch_read_dense(struct arch_reader *reader, uint32_t i, uint32_t n_ff,
                     struct model_plan *plan)
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

void arch_read_ends(struct arch_reader *reader, struct model_plan *plan, bool may_have_bias)
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
    plan->has_head_bias = may_have_bias && arch_has(reader, "output.bias");
    if (plan->has_head_bias)
        arch_vector(reader, "output.bias", plan->vocabulary);
}

/* --- windows --- */

struct arch_windows arch_read_windows(struct arch_reader *reader, uint32_t window, uint32_t period)
{
    static const char key[] = "attention.sliding_window_pattern";
    struct arch_windows windows = {.window = window, .flags = arch_flags(reader, key)};
    if (windows.flags == NULL)
        windows.period = arch_number_or(reader, key, 0, MODEL_LAYERS_MAX, period);
    return windows;
}

bool arch_has_window(const struct arch_windows *windows, uint32_t i)
{
    if (windows->window == 0)
        return false;
    if (windows->flags != NULL)
        return gguf_bool_at(windows->flags, i);
    return windows->period == 0 || (i + 1) % windows->period != 0;
}

/* --- a plain decoder --- */

/* Of an architecture that has experts in every layer, or whose files may not have them. */
static bool read_experts(struct arch_reader *reader, uint32_t n_ff, struct experts_plan *experts)
{
    if (experts != NULL)
        return arch_experts_read(reader, n_ff, experts);
    uint32_t n = arch_number_or(reader, "expert_count", 0, UINT32_MAX, 0);
    if (n > 0)
        arch_fault(reader, STATUS_CORRUPT,
                   "%s.expert_count is %u; models of this architecture have no experts",
                   reader->architecture, n);
    return false;
}

void arch_read_plain(struct arch_reader *reader, enum rope_style rope,
                     struct experts_plan *experts, struct model_plan *plan)
{
    struct arch_heads heads;

    arch_read_sizes(reader, plan);
    arch_read_heads(reader, plan, &heads);
    uint32_t n_ff = arch_read_n_ff(reader);
    bool has_experts = read_experts(reader, n_ff, experts);
    uint32_t window = arch_number_or(reader, "attention.sliding_window", 0, CONTEXT_MAX, 0);
    struct arch_windows windows = arch_read_windows(reader, window, 0);
    arch_rope_read(reader, heads.n_rot, false, plan);
    arch_read_ends(reader, plan, rope == ROPE_NEOX);
    for (uint32_t i = 0; i < plan->n_layers && reader->status == STATUS_OK; i++) {
        bool is_local = arch_has_window(&windows, i);
        arch_place_layer(plan, i, is_local ? KV_SLIDING : KV_FULL, is_local ? window : 0, &heads);
        plan->layers[i].rope = rope;
        arch_read_attention(reader, i, &heads, plan);
        if (has_experts)
            arch_experts_layer(reader, i, experts, plan);
        else
            arch_read_dense(reader, i, n_ff, plan);
    }
}
