#include "model/forward_pass.h"

#include "base/status.h"
#include "base/text.h"

#include <assert.h>
#include <stdlib.h>

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Forms of the normed rows that q, k and v are made of. */
static uint32_t attend_forms(const struct forward *forward, const struct layer_weights *w)
{
    return forms_of(forward, w->qkv) | forms_of(forward, w->q) | forms_of(forward, w->kv);
}

/* --- creation --- */

struct need {
    size_t x, qkv, heads, picked, logits, normed, query, attended, gated, routed, workspace;
};

static size_t attended_bytes(const struct forward *forward, const struct layer_plan *layer,
                             const struct layer_weights *w)
{
    if (layer->kv.v_in_k)
        return forward_latent_attended_bytes(forward, layer, w);
    return forward->ops->act_bytes(forward->device, forward->max_rows,
                                   layer->n_heads * layer->kv.v_dim, forms_of(forward, w->out));
}

static struct need need_of(const struct forward *forward, uint32_t max_context)
{
    const struct model_plan *plan = model_plan(forward->model);
    const struct model_weights *weights = model_weights(forward->model);
    const struct ops *ops = forward->ops;
    const struct device *device = forward->device;
    uint32_t rows = forward->max_rows;
    struct need need = {.x = (size_t)rows * plan->width * sizeof(float),
                        .picked = (size_t)forward->max_outputs * plan->width * sizeof(float),
                        .logits = (size_t)forward->max_outputs * plan->vocabulary * sizeof(float)};

    need.normed = ops->act_bytes(device, max_size(rows, forward->max_outputs), plan->width,
                                 forms_of(forward, weights->output));
    for (uint32_t i = 0; i < plan->n_layers; i++) {
        const struct layer_plan *layer = &plan->layers[i];
        const struct layer_weights *w = &weights->layers[i];
        need.qkv = max_size(need.qkv, (size_t)rows * qkv_width(layer) * sizeof(float));
        need.heads = max_size(need.heads, forward_heads_bytes(forward, layer));
        need.normed = max_size(
            need.normed, ops->act_bytes(device, rows, plan->width, attend_forms(forward, w)));
        need.normed = max_size(need.normed, forward_latent_normed_bytes(forward, layer, w));
        need.normed = max_size(
            need.normed, ops->act_bytes(device, rows, plan->width, forward_ffn_forms(forward, w)));
        need.query =
            max_size(need.query, ops->act_bytes(device, rows, query_width(layer), ACT_QUERY));
        need.attended = max_size(need.attended, attended_bytes(forward, layer, w));
        need.gated = max_size(need.gated, forward_gated_bytes(forward, layer, w));
        need.routed = max_size(need.routed, forward_routed_bytes(forward, layer));
        need.workspace =
            max_size(need.workspace, ops->attend_workspace_bytes(device, layer->n_heads, &layer->kv,
                                                                 rows, max_context));
        need.workspace =
            max_size(need.workspace, forward_moe_workspace_bytes(forward, layer, w));
    }
    return need;
}

static struct forward empty_forward(struct device *device, const struct model *model,
                                    uint32_t max_rows, uint32_t max_outputs)
{
    return (struct forward){.device = device,
                            .ops = device_ops(device),
                            .model = model,
                            .max_rows = max_rows,
                            .max_outputs = max_outputs};
}

uint64_t forward_workspace_bytes(struct device *device, const struct model *model,
                                 uint32_t max_rows, uint32_t max_outputs, uint32_t max_context)
{
    struct forward forward = empty_forward(device, model, max_rows, max_outputs);
    struct need need = need_of(&forward, max_context);
    return (uint64_t)need.x + need.qkv + need.heads + need.picked + need.logits + need.normed +
           need.query + need.attended + need.gated + need.routed + need.workspace;
}

