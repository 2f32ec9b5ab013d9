#include "model/weights.h"

#include "base/status.h"
#include "kernels/tensor_type.h"
#include "model/gguf.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct loader {
    struct device *device;
    const struct ops *ops;
    const struct gguf *file;
    const struct model_options *options;
    uint64_t n_done, n_total;
    struct why *why;
    int status; /* the first failure; later steps do nothing */
};

static const struct gguf_tensor *find(struct loader *loader, const char *name)
{
    const struct gguf_tensor *tensor = gguf_tensor_find(loader->file, name);
    assert(tensor != NULL); /* model_plan_read has seen it */
    return tensor;
}

static void progress(struct loader *loader, const struct gguf_tensor *tensor)
{
    gguf_tensor_drop(loader->file, tensor);
    loader->n_done += tensor->n_bytes;
    if (loader->options != NULL && loader->options->on_progress != NULL)
        loader->options->on_progress(loader->options->on_progress_arg, loader->n_done,
                                     loader->n_total);
}

/* names: 1 to 3 tensors of one fused weight. */
static struct weight *load_weight(struct loader *loader, enum weight_fuse fuse,
                                  const char *const *names, uint32_t n)
{
    struct weight_source sources[3];
    const struct gguf_tensor *tensors[3];
    struct weight *weight = NULL;

    if (loader->status < 0)
        return NULL;
    for (uint32_t i = 0; i < n; i++) {
        tensors[i] = find(loader, names[i]);
        sources[i] = (struct weight_source){.type = tensors[i]->type,
                                            .n_in = (uint32_t)tensors[i]->dims[0],
                                            .n_out = (uint32_t)tensors[i]->dims[1],
                                            .bytes = tensors[i]->bytes,
                                            .name = names[i]};
    }
    loader->status =
        loader->ops->weight_load(loader->device, fuse, sources, n, 0, 1, &weight, loader->why);
    if (loader->status < 0)
        return NULL;
    for (uint32_t i = 0; i < n; i++)
        progress(loader, tensors[i]);
    return weight;
}

static void *upload(struct loader *loader, const void *host, size_t bytes)
{
    void *memory = NULL;

    if (loader->status == STATUS_OK)
        loader->status = device_alloc(loader->device, bytes, &memory, loader->why);
    if (loader->status == STATUS_OK)
        loader->status = device_upload(loader->device, memory, host, bytes);
    if (loader->status < 0) {
        device_free(loader->device, memory);
        return NULL;
    }
    return memory;
}

/* Vectors of these lengths, end to end, as f32; one that the file lacks is zeros. */
static float *load_vectors(struct loader *loader, const char *const *names, const uint64_t *lengths,
                           uint32_t n)
{
    uint64_t n_values = 0;

    if (loader->status < 0)
        return NULL;
    for (uint32_t i = 0; i < n; i++)
        n_values += lengths[i];
    float *host = calloc(n_values, sizeof *host), *next = host;
    if (host == NULL) {
        loader->status = refuse(loader->why, STATUS_NO_MEMORY, "no memory for %s", names[0]);
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct gguf_tensor *tensor = gguf_tensor_find(loader->file, names[i]);
        if (tensor != NULL) {
            assert(tensor->dims[0] == lengths[i]);
            tensor_type_row_to_f32(tensor->type, tensor->bytes, (uint32_t)lengths[i], next);
            progress(loader, tensor);
        }
        next += lengths[i];
    }
    float *device = upload(loader, host, n_values * sizeof *host);
    free(host);
    return device;
}

static float *load_vector(struct loader *loader, const char *name)
{
    return load_vectors(loader, &name, &find(loader, name)->dims[0], 1);
}

#define NAME_BYTES 64
struct layer_name {
    char text[NAME_BYTES];
};

static struct layer_name name_of(uint32_t layer, const char *part)
{
    struct layer_name name;
    snprintf(name.text, sizeof name.text, "blk.%u.%s", layer, part);
    return name;
}

static float *load_layer_vector(struct loader *loader, uint32_t layer, const char *part)
{
    struct layer_name name = name_of(layer, part);
    return load_vector(loader, name.text);
}

static float *load_optional(struct loader *loader, uint32_t layer, const char *part)
{
    struct layer_name name = name_of(layer, part);
    bool is_there = gguf_tensor_find(loader->file, name.text) != NULL;
    return is_there ? load_vector(loader, name.text) : NULL;
}

static struct weight *load_layer_weight(struct loader *loader, uint32_t layer, const char *part)
{
    struct layer_name name = name_of(layer, part);
    return load_weight(loader, WEIGHT_PLAIN, (const char *[]){name.text}, 1);
}

