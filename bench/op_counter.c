#include "bench/op_counter.h"

#include "base/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct counted_weight { /* in front of the backend's own struct weight */
    _Alignas(16) char name[COUNTER_NAME_BYTES];
};

static struct op_counter *counter_of(const struct device *device)
{
    return (struct op_counter *)device;
}

void op_counter_add(struct op_counter *counter, const char *name, const struct op_cost *cost)
{
    uint32_t i = 0;
    while (i < counter->n_lines && strcmp(counter->lines[i].name, name) != 0)
        i++;
    if (i == COUNTER_LINES_MAX)
        return;
    if (i == counter->n_lines)
        snprintf(counter->lines[counter->n_lines++].name, COUNTER_NAME_BYTES, "%s", name);
    counter->lines[i].n_calls++;
    op_cost_add(&counter->lines[i].cost, cost);
}

static void count(struct stream *stream, const char *op, const struct weight *weight,
                  struct op_cost cost)
{
    struct op_counter *counter = counter_of(stream->device);
    char name[COUNTER_NAME_BYTES];
    bool has_name = weight != NULL && counter->owns_weights;
    snprintf(name, sizeof name, "%s%s%.40s", op, has_name ? " " : "",
             has_name ? ((const struct counted_weight *)weight)[-1].name : "");
    op_counter_add(counter, name, &cost);
}

static const struct cost_model *model_of(const struct stream *stream)
{
    return counter_of(stream->device)->model;
}

static enum activations activations_of(const struct stream *stream)
{
    return counter_of(stream->device)->activations;
}

/* --- ops --- */

/* blk.3.ffn_down.weight is one of the "ffn_down" */
static void name_weight(enum weight_fuse fuse, const char *tensor, char out[COUNTER_NAME_BYTES])
{
    unsigned layer;
    int begin = 0;
    if (sscanf(tensor, "blk.%u.%n", &layer, &begin) < 1)
        begin = 0;
    snprintf(out, COUNTER_NAME_BYTES, "%.*s", (int)strcspn(tensor + begin, "."), tensor + begin);
    if (fuse == WEIGHT_QKV)
        strcpy(out, strcmp(out, "attn_q") == 0 ? "attn_qkv" : "attn_kv");
    if (fuse == WEIGHT_GATE_UP)
        strcpy(out, "ffn_gate_up");
}

