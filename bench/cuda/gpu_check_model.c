#include "bench/cuda/gpu_check_model.h"

#include "base/status.h"
#include "bench/cuda/gpu_check.h"
#include "bench/cuda/gpu_check_weight.h"
#include "model/weights.h"

#include <math.h>
#include <stdlib.h>

#define LOG2_E 1.4426950408889634

const struct check_shape check_shape_8b =
#ifdef GPU_CHECK_EMULATED
    {"a tiny model", 2, 128, 4, 2, 64, 192, 320, TENSOR_Q4_0, 5e5};
#else
    {"Llama 3 8B", 32, 4096, 32, 8, 128, 14336, 128256, TENSOR_Q4_0, 5e5};
#endif

const struct check_shape check_shape_tiny =
#ifdef GPU_CHECK_EMULATED
    {"a tiny model", 2, 128, 4, 2, 64, 160, 320, TENSOR_Q4_0, 1e4};
#else
    {"a small model", 4, 512, 8, 2, 64, 1376, 2048, TENSOR_Q4_0, 1e4};
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

static int plan_model(const struct check_shape *shape, struct model_plan *plan, struct why *why)
{
    uint32_t n_pairs = shape->head_dim / 2;
    struct kv_shape kv = {shape->n_kv_heads, shape->head_dim, shape->head_dim, false};
    *plan = (struct model_plan){
        .n_layers = shape->n_layers,
        .width = shape->width,
        .vocabulary = shape->vocabulary,
        .context = CONTEXT_TOKENS_MAX,
        .norm_eps = 1e-5f,
        .n_groups = 1,
        .groups = {{.kind = KV_FULL, .shape = kv, .n_layers = shape->n_layers}},
        .n_ropes = 1,
        .ropes = {{.n_pairs = n_pairs, .scale = 1.0f}},
    };
    plan->layers = calloc(shape->n_layers, sizeof *plan->layers);
    plan->ropes[0].inv_freq = calloc(n_pairs, sizeof(double));
    if (plan->layers == NULL || plan->ropes[0].inv_freq == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a plan of %u layers", shape->n_layers);
    for (uint32_t i = 0; i < n_pairs; i++)
        plan->ropes[0].inv_freq[i] = pow(shape->rope_base, -2.0 * i / shape->head_dim);
    for (uint32_t i = 0; i < shape->n_layers; i++)
        plan->layers[i] =
            (struct layer_plan){.n_heads = shape->n_heads,
                                .kv = kv,
                                .kv_layer = i,
                                .rope = ROPE_NORM,
                                .n_rot = shape->head_dim,
                                .q_scale = (float)(LOG2_E / sqrt(shape->head_dim)),
                                .n_ff = shape->n_ff};
    return STATUS_OK;
}

/* --- weights --- */

enum matrix_place { EMBEDDING, QKV, Q, KV, OUT, GATE_UP, DOWN, HEAD, MATRIX_PLACES };

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
        [HEAD] = {.name = "head", .n_in = shape->width, .n_out = {shape->vocabulary}},
    };
    struct check_matrix matrix = matrices[place];
    matrix.type = shape->type;
    matrix.seed = seed;
    return matrix;
}

uint64_t check_model_bytes(const struct check_shape *shape)
{
    uint64_t bytes = 0;
    for (int place = 0; place < MATRIX_PLACES; place++) {
        struct check_matrix matrix = matrix_of(shape, (enum matrix_place)place, 0);
        bool is_of_end = place == EMBEDDING || place == HEAD || place == Q || place == KV;
        uint32_t n_layers = place == QKV ? shape->n_layers - 1 : shape->n_layers;
        bytes += check_weight_bytes(&matrix) * (is_of_end ? 1 : n_layers);
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
    uint64_t seed = maker->seed + 8 * (layer * (uint64_t)MATRIX_PLACES + place);
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
    int status = on_device ? stream_create(device, 16, &model->stream, why) : STATUS_OK;
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
        struct weight *matrices[] = {layer->qkv, layer->q,       layer->kv,
                                     layer->out, layer->gate_up, layer->down};
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
