#include "model/weights_loader.h"

#include "base/status.h"

#include <stdlib.h>
#include <string.h>

/* q, k and v in one tensor, as some converters have them: q apart from the others. */
static void load_fused_apart(struct loader *loader, const char *name,
                             const struct layer_plan *plan, struct layer_weights *out)
{
    if (loader->status < 0)
        return;
    const struct gguf_tensor *tensor = loader_find(loader, name);
    uint64_t row_bytes = tensor->n_bytes / tensor->dims[1];
    uint32_t n_queries = plan->n_heads * plan->kv.k_dim;
    struct weight_source q = {.type = tensor->type,
                              .n_in = (uint32_t)tensor->dims[0],
                              .n_out = n_queries,
                              .bytes = tensor->bytes,
                              .name = name};
    struct weight_source kv = q;
    kv.n_out = (uint32_t)tensor->dims[1] - n_queries;
    kv.bytes = (const char *)tensor->bytes + n_queries * row_bytes;

    out->q = loader_matrix(loader, WEIGHT_PLAIN, &q, 1);
    out->kv = loader_matrix(loader, WEIGHT_PLAIN, &kv, 1);
    if (loader->status == STATUS_OK)
        loader_progress(loader, tensor);
}

/* Of q, k and v: in one vector of the file, or in three of which some may be missing. */
static float *load_qkv_bias(struct loader *loader, uint32_t layer, const struct layer_plan *plan)
{
    struct layer_name fused = loader_name(layer, "attn_qkv.bias"),
                      q = loader_name(layer, "attn_q.bias"), k = loader_name(layer, "attn_k.bias"),
                      v = loader_name(layer, "attn_v.bias");
    const struct kv_shape *kv = &plan->kv;

    if (gguf_tensor_find(loader->file, fused.text) != NULL)
        return loader_vector(loader, fused.text);
    return loader_vectors(loader, (const char *[]){q.text, k.text, v.text},
                          (uint64_t[]){(uint64_t)plan->n_heads * kv->k_dim,
                                       (uint64_t)kv->n_kv_heads * kv->k_dim,
                                       (uint64_t)kv->n_kv_heads * kv->v_dim},
                          3);
}

static void load_qkv(struct loader *loader, uint32_t layer, const struct layer_plan *plan,
                     bool is_last, struct layer_weights *out)
{
    struct layer_name q = loader_name(layer, "attn_q.weight"),
                      k = loader_name(layer, "attn_k.weight"),
                      v = loader_name(layer, "attn_v.weight"),
                      fused = loader_name(layer, "attn_qkv.weight");
    const char *names[] = {q.text, k.text, v.text};
    bool is_fused = gguf_tensor_find(loader->file, q.text) == NULL; /* rows in the same order */

    if (is_fused && is_last) {
        load_fused_apart(loader, fused.text, plan, out);
    } else if (is_fused) {
        out->qkv = loader_weight(loader, WEIGHT_PLAIN, (const char *[]){fused.text}, 1);
    } else if (is_last) {
        out->q = loader_weight(loader, WEIGHT_PLAIN, names, 1);
        out->kv = loader_weight(loader, WEIGHT_QKV, names + 1, 2);
    } else {
        out->qkv = loader_weight(loader, WEIGHT_QKV, names, 3);
    }
    if (plan->has_qkv_bias)
        out->qkv_bias = load_qkv_bias(loader, layer, plan);
}

static struct weight *load_gate_up_experts(struct loader *loader, uint32_t layer)
{
    struct layer_name both = loader_name(layer, "ffn_gate_up_exps.weight");
    struct layer_name gate = loader_name(layer, "ffn_gate_exps.weight"),
                      up = loader_name(layer, "ffn_up_exps.weight");

    if (gguf_tensor_find(loader->file, both.text) != NULL)
        return loader_experts(loader, WEIGHT_EXPERTS_GATE_UP, (const char *[]){both.text}, 1);
    return loader_experts(loader, WEIGHT_EXPERTS_GATE_UP, (const char *[]){gate.text, up.text}, 2);
}

