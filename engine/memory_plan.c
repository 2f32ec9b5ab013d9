#include "engine/memory_plan.h"

#include "base/status.h"
#include "base/text.h"
#include "limits.h"
#include "model/grammar.h"

#include <string.h>

#define DEFAULT_CONTEXT 131072
#define LOGITS_ROWS 64      /* rows of a step whose logits are wanted */
#define STATE_VALUES 2      /* a span's maximum and sum beside its output */
#define RESERVE_BYTES 750000000u
#define RESERVE_SHARE 16

static const struct weight_format weight_formats[] = {
    {"f32", 32}, {"f16", 16}, {"int8", 8.5}, {"int4", 4.5},
};

const struct weight_format *weight_format_find(const char *name)
{
    for (size_t i = 0; i < sizeof weight_formats / sizeof *weight_formats; i++)
        if (strcmp(weight_formats[i].name, name) == 0)
            return &weight_formats[i];
    return NULL;
}

/* Of one token, in a layer: what the 64 tokens of a page share is divided among them. */
static uint64_t layer_token_bytes(const struct kv_shape *kv, enum kv_dtype dtype)
{
    return kv_shape_page_bytes(kv, dtype) / PAGE_TOKENS;
}

static uint64_t max_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t min_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t memory_plan_reserve(uint64_t memory_bytes)
{
    return min_of(RESERVE_BYTES, memory_bytes / RESERVE_SHARE);
}

uint64_t memory_plan_grammars(uint32_t vocabulary)
{
    return (uint64_t)GRAMMARS_MAX * grammar_bytes_max(vocabulary);
}

/* A state for each span of the sequence and each head. */
static uint64_t partials_at(const struct model_shape *shape, uint64_t context)
{
    uint64_t n_spans = (context + SPAN_TOKENS - 1) / SPAN_TOKENS;
    return n_spans * shape->n_heads * (shape->kv.v_dim + STATE_VALUES) * 4;
}

/* Buffers of a step of STEP_ROWS_MAX rows that do not grow with the context: x and its normed
 * panel, q, k, v and the attended heads, the gated feed-forward, what experts read and give for
 * each row, in f32; and logits. */
static void plan_step(const struct model_shape *shape, struct memory_plan *plan)
{
    uint64_t heads = (uint64_t)shape->n_heads * (shape->kv.k_dim + shape->kv.v_dim);
    uint64_t kv = (uint64_t)shape->kv.n_kv_heads * (shape->kv.k_dim + shape->kv.v_dim);
    uint64_t ff = max_of(shape->n_ff, (uint64_t)shape->n_used * shape->n_expert_ff +
                                          shape->n_shared_ff);
    uint64_t experts = 2 * (uint64_t)shape->n_used * shape->width;

    plan->activations_bytes =
        STEP_ROWS_MAX * 4 * (2 * (uint64_t)shape->width + heads + kv + 2 * ff + experts);
    plan->logits_bytes = LOGITS_ROWS * 4 * (uint64_t)shape->vocabulary;
    plan->partials_bytes = partials_at(shape, plan->context);
}

static uint64_t workspace_at(const struct model_shape *shape, const struct memory_budget *budget,
                             const struct memory_plan *plan, uint64_t context)
{
    if (budget->workspace_bytes != NULL)
        return budget->workspace_bytes(budget->workspace_arg, context);
    return plan->activations_bytes + plan->logits_bytes + partials_at(shape, context);
}

static void plan_weights(const struct model_shape *shape, const struct weight_format *weights,
                         uint64_t own_bytes, struct memory_plan *plan)
{
    double all = (double)model_shape_parameters(shape);
    double active = (double)model_shape_active_parameters(shape);
    double bits = own_bytes > 0 ? 8.0 * (double)own_bytes / all : weights->bits;

    plan->weights_bytes = own_bytes > 0 ? own_bytes : (uint64_t)(all * bits / 8);
    plan->weights_read_bytes = (uint64_t)(active * bits / 8);
}

/* Of one page that is being written, in layers that pack: of others it is a page as any. */
static uint64_t rows_bytes(const struct model_shape *shape, enum kv_dtype dtype, uint64_t n_layers)
{
    if (!kv_dtype_is_packed(dtype))
        return 0;
    return n_layers * kv_shape_page_bytes(&shape->kv, kv_dtype_open(dtype));
}

/* Local layers stop growing at their window. */
static uint64_t local_at(const struct model_shape *shape, const struct memory_plan *plan,
                         uint64_t context)
{
    return plan->local_token_bytes * min_of(context, shape->window);
}

