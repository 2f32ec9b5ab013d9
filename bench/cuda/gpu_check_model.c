#include "bench/cuda/gpu_check_model.h"

#include "base/status.h"
#include "bench/cuda/gpu_check.h"
#include "bench/cuda/gpu_check_weight.h"
#include "model/weights.h"

#include <math.h>
#include <stdlib.h>

#define LOG2_E 1.4426950408889634
#define FILLS_MAX (4 * CHECK_EXPERTS_MAX) /* of one matrix: codes and scales */

const struct check_shape check_shape_8b =
#ifdef GPU_CHECK_EMULATED
    {"a tiny model", 2, 128, 4, 2, 64, 192, 320, TENSOR_Q4_0, 5e5, 0, 0, 0, 0};
#else
    {"Llama 3 8B", 32, 4096, 32, 8, 128, 14336, 128256, TENSOR_Q4_0, 5e5, 0, 0, 0, 0};
#endif

const struct check_shape check_shape_scout =
#ifdef GPU_CHECK_EMULATED
    {"a tiny Scout", 4, 128, 4, 2, 64, 64, 320, TENSOR_Q4_0, 5e5, 4, 128, 4, 1};
#else
    {"Llama 4 Scout", 48, 5120, 40, 8, 128, 8192, 202048, TENSOR_Q4_0, 5e5, 4, 8192, 16, 1};
#endif

const struct check_shape check_shape_small_scout =
#ifdef GPU_CHECK_EMULATED
    {"a tiny Scout", 4, 128, 4, 2, 64, 96, 320, TENSOR_Q4_0, 1e4, 4, 48, 4, 1};
#else
    {"a small Scout", 8, 512, 8, 2, 64, 768, 2048, TENSOR_Q4_0, 1e4, 4, 200, 16, 1};
#endif

const struct check_shape check_shape_tiny =
#ifdef GPU_CHECK_EMULATED
    {"a tiny model", 2, 128, 4, 2, 64, 160, 320, TENSOR_Q4_0, 1e4, 0, 0, 0, 0};
#else
    {"a small model", 4, 512, 8, 2, 64, 1376, 2048, TENSOR_Q4_0, 1e4, 0, 0, 0, 0};
#endif

struct model {
    struct device *device;
    struct stream *stream; /* for fills; NULL: weights come from the host */
    struct model_plan plan;
    struct model_weights weights;
};

const struct model_plan *model_plan(const struct model *model)
{
    return &model->plan;
}

const struct model_weights *model_weights(const struct model *model)
{
    return &model->weights;
}

/* --- the plan --- */

#define TEMPERATURE_LENGTH 8192
#define TEMPERATURE_SCALE 0.1f

static bool sees_everything(const struct check_shape *shape, uint32_t layer)
{
    return shape->period == 0 || (layer + 1) % shape->period == 0;
}

/* Group 0 sees everything; group 1, where there is one, its chunk. */
static void plan_groups(const struct check_shape *shape, struct model_plan *plan)
{
    struct kv_shape kv = {shape->n_kv_heads, shape->head_dim, shape->head_dim, false};
    plan->n_groups = shape->period > 0 ? 2 : 1;
    plan->groups[0] = (struct kv_group_plan){.kind = KV_FULL, .shape = kv};
    plan->groups[1] =
        (struct kv_group_plan){.kind = KV_CHUNKED, .window = shape->chunk, .shape = kv};
}

static struct experts_plan experts_of(const struct check_shape *shape)
{
    return (struct experts_plan){.rule = {.n_experts = shape->n_experts,
                                          .n_used = shape->n_used,
                                          .n_groups = 1,
                                          .n_groups_used = 1,
                                          .group_best = 1,
                                          .score = ROUTE_SIGMOID,
                                          .chooses_by_logit = true,
                                          .scale = 1},
                                 .n_ff = shape->n_ff,
                                 .scales_input = true,
                                 .n_shared_ff = shape->n_ff};
}

static void plan_layer(const struct check_shape *shape, struct model_plan *plan, uint32_t i)
{
    bool sees_all = sees_everything(shape, i);
    struct kv_group_plan *group = &plan->groups[sees_all ? 0 : 1];
    struct layer_plan *layer = &plan->layers[i];
    *layer = (struct layer_plan){.n_heads = shape->n_heads,
                                 .kv = group->shape,
                                 .kv_group = sees_all ? 0 : 1,
                                 .kv_layer = group->n_layers++,
                                 .rope = ROPE_NORM,
                                 .n_rot = shape->head_dim,
                                 .q_scale = (float)(LOG2_E / sqrt(shape->head_dim)),
                                 .n_ff = shape->n_ff};
    if (shape->period > 0 && sees_all) {
        layer->rope = ROPE_NONE;
        layer->q_temperature = (struct q_temperature){
            .scale = TEMPERATURE_SCALE, .length = TEMPERATURE_LENGTH, .offset = 1};
    } else if (shape->period > 0) {
        layer->qk_norm = QK_NORM_AFTER;
    }
    if (shape->n_experts > 0) {
        layer->ffn = FFN_MOE;
        layer->experts = experts_of(shape);
    }
}