/* q, k and v in one tensor, as some converters have them: q apart from the others. */
static void load_fused_apart(struct loader *loader, const char *name,
                             const struct layer_plan *plan, struct layer_weights *out)
{
    if (loader->status < 0)
        return;
    const struct gguf_tensor *tensor = find(loader, name);
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

    loader->status = loader->ops->weight_load(loader->device, WEIGHT_PLAIN, &q, 1, 0, 1, &out->q,
                                              loader->why);
    if (loader->status == STATUS_OK)
        loader->status = loader->ops->weight_load(loader->device, WEIGHT_PLAIN, &kv, 1, 0, 1,
                                                  &out->kv, loader->why);
    if (loader->status == STATUS_OK)
        progress(loader, tensor);
}

static void load_qkv(struct loader *loader, uint32_t layer, const struct layer_plan *plan,
                     bool is_last, struct layer_weights *out)
{
    struct layer_name q = name_of(layer, "attn_q.weight"), k = name_of(layer, "attn_k.weight"),
                      v = name_of(layer, "attn_v.weight");
    struct layer_name q_bias = name_of(layer, "attn_q.bias"),
                      k_bias = name_of(layer, "attn_k.bias"),
                      v_bias = name_of(layer, "attn_v.bias");

    if (gguf_tensor_find(loader->file, q.text) ==
        NULL) { /* fused by the converter, rows in the same order */
        struct layer_name fused = name_of(layer, "attn_qkv.weight");
        if (is_last)
            load_fused_apart(loader, fused.text, plan, out);
        else
            out->qkv = load_weight(loader, WEIGHT_PLAIN, (const char *[]){fused.text}, 1);
        if (plan->has_qkv_bias)
            out->qkv_bias = load_layer_vector(loader, layer, "attn_qkv.bias");
        return;
    }
    const char *names[] = {q.text, k.text, v.text};
    if (is_last) {
        out->q = load_weight(loader, WEIGHT_PLAIN, names, 1);
        out->kv = load_weight(loader, WEIGHT_QKV, names + 1, 2);
    } else {
        out->qkv = load_weight(loader, WEIGHT_QKV, names, 3);
    }
    if (plan->has_qkv_bias) /* any of them */
        out->qkv_bias =
            load_vectors(loader, (const char *[]){q_bias.text, k_bias.text, v_bias.text},
                         (uint64_t[]){find(loader, q.text)->dims[1], find(loader, k.text)->dims[1],
                                      find(loader, v.text)->dims[1]},
                         3);
}

/* Matrix e of a tensor of several: n_out rows from first_row on. */
static struct weight_source source_of_expert(const struct gguf_tensor *tensor, const char *name,
                                             uint64_t e, uint64_t first_row, uint64_t n_out)
{
    uint64_t row_bytes = tensor->n_bytes / (tensor->dims[1] * tensor->dims[2]);
    return (struct weight_source){
        .type = tensor->type,
        .n_in = (uint32_t)tensor->dims[0],
        .n_out = (uint32_t)n_out,
        .bytes = tensor->bytes + (e * tensor->dims[1] + first_row) * row_bytes,
        .name = name};
}

/* names: gate and up, or both in one tensor, of which the first half of each expert is the gate; or
 * down. */
static struct weight *load_experts(struct loader *loader, enum weight_fuse fuse,
                                   const char *const *names, uint32_t n_names)
{
    const struct gguf_tensor *tensors[2];
    struct weight *weight = NULL;
    uint32_t n_sides = fuse == WEIGHT_EXPERTS_GATE_UP ? 2 : 1;

    if (loader->status < 0)
        return NULL;
    for (uint32_t i = 0; i < n_names; i++)
        tensors[i] = find(loader, names[i]);
    uint32_t n = (uint32_t)tensors[0]->dims[2];
    struct weight_source *sources = calloc((size_t)n * n_sides, sizeof *sources);
    if (sources == NULL) {
        loader->status = refuse(loader->why, STATUS_NO_MEMORY, "no memory for %s", names[0]);
        return NULL;
    }
    for (uint32_t i = 0; i < n * n_sides; i++) {
        uint32_t side = i / n, at = side < n_names ? side : 0;
        uint64_t n_out = tensors[at]->dims[1] * n_names / n_sides;
        sources[i] = source_of_expert(tensors[at], names[at], i % n, side > at ? n_out : 0, n_out);
    }
    loader->status = loader->ops->weight_load(loader->device, fuse, sources, n * n_sides, 0, 1,
                                              &weight, loader->why);
    free(sources);
    for (uint32_t i = 0; i < n_names && loader->status == STATUS_OK; i++)
        progress(loader, tensors[i]);
    return weight;
}

static struct weight *load_gate_up_experts(struct loader *loader, uint32_t layer)
{
    struct layer_name both = name_of(layer, "ffn_gate_up_exps.weight");
    struct layer_name gate = name_of(layer, "ffn_gate_exps.weight"),
                      up = name_of(layer, "ffn_up_exps.weight");

    if (gguf_tensor_find(loader->file, both.text) != NULL)
        return load_experts(loader, WEIGHT_EXPERTS_GATE_UP, (const char *[]){both.text}, 1);
    return load_experts(loader, WEIGHT_EXPERTS_GATE_UP, (const char *[]){gate.text, up.text}, 2);
}