static int counted_weight_load(struct device *device, enum weight_fuse fuse,
                               const struct weight_source *sources, uint32_t n_sources,
                               uint32_t rank, uint32_t n_ranks, struct weight **out,
                               struct why *why)
{
    (void)rank, (void)n_ranks;
    struct op_counter *counter = counter_of(device);
    struct counted_weight *counted = calloc(1, sizeof *counted + counter->model->weight_bytes);
    if (counted == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a weight");
    struct weight *weight = (struct weight *)(counted + 1);
    int status = counter->model->weight_plan(fuse, sources, n_sources, counter->activations,
                                             weight, why);
    if (status < 0) {
        free(counted);
        return status;
    }
    name_weight(fuse, sources[0].name, counted->name);
    *out = weight;
    return STATUS_OK;
}

static void counted_weight_free(struct device *device, struct weight *weight)
{
    (void)device;
    free((struct counted_weight *)weight - 1);
}

static size_t no_act_bytes(const struct device *device, uint32_t max_rows, uint32_t width,
                           uint32_t forms)
{
    (void)device, (void)max_rows, (void)width, (void)forms;
    return 0;
}

static size_t no_attend_bytes(const struct device *device, uint32_t n_heads,
                              const struct kv_shape *shape, uint32_t max_rows, uint32_t max_context)
{
    (void)device, (void)n_heads, (void)shape, (void)max_rows, (void)max_context;
    return 0;
}

static size_t no_moe_bytes(const struct device *device, const struct weight *gate_up,
                           const struct weight *down, uint32_t max_rows, uint32_t n_used)
{
    (void)device, (void)gate_up, (void)down, (void)max_rows, (void)n_used;
    return 0;
}

static void count_embed(struct stream *stream, const struct embed_args *args)
{
    count(stream, "embed", NULL, model_of(stream)->embed(args));
}

static void count_norm(struct stream *stream, const struct norm_args *args)
{
    count(stream, "norm", NULL, model_of(stream)->norm(args, activations_of(stream)));
}

static void count_quantize(struct stream *stream, const struct quantize_args *args)
{
    count(stream, "quantize", NULL, model_of(stream)->quantize(args, activations_of(stream)));
}

static void count_linear(struct stream *stream, const struct linear_args *args)
{
    count(stream, "linear", args->weight, model_of(stream)->linear(args, activations_of(stream)));
}

static void count_linear_heads(struct stream *stream, const struct linear_heads_args *args)
{
    count(stream, "linear_heads", args->weight,
          model_of(stream)->linear_heads(args, activations_of(stream)));
}

static void count_linear_glu(struct stream *stream, const struct linear_glu_args *args)
{
    count(stream, "linear_glu", args->weight,
          model_of(stream)->linear_glu(args, activations_of(stream)));
}

static void count_route(struct stream *stream, const struct route_args *args)
{
    for (uint32_t i = 0; i < args->n_rows * args->rule.n_used; i++)
        args->experts[i] = i % args->rule.n_experts;
    count(stream, "route", NULL, model_of(stream)->route(args));
}

static void count_moe(struct stream *stream, const struct moe_args *args)
{
    count(stream, "moe", args->down, model_of(stream)->moe(args, activations_of(stream)));
}

static void count_rope_append(struct stream *stream, const struct rope_append_args *args)
{
    count(stream, "rope_append", NULL, model_of(stream)->rope_append(args));
}

static void count_page_seal(struct stream *stream, const struct page_seal_args *args)
{
    count(stream, "page_seal", NULL, model_of(stream)->page_seal(args));
}

static void count_attend(struct stream *stream, const struct attend_args *args)
{
    count(stream, "attend", NULL, model_of(stream)->attend(args, activations_of(stream)));
}

static void count_gather(struct stream *stream, const struct gather_args *args)
{
    count(stream, "gather", NULL, model_of(stream)->gather(args));
}

/* --- the device --- */

static int counting_alloc(struct device *device, size_t bytes, void **out, struct why *why)
{
    (void)device;
    *out = calloc(bytes == 0 ? 1 : bytes, 1);
    return *out != NULL ? STATUS_OK : refuse(why, STATUS_NO_MEMORY, "no %zu bytes", bytes);
}

static void counting_free(struct device *device, void *memory)
{
    (void)device;
    free(memory);
}

static uint64_t counting_memory_free(const struct device *device)
{
    (void)device;
    return UINT64_MAX;
}

static int counting_upload(struct device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    memcpy(to, from, bytes);
    return STATUS_OK;
}

void op_counter_init(struct op_counter *counter, const struct cost_model *model,
                     enum activations activations, bool owns_weights)
{
    *counter = (struct op_counter){
        .base = {.backend = &counter->backend},
        .backend = {.ops = &counter->ops,
                    .alloc = counting_alloc,
                    .free = counting_free,
                    .memory_free = counting_memory_free,
                    .upload = counting_upload,
                    .download = counting_upload},
        .ops = {.name = model->name,
                .weight_load = counted_weight_load,
                .weight_free = counted_weight_free,
                .weight_info = model->weight_info,
                .act_bytes = no_act_bytes,
                .attend_workspace_bytes = no_attend_bytes,
                .moe_workspace_bytes = no_moe_bytes,
                .embed = count_embed,
                .norm = count_norm,
                .quantize = count_quantize,
                .linear = count_linear,
                .linear_heads = count_linear_heads,
                .linear_glu = count_linear_glu,
                .route = count_route,
                .moe = count_moe,
                .rope_append = count_rope_append,
                .page_seal = count_page_seal,
                .attend = count_attend,
                .gather = count_gather},
        .model = model,
        .activations = activations,
        .owns_weights = owns_weights,
    };
}

void op_counter_clear(struct op_counter *counter)
{
    counter->n_lines = 0;
    memset(counter->lines, 0, sizeof counter->lines);
}

struct op_cost op_counter_total(const struct op_counter *counter)
{
    struct op_cost total = {.read = 0};
    for (uint32_t i = 0; i < counter->n_lines; i++)
        op_cost_add(&total, &counter->lines[i].cost);
    return total;
}