static void load_shared(struct loader *loader, uint32_t layer, bool has_gate,
                        struct layer_weights *out)
{
    struct layer_name gate = loader_name(layer, "ffn_gate_shexp.weight"),
                      up = loader_name(layer, "ffn_up_shexp.weight"),
                      down = loader_name(layer, "ffn_down_shexp.weight");
    const char *gate_up[] = {gate.text, up.text};

    if (!has_gate) {
        out->gate_up = loader_weight(loader, WEIGHT_GATE_UP, gate_up, 2);
        out->down = loader_weight(loader, WEIGHT_PLAIN, (const char *[]){down.text}, 1);
        return;
    }
    out->shared_gate = loader_layer_weight(loader, layer, "ffn_gate_inp_shexp.weight");
    out->gate_up = loader_experts(loader, WEIGHT_EXPERTS_GATE_UP, gate_up, 2);
    out->down = loader_experts(loader, WEIGHT_EXPERTS, (const char *[]){down.text}, 1);
}

static void load_moe(struct loader *loader, uint32_t layer, const struct experts_plan *experts,
                     struct layer_weights *out)
{
    struct layer_name down = loader_name(layer, "ffn_down_exps.weight");

    out->router = loader_layer_weight(loader, layer, "ffn_gate_inp.weight");
    out->experts_gate_up = load_gate_up_experts(loader, layer);
    out->experts_down = loader_experts(loader, WEIGHT_EXPERTS, (const char *[]){down.text}, 1);
    if (experts->has_choice_bias)
        out->choice_bias = loader_layer_vector(loader, layer, "exp_probs_b.bias");
    if (experts->n_shared_ff > 0)
        load_shared(loader, layer, experts->has_shared_gate, out);
}

static void load_layer(struct loader *loader, uint32_t layer, const struct layer_plan *plan,
                       bool is_last, struct layer_weights *out)
{
    struct layer_name gate = loader_name(layer, "ffn_gate.weight"),
                      up = loader_name(layer, "ffn_up.weight");

    out->attn_norm = loader_layer_vector(loader, layer, "attn_norm.weight");
    if (plan->kv.v_in_k)
        loader_latent(loader, layer, plan, &out->latent);
    else
        load_qkv(loader, layer, plan, is_last, out);
    if (plan->qk_norm == QK_NORM_BEFORE) {
        out->q_norm = loader_layer_vector(loader, layer, "attn_q_norm.weight");
        out->k_norm = loader_layer_vector(loader, layer, "attn_k_norm.weight");
    }
    out->out = loader_layer_weight(loader, layer, "attn_output.weight");
    if (plan->has_output_bias)
        out->out_bias = loader_layer_vector(loader, layer, "attn_output.bias");
    out->ffn_norm = loader_layer_vector(loader, layer, "ffn_norm.weight");
    if (plan->ffn == FFN_MOE) {
        load_moe(loader, layer, &plan->experts, out);
        return;
    }
    out->gate_up = loader_weight(loader, WEIGHT_GATE_UP, (const char *[]){gate.text, up.text}, 2);
    out->down = loader_layer_weight(loader, layer, "ffn_down.weight");
    if (plan->has_ffn_bias) { /* any of them */
        out->gate_bias = loader_layer_optional(loader, layer, "ffn_gate.bias");
        out->up_bias = loader_layer_optional(loader, layer, "ffn_up.bias");
        out->down_bias = loader_layer_optional(loader, layer, "ffn_down.bias");
    }
}

static uint64_t bytes_of(const struct ops *ops, const struct weight *weight)
{
    return weight != NULL ? ops->weight_info(weight).bytes : 0;
}

/* Of experts those that one row chooses. */
static uint64_t count_step_bytes(const struct ops *ops, const struct model_plan *plan,
                                 const struct model_weights *weights)
{
    uint64_t bytes = bytes_of(ops, weights->output);
    for (uint32_t i = 0; i < plan->n_layers; i++) {
        const struct layer_weights *layer = &weights->layers[i];
        const struct route_rule *rule = &plan->layers[i].experts.rule;
        const struct latent_weights *latent = &layer->latent;
        bytes += bytes_of(ops, layer->qkv) + bytes_of(ops, layer->q) + bytes_of(ops, layer->kv) +
                 bytes_of(ops, latent->q_a) + bytes_of(ops, latent->q) +
                 bytes_of(ops, latent->kv_a) + bytes_of(ops, latent->k_b) +
                 bytes_of(ops, latent->v_b) + bytes_of(ops, layer->out) +
                 bytes_of(ops, layer->gate_up) + bytes_of(ops, layer->down) +
                 bytes_of(ops, layer->router) + bytes_of(ops, layer->shared_gate);
        if (plan->layers[i].ffn == FFN_MOE)
            bytes += (bytes_of(ops, layer->experts_gate_up) + bytes_of(ops, layer->experts_down)) /
                     rule->n_experts * rule->n_used;
    }
    return bytes;
}

