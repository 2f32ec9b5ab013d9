/* Latent attention around rope_append and attend, in the absorbed form: heads meet in the latent
 * space, so that a page holds one vector a token for all of them.
 *
 *   norm -+- linear(q), or linear(q_a) -> norm -> linear(q) -> heads: [nope | rope] each
 *         '- linear(kv_a) -----------------------------------------------------> qkv: k
 *   heads -> quantize(nope) -> linear_heads(k_b), rope behind it --------------> qkv: q
 *   attend -> linear_heads(v_b) -> heads: [value] each -> quantize -> linear(out) -> x
 *
 * Rows of the last layer may have their keys made, or their queries, alone.
 */
#include "model/forward_pass.h"

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static uint32_t rope_dim(const struct layer_plan *layer)
{
    return layer->kv.k_dim - layer->kv.v_dim;
}

static uint32_t head_dim(const struct layer_plan *layer)
{
    return layer->latent.nope_dim + rope_dim(layer);
}

/* --- sizes --- */

size_t forward_heads_bytes(const struct forward *forward, const struct layer_plan *layer)
{
    if (!layer->kv.v_in_k)
        return 0;
    size_t width = (size_t)layer->n_heads * max_size(head_dim(layer), layer->latent.value_dim);
    return forward->max_rows * max_size(width, layer->latent.q_rank) * sizeof(float);
}

static uint32_t forms_of_x(const struct forward *forward, const struct latent_weights *w)
{
    return forms_of(forward, w->q_a != NULL ? w->q_a : w->q) | forms_of(forward, w->kv_a);
}

size_t forward_latent_normed_bytes(const struct forward *forward, const struct layer_plan *layer,
                                   const struct layer_weights *w)
{
    const struct latent_weights *latent = &w->latent;
    if (!layer->kv.v_in_k)
        return 0;
    size_t bytes =
        forward->ops->act_bytes(forward->device, forward->max_rows,
                                model_plan(forward->model)->width, forms_of_x(forward, latent));
    if (latent->q_a != NULL)
        bytes = max_size(bytes, forward->ops->act_bytes(forward->device, forward->max_rows,
                                                        layer->latent.q_rank,
                                                        forms_of(forward, latent->q)));
    return bytes;
}

/* The panel holds one after the other what k_b, v_b and the output matrix read. */
size_t forward_latent_attended_bytes(const struct forward *forward, const struct layer_plan *layer,
                                     const struct layer_weights *w)
{
    const struct {
        uint32_t dim;
        const struct weight *reader;
    } panels[] = {{layer->latent.nope_dim, w->latent.k_b},
                  {layer->kv.v_dim, w->latent.v_b},
                  {layer->latent.value_dim, w->out}};
    size_t bytes = 0;
    for (size_t i = 0; layer->kv.v_in_k && i < sizeof panels / sizeof *panels; i++)
        bytes = max_size(bytes, forward->ops->act_bytes(forward->device, forward->max_rows,
                                                        layer->n_heads * panels[i].dim,
                                                        forms_of(forward, panels[i].reader)));
    return bytes;
}

/* --- the pass --- */

static void run_linear(const struct pass *pass, const struct weight *weight, struct act in,
                       float *y, uint32_t y_stride)
{
    pass->forward->ops->linear(pass->stream, &(struct linear_args){.weight = weight,
                                                                   .in = in,
                                                                   .n_rows = pass->rows->n_rows,
                                                                   .mode = LINEAR_SET,
                                                                   .y = y,
                                                                   .y_stride = y_stride});
}

/* The first n of each head's `stride` values, into the panel of attention outputs. */
static struct act quantize_heads(const struct pass *pass, const struct layer_plan *layer,
                                 uint32_t stride, uint32_t n, const struct weight *reader)
{
    const struct forward *forward = pass->forward;
    struct act out =
        act_of(pass, forward->attended, layer->n_heads * n, forms_of(forward, reader));
    forward->ops->quantize(pass->stream,
                           &(struct quantize_args){.x = forward->heads,
                                                   .x_stride = layer->n_heads * stride,
                                                   .n_heads = layer->n_heads,
                                                   .head_stride = stride,
                                                   .n = n,
                                                   .n_rows = pass->rows->n_rows,
                                                   .out = out});
    return out;
}

/* forward->heads: queries as they are made of x. */
static void run_queries(const struct pass *pass, const struct layer_plan *layer,
                        const struct latent_weights *w, struct act normed)
{
    const struct forward *forward = pass->forward;
    uint32_t q_rank = layer->latent.q_rank;
    struct act in = normed;

    if (w->q_a != NULL) {
        run_linear(pass, w->q_a, normed, forward->heads, q_rank);
        in = act_of(pass, forward->normed, q_rank, forms_of(forward, w->q));
        forward->ops->norm(pass->stream,
                           &(struct norm_args){.x = forward->heads,
                                               .weight = w->q_a_norm,
                                               .eps = model_plan(forward->model)->norm_eps,
                                               .n_rows = pass->rows->n_rows,
                                               .width = q_rank,
                                               .out = in});
    }
    run_linear(pass, w->q, in, forward->heads, layer->n_heads * head_dim(layer));
}

/* Queries in the latent space, behind them their part that turns. */
static void run_absorbed(const struct pass *pass, const struct layer_plan *layer,
                         const struct latent_weights *w, uint32_t y_stride)
{
    const struct forward *forward = pass->forward;
    uint32_t head = head_dim(layer), nope = layer->latent.nope_dim;

    struct act in = quantize_heads(pass, layer, head, nope, w->k_b);
    forward->ops->linear_heads(pass->stream,
                               &(struct linear_heads_args){.weight = w->k_b,
                                                           .in = in,
                                                           .n_rows = pass->rows->n_rows,
                                                           .tail = forward->heads + nope,
                                                           .n_tail = rope_dim(layer),
                                                           .tail_stride = layer->n_heads * head,
                                                           .tail_head_stride = head,
                                                           .y = forward->qkv,
                                                           .y_stride = y_stride,
                                                           .y_head_stride = layer->kv.k_dim});
}

void forward_latent_qkv(const struct pass *pass, const struct layer_plan *layer,
                        const struct layer_weights *w, const float *x, uint32_t parts)
{
    const struct forward *forward = pass->forward;
    const struct latent_weights *latent = &w->latent;
    bool has_query = (parts & PART_QUERY) != 0;
    uint32_t stride = parts_width(layer, parts);

    struct act normed = forward_norm(pass, x, pass->rows->n_rows, w->attn_norm,
                                     forms_of_x(forward, latent));
    if ((parts & PART_KEYS) != 0)
        run_linear(pass, latent->kv_a, normed,
                   forward->qkv + (has_query ? query_width(layer) : 0), stride);
    if (!has_query)
        return;
    run_queries(pass, layer, latent, normed);
    run_absorbed(pass, layer, latent, stride);
}

struct act forward_latent_attended(const struct pass *pass, const struct layer_plan *layer,
                                   const struct layer_weights *w, struct act attended)
{
    const struct forward *forward = pass->forward;
    uint32_t value_dim = layer->latent.value_dim;

    forward->ops->linear_heads(
        pass->stream, &(struct linear_heads_args){.weight = w->latent.v_b,
                                                  .in = attended,
                                                  .n_rows = pass->rows->n_rows,
                                                  .y = forward->heads,
                                                  .y_stride = layer->n_heads * value_dim,
                                                  .y_head_stride = value_dim});
    return quantize_heads(pass, layer, value_dim, value_dim, w->out);
}