int forward_create(struct device *device, const struct model *model, uint32_t max_rows,
                   uint32_t max_outputs, uint32_t max_context, struct forward **out,
                   struct why *why)
{
    struct forward *forward = malloc(sizeof *forward);
    if (forward == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a forward pass");
    *forward = empty_forward(device, model, max_rows, max_outputs);

    struct need need = need_of(forward, max_context);
    forward->workspace_bytes = need.workspace;
    const struct {
        size_t bytes;
        void **memory;
    } parts[] = {
        {need.x, (void **)&forward->x},           {need.qkv, (void **)&forward->qkv},
        {need.heads, (void **)&forward->heads},
        {need.picked, (void **)&forward->picked}, {need.logits, (void **)&forward->logits},
        {need.normed, &forward->normed},          {need.query, &forward->query},
        {need.attended, &forward->attended},      {need.gated, &forward->gated},
        {need.routed, &forward->routed},          {need.workspace, &forward->workspace},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        int status = STATUS_OK;
        if (parts[i].bytes > 0)
            status = device_alloc(device, parts[i].bytes, parts[i].memory, why);
        if (status < 0) {
            forward_free(forward);
            return refuse_prefix(why, status, "the workspace of a step of %u rows", max_rows);
        }
        forward->bytes += parts[i].bytes;
    }
    *out = forward;
    return STATUS_OK;
}

void forward_free(struct forward *forward)
{
    if (forward == NULL)
        return;
    void *parts[] = {forward->x,        forward->qkv,    forward->heads,  forward->picked,
                     forward->logits,   forward->normed, forward->query,  forward->attended,
                     forward->gated,    forward->routed, forward->workspace};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        device_free(forward->device, parts[i]);
    free(forward);
}

void forward_keep_last_layer_whole(struct forward *forward)
{
    forward->keeps_last_layer_whole = true;
}

float *forward_logits(const struct forward *forward)
{
    return forward->logits;
}

uint64_t forward_bytes(const struct forward *forward)
{
    return forward->bytes;
}

/* run_append, run_attend and forward_ffn call 9, or 13 with experts and a shared one with a gate;
 * attend, linear_glu and moe may push more than one */
#define OPS_OF_LAYER 12
#define OPS_OF_LATENT 8
#define OPS_OF_EXPERTS 14
#define OPS_OF_ENDS 12 /* embed; gather and three of queries alone; norm, head */

uint32_t forward_ops_max(const struct model *model)
{
    const struct model_plan *plan = model_plan(model);
    uint32_t n = OPS_OF_ENDS;
    for (uint32_t i = 0; i < plan->n_layers; i++)
        n += OPS_OF_LAYER + (plan->layers[i].ffn == FFN_MOE ? OPS_OF_EXPERTS : 0) +
             (plan->layers[i].kv.v_in_k ? OPS_OF_LATENT : 0);
    return n;
}

/* --- the pass --- */

struct act forward_norm(const struct pass *pass, const float *x, uint32_t n_rows,
                        const float *weight, uint32_t forms)
{
    const struct forward *forward = pass->forward;
    const struct model_plan *plan = model_plan(forward->model);
    struct act normed = act_of(pass, forward->normed, plan->width, forms);

    forward->ops->norm(pass->stream, &(struct norm_args){.x = x,
                                                         .weight = weight,
                                                         .eps = plan->norm_eps,
                                                         .n_rows = n_rows,
                                                         .width = plan->width,
                                                         .out = normed});
    return normed;
}

static void project(const struct pass *pass, const struct weight *weight, const float *bias,
                    struct act normed, float *y, uint32_t y_stride)
{
    pass->forward->ops->linear(pass->stream, &(struct linear_args){.weight = weight,
                                                                   .in = normed,
                                                                   .bias = bias,
                                                                   .n_rows = pass->rows->n_rows,
                                                                   .mode = LINEAR_SET,
                                                                   .y = y,
                                                                   .y_stride = y_stride});
}

static void run_projections(const struct pass *pass, const struct layer_plan *layer,
                            const struct layer_weights *w, const float *x, uint32_t parts)
{
    const struct forward *forward = pass->forward;
    uint32_t n_queries = query_width(layer), stride = parts_width(layer, parts);
    struct act normed =
        forward_norm(pass, x, pass->rows->n_rows, w->attn_norm, attend_forms(forward, w));

    if (w->qkv != NULL) {
        assert(parts == (PART_QUERY | PART_KEYS));
        project(pass, w->qkv, w->qkv_bias, normed, forward->qkv, stride);
        return;
    }
    if ((parts & PART_QUERY) != 0)
        project(pass, w->q, w->qkv_bias, normed, forward->qkv, stride);
    if ((parts & PART_KEYS) != 0)
        project(pass, w->kv, w->qkv_bias != NULL ? w->qkv_bias + n_queries : NULL, normed,
                forward->qkv + ((parts & PART_QUERY) != 0 ? n_queries : 0), stride);
}

/* Keys and values of the rows go into their pages, those that are full then are packed, and queries
 * go into the panel. */
static void run_append(const struct pass *pass, const struct layer_plan *layer,
                       const struct layer_weights *w, const float *x, uint32_t parts)
{
    const struct forward *forward = pass->forward;
    const struct ops *ops = forward->ops;
    const struct rope_plan *rope = &model_plan(forward->model)->ropes[layer->rope_idx];

    if (layer->kv.v_in_k)
        forward_latent_qkv(pass, layer, w, x, parts);
    else
        run_projections(pass, layer, w, x, parts);
    ops->rope_append(pass->stream,
                     &(struct rope_append_args){
                         .qkv = forward->qkv,
                         .qkv_stride = parts_width(layer, parts),
                         .n_heads = (parts & PART_QUERY) != 0 ? layer->n_heads : 0,
                         .no_append = (parts & PART_KEYS) == 0,
                         .style = layer->rope,
                         .first_rot = layer->first_rot,
                         .n_rot = layer->n_rot,
                         .inv_freq = model_weights(forward->model)->ropes[layer->rope_idx],
                         .rope_scale = rope->scale,
                         .qk_norm = layer->qk_norm,
                         .q_norm = w->q_norm,
                         .k_norm = layer->kv.v_in_k ? w->latent.kv_a_norm : w->k_norm,
                         .norm_eps = model_plan(forward->model)->norm_eps,
                         .q_scale = layer->q_scale,
                         .q_temperature = layer->q_temperature,
                         .rows = *pass->rows,
                         .group = pass->view->groups[layer->kv_group],
                         .layer_idx = layer->kv_layer,
                         .q = act_of(pass, forward->query, query_width(layer), ACT_QUERY),
                         .n_saturated = pass->view->n_saturated});
    if ((parts & PART_KEYS) != 0 && kv_group_packs(&pass->view->groups[layer->kv_group]))
        ops->page_seal(pass->stream,
                       &(struct page_seal_args){.rows = *pass->rows,
                                                .group = pass->view->groups[layer->kv_group],
                                                .layer_idx = layer->kv_layer});
}

/* x += what the rows attend to */
static void run_attend(const struct pass *pass, const struct layer_plan *layer,
                       const struct layer_weights *w, float *x)
{
    const struct forward *forward = pass->forward;
    const struct ops *ops = forward->ops;
    uint32_t v_width = layer->n_heads * layer->kv.v_dim;
    struct act query = act_of(pass, forward->query, query_width(layer), ACT_QUERY);
    bool is_latent = layer->kv.v_in_k;
    struct act attended = act_of(pass, forward->attended, v_width,
                                 forms_of(forward, is_latent ? w->latent.v_b : w->out));

    ops->attend(pass->stream, &(struct attend_args){.q = query,
                                                    .n_heads = layer->n_heads,
                                                    .rows = *pass->rows,
                                                    .group = pass->view->groups[layer->kv_group],
                                                    .layer_idx = layer->kv_layer,
                                                    .workspace = forward->workspace,
                                                    .workspace_bytes = forward->workspace_bytes,
                                                    .out = attended});
    if (is_latent)
        attended = forward_latent_attended(pass, layer, w, attended);
    ops->linear(pass->stream, &(struct linear_args){.weight = w->out,
                                                    .in = attended,
                                                    .bias = w->out_bias,
                                                    .n_rows = pass->rows->n_rows,
                                                    .mode = LINEAR_ADD,
                                                    .y = x,
                                                    .y_stride = model_plan(forward->model)->width});
}

/* Returns the rows whose logits are asked for, by themselves. */
static float *run_gather(const struct pass *pass, const struct forward_batch *batch)
{
    const struct forward *forward = pass->forward;
    forward->ops->gather(pass->stream,
                         &(struct gather_args){.x = forward->x,
                                               .rows = batch->output_rows,
                                               .n = batch->outputs.n_rows,
                                               .width = model_plan(forward->model)->width,
                                               .y = forward->picked});
    return forward->picked;
}

static void run_head(const struct pass *pass, const struct forward_batch *batch, const float *x)
{
    const struct forward *forward = pass->forward;
    const struct model_plan *plan = model_plan(forward->model);
    const struct model_weights *weights = model_weights(forward->model);

    struct act normed = forward_norm(pass, x, batch->outputs.n_rows, weights->output_norm,
                                     forms_of(forward, weights->output));
    forward->ops->linear(pass->stream, &(struct linear_args){.weight = weights->output,
                                                             .in = normed,
                                                             .bias = weights->output_bias,
                                                             .n_rows = batch->outputs.n_rows,
                                                             .mode = LINEAR_SET,
                                                             .y = forward->logits,
                                                             .y_stride = plan->vocabulary});
}

static void run_layer(const struct pass *pass, uint32_t idx)
{
    const struct forward *forward = pass->forward;
    const struct layer_plan *layer = &model_plan(forward->model)->layers[idx];
    const struct layer_weights *w = &model_weights(forward->model)->layers[idx];

    run_append(pass, layer, w, forward->x, PART_QUERY | PART_KEYS);
    run_attend(pass, layer, w, forward->x);
    forward_ffn(pass, layer, w, forward->x, pass->rows->n_rows);
}

/* Keys and values of all rows, the rest of those whose logits are asked for: which it returns. */
static float *run_last_layer(const struct pass *pass, const struct forward_batch *batch)
{
    const struct forward *forward = pass->forward;
    uint32_t idx = model_plan(forward->model)->n_layers - 1;
    const struct layer_plan *layer = &model_plan(forward->model)->layers[idx];
    const struct layer_weights *w = &model_weights(forward->model)->layers[idx];
    struct pass asked = *pass;

    run_append(pass, layer, w, forward->x, PART_KEYS);
    if (batch->outputs.n_rows == 0)
        return NULL;
    asked.rows = &batch->outputs;
    float *x = run_gather(pass, batch);
    run_append(&asked, layer, w, x, PART_QUERY);
    run_attend(&asked, layer, w, x);
    forward_ffn(&asked, layer, w, x, asked.rows->n_rows);
    return x;
}

void forward_run(struct forward *forward, struct stream *stream, const struct forward_batch *batch,
                 const struct kv_view *view)
{
    uint32_t n_layers = model_plan(forward->model)->n_layers, n_outputs = batch->outputs.n_rows;
    struct pass pass = {.forward = forward, .stream = stream, .rows = &batch->rows, .view = view};
    bool asks_all = n_outputs == batch->rows.n_rows;
    bool is_whole = asks_all || forward->keeps_last_layer_whole;
    float *x = forward->x;

    assert(batch->rows.n_rows > 0 && batch->rows.n_rows <= forward->max_rows);
    assert(n_outputs <= forward->max_outputs && n_outputs <= batch->rows.n_rows);
    forward->ops->embed(stream,
                        &(struct embed_args){.table = model_weights(forward->model)->embedding,
                                             .inputs = batch->inputs,
                                             .sampled = batch->sampled,
                                             .n_rows = batch->rows.n_rows,
                                             .x = x});
    for (uint32_t i = 0; i < n_layers - !is_whole; i++)
        run_layer(&pass, i);
    if (!is_whole)
        x = run_last_layer(&pass, batch);
    else if (!asks_all && n_outputs > 0)
        x = run_gather(&pass, batch);
    if (n_outputs > 0)
        run_head(&pass, batch, x);
}