int weights_load(struct device *device, const struct gguf *file, const struct model_plan *plan,
                 const struct model_options *options, struct model_weights *out, struct why *why)
{
    struct loader loader = {.device = device,
                            .ops = device_ops(device),
                            .file = file,
                            .options = options,
                            .n_total = plan->weight_bytes,
                            .why = why};

    memset(out, 0, sizeof *out);
    out->layers = calloc(plan->n_layers, sizeof *out->layers);
    if (out->layers == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for %u layers", plan->n_layers);
    for (uint32_t i = 0; i < plan->n_ropes; i++)
        out->ropes[i] = loader_upload(&loader, plan->ropes[i].inv_freq,
                               plan->ropes[i].n_pairs * sizeof *plan->ropes[i].inv_freq);
    out->embedding = loader_weight(&loader, WEIGHT_PLAIN, (const char *[]){"token_embd.weight"}, 1);
    for (uint32_t i = 0; i < plan->n_layers; i++)
        load_layer(&loader, i, &plan->layers[i], i + 1 == plan->n_layers, &out->layers[i]);
    out->output_norm = loader_vector(&loader, "output_norm.weight");
    out->output = plan->tied_output
                      ? out->embedding
                      : loader_weight(&loader, WEIGHT_PLAIN, (const char *[]){"output.weight"}, 1);
    if (plan->has_head_bias)
        out->output_bias = loader_vector(&loader, "output.bias");
    if (loader.status < 0) {
        weights_release(device, plan, out);
        return loader.status;
    }
    if (options != NULL &&
        options->on_progress != NULL) /* tensors that nothing uses count as done */
        options->on_progress(options->on_progress_arg, loader.n_total, loader.n_total);
    out->bytes = loader.n_bytes;
    out->step_bytes = count_step_bytes(loader.ops, plan, out);
    return STATUS_OK;
}

void weights_release(struct device *device, const struct model_plan *plan,
                     struct model_weights *weights)
{
    const struct ops *ops = device_ops(device);

    for (uint32_t i = 0; weights->layers != NULL && i < plan->n_layers; i++) {
        struct layer_weights *layer = &weights->layers[i];
        float *vectors[] = {layer->attn_norm, layer->ffn_norm, layer->qkv_bias, layer->out_bias,
                            layer->q_norm,    layer->k_norm,   layer->gate_bias, layer->up_bias,
                            layer->down_bias, layer->choice_bias, layer->latent.q_a_norm,
                            layer->latent.kv_a_norm};
        struct weight *matrices[] = {layer->qkv,     layer->q,          layer->kv,
                                     layer->out,     layer->gate_up,    layer->down,
                                     layer->router,  layer->shared_gate,
                                     layer->experts_gate_up, layer->experts_down,
                                     layer->latent.q_a, layer->latent.q, layer->latent.kv_a,
                                     layer->latent.k_b, layer->latent.v_b};
        for (size_t j = 0; j < sizeof vectors / sizeof *vectors; j++)
            device_free(device, vectors[j]);
        for (size_t j = 0; j < sizeof matrices / sizeof *matrices; j++)
            if (matrices[j] != NULL)
                ops->weight_free(device, matrices[j]);
    }
    if (weights->output != NULL && weights->output != weights->embedding)
        ops->weight_free(device, weights->output);
    if (weights->embedding != NULL)
        ops->weight_free(device, weights->embedding);
    device_free(device, weights->output_norm);
    device_free(device, weights->output_bias);
    for (uint32_t i = 0; i < plan->n_ropes; i++)
        device_free(device, weights->ropes[i]);
    free(weights->layers);
    memset(weights, 0, sizeof *weights);
}