static void load_shared(struct loader *loader, uint32_t layer, bool has_gate,
                        struct layer_weights *out)
{
    struct layer_name gate = name_of(layer, "ffn_gate_shexp.weight"),
                      up = name_of(layer, "ffn_up_shexp.weight"),
                      down = name_of(layer, "ffn_down_shexp.weight");
    const char *gate_up[] = {gate.text, up.text};

    if (!has_gate) {
        out->gate_up = load_weight(loader, WEIGHT_GATE_UP, gate_up, 2);
        out->down = load_weight(loader, WEIGHT_PLAIN, (const char *[]){down.text}, 1);
        return;
    }
    out->shared_gate = load_layer_weight(loader, layer, "ffn_gate_inp_shexp.weight");
    out->gate_up = load_experts(loader, WEIGHT_EXPERTS_GATE_UP, gate_up, 2);
    out->down = load_experts(loader, WEIGHT_EXPERTS, (const char *[]){down.text}, 1);
}

static void load_moe(struct loader *loader, uint32_t layer, const struct experts_plan *experts,
                     struct layer_weights *out)
{
    struct layer_name down = name_of(layer, "ffn_down_exps.weight");

    out->router = load_layer_weight(loader, layer, "ffn_gate_inp.weight");
    out->experts_gate_up = load_gate_up_experts(loader, layer);
    out->experts_down = load_experts(loader, WEIGHT_EXPERTS, (const char *[]){down.text}, 1);
    if (experts->has_choice_bias)
        out->choice_bias = load_layer_vector(loader, layer, "exp_probs_b.bias");
    if (experts->n_shared_ff > 0)
        load_shared(loader, layer, experts->has_shared_gate, out);
}

static void load_layer(struct loader *loader, uint32_t layer, const struct layer_plan *plan,
                       bool is_last, struct layer_weights *out)
{
    struct layer_name gate = name_of(layer, "ffn_gate.weight"),
                      up = name_of(layer, "ffn_up.weight");

    out->attn_norm = load_layer_vector(loader, layer, "attn_norm.weight");
    load_qkv(loader, layer, plan, is_last, out);
    if (plan->qk_norm == QK_NORM_BEFORE) {
        out->q_norm = load_layer_vector(loader, layer, "attn_q_norm.weight");
        out->k_norm = load_layer_vector(loader, layer, "attn_k_norm.weight");
    }
    out->out = load_layer_weight(loader, layer, "attn_output.weight");
    if (plan->has_output_bias)
        out->out_bias = load_layer_vector(loader, layer, "attn_output.bias");
    out->ffn_norm = load_layer_vector(loader, layer, "ffn_norm.weight");
    if (plan->ffn == FFN_MOE) {
        load_moe(loader, layer, &plan->experts, out);
        return;
    }
    out->gate_up = load_weight(loader, WEIGHT_GATE_UP, (const char *[]){gate.text, up.text}, 2);
    out->down = load_layer_weight(loader, layer, "ffn_down.weight");
    if (plan->has_ffn_bias) { /* any of them */
        out->gate_bias = load_optional(loader, layer, "ffn_gate.bias");
        out->up_bias = load_optional(loader, layer, "ffn_up.bias");
        out->down_bias = load_optional(loader, layer, "ffn_down.bias");
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
        bytes += bytes_of(ops, layer->qkv) + bytes_of(ops, layer->q) + bytes_of(ops, layer->kv) +
                 bytes_of(ops, layer->out) +
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
        out->ropes[i] = upload(&loader, plan->ropes[i].inv_freq,
                               plan->ropes[i].n_pairs * sizeof *plan->ropes[i].inv_freq);
    out->embedding = load_weight(&loader, WEIGHT_PLAIN, (const char *[]){"token_embd.weight"}, 1);
    for (uint32_t i = 0; i < plan->n_layers; i++)
        load_layer(&loader, i, &plan->layers[i], i + 1 == plan->n_layers, &out->layers[i]);
    out->output_norm = load_vector(&loader, "output_norm.weight");
    out->output = plan->tied_output
                      ? out->embedding
                      : load_weight(&loader, WEIGHT_PLAIN, (const char *[]){"output.weight"}, 1);
    if (plan->has_head_bias)
        out->output_bias = load_vector(&loader, "output.bias");
    if (loader.status < 0) {
        weights_release(device, plan, out);
        return loader.status;
    }
    if (options != NULL &&
        options->on_progress != NULL) /* tensors that nothing uses count as done */
        options->on_progress(options->on_progress_arg, loader.n_total, loader.n_total);
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
                            layer->down_bias, layer->choice_bias};
        struct weight *matrices[] = {layer->qkv,     layer->q,          layer->kv,
                                     layer->out,     layer->gate_up,    layer->down,
                                     layer->router,  layer->shared_gate,
                                     layer->experts_gate_up, layer->experts_down};
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