static uint64_t needed_at(const struct model_shape *shape, const struct memory_budget *budget,
                          const struct memory_plan *plan, uint64_t context)
{
    return plan->weights_bytes + plan->reserve_bytes + plan->open_bytes +
           workspace_at(shape, budget, plan, context) + plan->global_token_bytes * context +
           local_at(shape, plan, context);
}

/* The most whole pages that fit, found between one that does and one that does not. */
static uint64_t longest_context(const struct model_shape *shape, const struct memory_budget *budget,
                                const struct memory_plan *plan)
{
    uint64_t fits = 0, beyond = (shape->context + PAGE_TOKENS - 1) / PAGE_TOKENS + 1;

    while (beyond - fits > 1) {
        uint64_t middle = fits + (beyond - fits) / 2;
        if (needed_at(shape, budget, plan, middle * PAGE_TOKENS) <= plan->memory_bytes)
            fits = middle;
        else
            beyond = middle;
    }
    return min_of(fits * PAGE_TOKENS, shape->context);
}

static int check(const struct model_shape *shape, const struct memory_budget *budget,
                 uint64_t context, struct why *why)
{
    char a[TEXT_NUMBER_BYTES], b[TEXT_NUMBER_BYTES];

    if (shape->n_layers == 0)
        return refuse(why, STATUS_UNSUPPORTED, "%s: %s", shape->title, shape->note);
    if (!shape->kv.v_in_k && shape->kv.n_kv_heads % budget->n_devices != 0)
        return refuse(why, STATUS_INVALID,
                      "%s has %u heads of keys and values, which %u GPUs cannot share evenly: take "
                      "a number that divides %u",
                      shape->title, shape->kv.n_kv_heads, budget->n_devices,
                      shape->kv.n_kv_heads);
    if (context > shape->context)
        return refuse(why, STATUS_INVALID,
                      "a context of %s tokens is beyond the %s that %s was trained for",
                      text_count(a, context), text_count(b, shape->context), shape->title);
    return STATUS_OK;
}

int memory_plan_make(const struct model_shape *shape, const struct weight_format *weights,
                     uint64_t weights_bytes, const struct kv_dtypes *pages,
                     const struct memory_budget *budget, uint64_t context, struct memory_plan *out,
                     struct why *why)
{
    /* every device holds the whole of a latent vector: it has one head */
    uint64_t copies = shape->kv.v_in_k ? budget->n_devices : 1;
    uint64_t global_bytes = layer_token_bytes(&shape->kv, pages->global) * copies;
    uint64_t local_bytes = layer_token_bytes(&shape->kv, pages->local) * copies;

    *out = (struct memory_plan){
        .context = context > 0 ? context : min_of(DEFAULT_CONTEXT, shape->context),
        .memory_bytes = budget->memory_bytes * budget->n_devices,
        .reserve_bytes = budget->reserve_bytes * budget->n_devices,
        .global_token_bytes = global_bytes * (shape->n_layers - shape->n_local_layers),
        .local_token_bytes = local_bytes * shape->n_local_layers,
        .open_bytes =
            copies * budget->open_pages *
            (rows_bytes(shape, pages->global, shape->n_layers - shape->n_local_layers) +
             rows_bytes(shape, pages->local, shape->n_local_layers)),
    };
    plan_weights(shape, weights, weights_bytes, out);
    int status = check(shape, budget, context, why);
    if (status < 0)
        return status;

    if (budget->workspace_bytes == NULL)
        plan_step(shape, out);
    out->workspace_bytes = workspace_at(shape, budget, out, out->context);
    out->global_bytes = out->global_token_bytes * out->context;
    out->local_bytes = local_at(shape, out, out->context);
    out->kv_bytes = out->global_bytes + out->local_bytes;
    uint64_t rest_bytes = out->weights_bytes + out->workspace_bytes + out->reserve_bytes +
                          out->open_bytes;
    out->needed_bytes = rest_bytes + out->kv_bytes;
    out->fits = out->needed_bytes <= out->memory_bytes;
    out->room_bytes = out->memory_bytes > rest_bytes ? out->memory_bytes - rest_bytes : 0;
    out->longest_context = longest_context(shape, budget, out);
    out->bytes_per_token = (double)out->weights_read_bytes + (double)out->kv_bytes;
    out->tokens_per_second =
        budget->bytes_per_second * budget->n_devices / out->bytes_per_token;
    return STATUS_OK;
}