static int plan_model(const struct check_shape *shape, struct model_plan *plan, struct why *why)
{
    uint32_t n_pairs = shape->head_dim / 2;
    *plan = (struct model_plan){
        .n_layers = shape->n_layers,
        .width = shape->width,
        .vocabulary = shape->vocabulary,
        .context = CONTEXT_TOKENS_MAX,
        .norm_eps = 1e-5f,
        .n_ropes = 1,
        .ropes = {{.n_pairs = n_pairs, .scale = 1.0f}},
    };
    plan->layers = calloc(shape->n_layers, sizeof *plan->layers);
    plan->ropes[0].inv_freq = calloc(n_pairs, sizeof(double));
    if (plan->layers == NULL || plan->ropes[0].inv_freq == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a plan of %u layers", shape->n_layers);
    for (uint32_t i = 0; i < n_pairs; i++)
        plan->ropes[0].inv_freq[i] = pow(shape->rope_base, -2.0 * i / shape->head_dim);
    plan_groups(shape, plan);
    for (uint32_t i = 0; i < shape->n_layers; i++)
        plan_layer(shape, plan, i);
    return STATUS_OK;
}

/* --- weights --- */

enum matrix_place {
    EMBEDDING,
    QKV,
    Q,
    KV,
    OUT,
    GATE_UP, /* of a dense layer, or of the expert that all rows share */
    DOWN,
    ROUTER,
    EXPERTS_GATE_UP,
    EXPERTS_DOWN,
    HEAD,
    MATRIX_PLACES
};

static struct check_matrix matrix_of(const struct check_shape *shape, enum matrix_place place,
                                     uint64_t seed)
{
    uint32_t q = shape->n_heads * shape->head_dim, kv = shape->n_kv_heads * shape->head_dim;
    const struct check_matrix matrices[MATRIX_PLACES] = {
        [EMBEDDING] = {.name = "embedding", .n_in = shape->width, .n_out = {shape->vocabulary}},
        [QKV] = {.name = "qkv",
                 .fuse = WEIGHT_QKV,
                 .n_in = shape->width,
                 .n_out = {q, kv, kv}},
        [Q] = {.name = "q", .n_in = shape->width, .n_out = {q}},
        [KV] = {.name = "kv", .fuse = WEIGHT_QKV, .n_in = shape->width, .n_out = {kv, kv}},
        [OUT] = {.name = "out", .n_in = q, .n_out = {shape->width}},
        [GATE_UP] = {.name = "gate and up",
                     .fuse = WEIGHT_GATE_UP,
                     .n_in = shape->width,
                     .n_out = {shape->n_ff, shape->n_ff}},
        [DOWN] = {.name = "down", .n_in = shape->n_ff, .n_out = {shape->width}},
        [ROUTER] = {.name = "router", .n_in = shape->width, .n_out = {shape->n_experts}},
        [EXPERTS_GATE_UP] = {.name = "experts' gate and up",
                             .fuse = WEIGHT_EXPERTS_GATE_UP,
                             .n_in = shape->width,
                             .n_out = {shape->n_ff, shape->n_ff},
                             .n_experts = shape->n_experts},
        [EXPERTS_DOWN] = {.name = "experts' down",
                          .fuse = WEIGHT_EXPERTS,
                          .n_in = shape->n_ff,
                          .n_out = {shape->width},
                          .n_experts = shape->n_experts},
        [HEAD] = {.name = "head", .n_in = shape->width, .n_out = {shape->vocabulary}},
    };
    struct check_matrix matrix = matrices[place];
    matrix.type = place == ROUTER ? TENSOR_F32 : shape->type;
    matrix.seed = seed;
    return matrix;
}

static uint32_t n_of_place(const struct check_shape *shape, enum matrix_place place)
{
    switch (place) {
    case EMBEDDING:
    case HEAD:
    case Q: /* of the last layer, whose queries are made apart */
    case KV:
        return 1;
    case QKV:
        return shape->n_layers - 1;
    case ROUTER:
    case EXPERTS_GATE_UP:
    case EXPERTS_DOWN:
        return shape->n_experts > 0 ? shape->n_layers : 0;
    default:
        return shape->n_layers;
    }
}

uint64_t check_model_bytes(const struct check_shape *shape)
{
    uint64_t bytes = 0;
    for (int place = 0; place < MATRIX_PLACES; place++) {
        struct check_matrix matrix = matrix_of(shape, (enum matrix_place)place, 0);
        uint32_t n = n_of_place(shape, (enum matrix_place)place);
        bytes += n > 0 ? n * check_weight_bytes(&matrix) : 0;
    }
    return bytes;
}

struct maker {
    struct model *model;
    const struct check_shape *shape;
    uint64_t seed;
    struct why *why;
    int status;    /* the first failure; later steps do nothing */
};

static struct weight *make_weight(struct maker *maker, enum matrix_place place, uint32_t layer)
{
    struct model *model = maker->model;
    uint64_t seed =
        maker->seed + 4 * CHECK_EXPERTS_MAX * (layer * (uint64_t)MATRIX_PLACES + place);
    struct check_matrix matrix = matrix_of(maker->shape, place, seed);
    struct weight *weight = NULL;
    if (maker->status < 0)
        return NULL;
    maker->status = model->stream != NULL
                        ? check_weight_on_device(model->device, model->stream, &matrix, &weight,
                                                 maker->why)
                        : check_weight_by_host(model->device, &matrix, &weight, maker->why);
    return weight;
}

static void *upload(struct maker *maker, const void *from, size_t bytes)
{
    struct device *device = maker->model->device;
    void *memory = NULL;
    if (maker->status == STATUS_OK)
        maker->status = device_alloc(device, bytes, &memory, maker->why);
    if (maker->status == STATUS_OK)
        maker->status = device_upload(device, memory, from, bytes);
    return memory;
}

/* Norms weigh every value by one. */
static float *make_ones(struct maker *maker)
{
    size_t n = maker->shape->width;
    float *ones = malloc(n * sizeof *ones);
    if (ones == NULL && maker->status == STATUS_OK)
        maker->status = refuse(maker->why, STATUS_NO_MEMORY, "no memory for a norm");
    for (size_t i = 0; ones != NULL && i < n; i++)
        ones[i] = 1.0f;
    float *memory = ones != NULL ? upload(maker, ones, n * sizeof *ones) : NULL;
    free(ones);
    return memory;
}

static int make_weights(struct maker *maker)
{
    struct model_plan *plan = &maker->model->plan;
    struct model_weights *weights = &maker->model->weights;
    weights->layers = calloc(plan->n_layers, sizeof *weights->layers);
    if (weights->layers == NULL)
        return refuse(maker->why, STATUS_NO_MEMORY, "no memory for %u layers", plan->n_layers);
    weights->ropes[0] =
        upload(maker, plan->ropes[0].inv_freq, plan->ropes[0].n_pairs * sizeof(double));
    weights->embedding = make_weight(maker, EMBEDDING, 0);
    for (uint32_t i = 0; i + 1 < plan->n_layers; i++)
        weights->layers[i].qkv = make_weight(maker, QKV, i);
    weights->layers[plan->n_layers - 1].q = make_weight(maker, Q, plan->n_layers - 1);
    weights->layers[plan->n_layers - 1].kv = make_weight(maker, KV, plan->n_layers - 1);
    for (uint32_t i = 0; i < plan->n_layers; i++) {
        struct layer_weights *layer = &weights->layers[i];
        layer->attn_norm = make_ones(maker);
        layer->ffn_norm = make_ones(maker);
        layer->out = make_weight(maker, OUT, i);
        layer->gate_up = make_weight(maker, GATE_UP, i);
        layer->down = make_weight(maker, DOWN, i);
        if (maker->shape->n_experts == 0)
            continue;
        layer->router = make_weight(maker, ROUTER, i);
        layer->experts_gate_up = make_weight(maker, EXPERTS_GATE_UP, i);
        layer->experts_down = make_weight(maker, EXPERTS_DOWN, i);
    }
    weights->output_norm = make_ones(maker);
    weights->output = make_weight(maker, HEAD, 0);
    return maker->status;
}

int check_model_create(struct device *device, const struct check_shape *shape, bool on_device,
                       uint64_t seed, struct model **out, struct why *why)
{
    struct model *model = calloc(1, sizeof *model);
    if (model == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a model");
    model->device = device;
    struct maker maker = {.model = model, .shape = shape, .seed = seed, .why = why};
    int status = on_device ? stream_create(device, FILLS_MAX, &model->stream, why) : STATUS_OK;
    if (status == STATUS_OK)
        status = plan_model(shape, &model->plan, why);
    if (status == STATUS_OK)
        status = make_weights(&maker);
    if (status < 0) {
        check_model_free(model);
        return refuse_prefix(why, status, "%s", shape->name);
    }
    *out = model;
    return STATUS_OK;
}

static void free_weight(const struct model *model, struct weight *weight)
{
    if (weight != NULL)
        device_ops(model->device)->weight_free(model->device, weight);
}

void check_model_free(struct model *model)
{
    if (model == NULL)
        return;
    struct model_weights *weights = &model->weights;
    for (uint32_t i = 0; weights->layers != NULL && i < model->plan.n_layers; i++) {
        struct layer_weights *layer = &weights->layers[i];
        struct weight *matrices[] = {layer->qkv,     layer->q,    layer->kv,
                                     layer->out,     layer->gate_up, layer->down,
                                     layer->router,  layer->experts_gate_up,
                                     layer->experts_down};
        for (size_t j = 0; j < sizeof matrices / sizeof *matrices; j++)
            free_weight(model, matrices[j]);
        device_free(model->device, layer->attn_norm);
        device_free(model->device, layer->ffn_norm);
    }
    free_weight(model, weights->embedding);
    free_weight(model, weights->output);
    device_free(model->device, weights->output_norm);
    device_free(model->device, weights->ropes[0]);
    stream_free(model->stream);
    free(weights->layers);
    free(model->plan.layers);
    free(model->plan.ropes[0].inv_freq);
    free(model);
}
