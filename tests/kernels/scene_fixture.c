#include "tests/kernels/scene_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "kernels/cpu/cpu_panel.h"
#include "kernels/cuda/cuda_act.h"
#include "kernels/tensor_type.h"
#include "tests/kernels/cuda_linear_fixture.h"

#define SCENE_LAYERS 2
#define SCENE_LAYER 1

static uint32_t mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

float scene_value(uint32_t seq, uint32_t position, uint32_t i)
{
    uint32_t h = mix(mix(mix(seq + 1) + position) + i);
    return (float)((double)h / 4294967296.0 * 4.0 - 2.0);
}

double scene_norm_weight(bool is_k, uint32_t d)
{
    return 1 + 0.25 * (double)scene_value(is_k ? 1001 : 1000, d, 0);
}

void *scene_alloc(struct scene *scene, size_t bytes)
{
    assert_true(scene->n_allocs < 64);
    void *memory;
    struct why why;
    assert_int_equal(device_alloc(scene->device, bytes, &memory, &why), STATUS_OK);
    scene->allocs[scene->n_allocs++] = memory;
    return memory;
}

/* Pages that are there: those from first_page on. */
static uint32_t n_pages_of(const struct scene_shape *shape, uint32_t seq)
{
    return (shape->length[seq] + PAGE_TOKENS - 1) / PAGE_TOKENS - shape->first_page[seq];
}

static uint32_t row_width(const struct scene_shape *shape)
{
    const struct kv_shape *kv = &shape->kv;
    return shape->n_heads * kv->k_dim + kv->n_kv_heads * (kv->k_dim + (kv->v_in_k ? 0 : kv->v_dim));
}

static float q_scale_of(const struct scene_shape *shape)
{
    return (float)(1.4426950408889634 / sqrt((double)shape->kv.k_dim));
}

/* Memory holds whatever its last user left there. */
static void soil(struct scene *scene, void *memory, size_t bytes)
{
    void *nans = malloc(bytes);
    memset(nans, 0xff, bytes);
    device_upload(scene->device, memory, nans, bytes);
    free(nans);
}

/* Page ids in an order of their own, so that neighbours in a sequence are strangers in memory. */
static void make_tables(struct scene *scene)
{
    const struct scene_shape *shape = &scene->shape;
    uint32_t stride = 1, n_pages = 0;
    for (uint32_t s = 0; s < shape->n_seqs; s++) {
        stride = n_pages_of(shape, s) > stride ? n_pages_of(shape, s) : stride;
        n_pages += n_pages_of(shape, s);
    }
    page_id *table = malloc(sizeof *table * stride * shape->n_seqs);
    uint32_t next = 0, step = 7;
    while (n_pages % step == 0)
        step += 2;
    for (uint32_t i = 0; i < stride * shape->n_seqs; i++)
        table[i] = PAGE_NONE;
    for (uint32_t s = 0; s < shape->n_seqs; s++)
        for (uint32_t p = 0; p < n_pages_of(shape, s); p++) {
            next = (next + step) % n_pages;
            table[s * stride + p] = next;
        }
    enum kv_dtype open = kv_dtype_open(shape->dtype);
    size_t layer_bytes = scene->ops->page_layer_bytes(&shape->kv, shape->dtype);
    size_t open_bytes = scene->ops->page_layer_bytes(&shape->kv, open);
    page_id *device_table = scene_alloc(scene, sizeof *table * stride * shape->n_seqs);
    uint32_t *first_page = scene_alloc(scene, sizeof shape->first_page);
    device_upload(scene->device, device_table, table, sizeof *table * stride * shape->n_seqs);
    device_upload(scene->device, first_page, shape->first_page, sizeof shape->first_page);
    free(table);
    size_t bytes = layer_bytes * SCENE_LAYERS * n_pages;
    scene->group = (struct kv_group_view){
        .kind = shape->kind,
        .window = shape->window,
        .shape = shape->kv,
        .dtype_open = open,
        .dtype_full = shape->dtype,
        .base = scene_alloc(scene, bytes),
        .page_stride = layer_bytes * SCENE_LAYERS,
        .layer_stride = layer_bytes,
        .table = device_table,
        .first_page = first_page,
        .table_stride = stride,
    };
    if (kv_group_packs(&scene->group)) /* the rows of all pages stay, in the same order */
        scene->group.open = (struct kv_open_view){
            .base = scene_alloc(scene, open_bytes * SCENE_LAYERS * n_pages),
            .page_stride = open_bytes * SCENE_LAYERS,
            .layer_stride = open_bytes,
            .table = device_table,
            .first_page = first_page,
            .table_stride = stride,
        };
    if (scene->is_cuda || kv_group_packs(&scene->group))
        soil(scene, scene->group.base, bytes);
    scene->n_pages = n_pages;
}

static uint32_t n_rot_of(const struct scene_shape *shape)
{
    if (shape->style == ROPE_NONE)
        return 0;
    return shape->n_rot > 0 ? shape->n_rot : shape->kv.k_dim - shape->first_rot;
}

static float *upload_norm(struct scene *scene, bool is_k)
{
    uint32_t n = scene->shape.kv.k_dim;
    float weights[MODEL_HEAD_DIM_MAX], *memory = scene_alloc(scene, n * sizeof *weights);
    for (uint32_t d = 0; d < n; d++)
        weights[d] = (float)scene_norm_weight(is_k, d);
    device_upload(scene->device, memory, weights, n * sizeof *weights);
    return memory;
}

static struct scene open_on(const struct scene_shape *shape, const struct device_options *options)
{
    struct scene scene = {.shape = *shape, .is_cuda = options->backend == BACKEND_CUDA};
    struct why why;
    assert_int_equal(device_open(options, &scene.device, &why), STATUS_OK);
    assert_int_equal(stream_create(scene.device, 64, &scene.stream, &why), STATUS_OK);
    scene.ops = device_ops(scene.device);
    make_tables(&scene);
    uint32_t n_pairs = n_rot_of(shape) / 2;
    double inv_freq[MODEL_HEAD_DIM_MAX / 2];
    for (uint32_t k = 0; k < n_pairs; k++)
        inv_freq[k] = pow(SCENE_BASE, -2.0 * k / (2.0 * n_pairs));
    if (n_pairs > 0) {
        scene.inv_freq = scene_alloc(&scene, n_pairs * sizeof *inv_freq);
        device_upload(scene.device, scene.inv_freq, inv_freq, n_pairs * sizeof *inv_freq);
    }
    if (shape->qk_norm == QK_NORM_BEFORE) {
        scene.q_norm = upload_norm(&scene, false);
        scene.k_norm = upload_norm(&scene, true);
    } else if (shape->qk_norm == QK_NORM_LATENT) {
        scene.k_norm = upload_norm(&scene, true);
    }
    scene.n_saturated = scene_alloc(&scene, sizeof *scene.n_saturated);
    return scene;
}

struct scene scene_open(const struct scene_shape *shape, enum isa isa, int n_threads)
{
    struct device_options options = {.n_threads = n_threads, .isa = isa, .strict = true};
    return open_on(shape, &options);
}

struct scene scene_open_cuda(const struct scene_shape *shape)
{
    struct device_options options = {.backend = BACKEND_CUDA};
    return open_on(shape, &options);
}

void scene_close(struct scene *scene)
{
    while (scene->n_allocs > 0)
        device_free(scene->device, scene->allocs[--scene->n_allocs]);
    stream_free(scene->stream);
    device_close(scene->device);
}

uint32_t scene_n_rows(const struct scene_rows *items, uint32_t n_items)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_items; i++)
        n += items[i].n;
    return n;
}

/* The arrays of a step; rows come in the order of the items. */
static struct rows_view make_rows(struct scene *scene, const struct scene_rows *items,
                                  uint32_t n_items, float **qkv)
{
    uint32_t n_rows = scene_n_rows(items, n_items), width = row_width(&scene->shape), r = 0;
    uint32_t *position = malloc(n_rows * sizeof *position),
             *row_seq = malloc(n_rows * sizeof *row_seq);
    uint32_t *begin = malloc((n_items + 1) * sizeof *begin);
    float *host = malloc(sizeof(float) * n_rows * width);
    struct rows_view rows = {.n_rows = n_rows, .n_seqs = n_items};
    float scale = scene->shape.scale == 0.0f ? 1.0f : scene->shape.scale;
    for (uint32_t i = 0; i < n_items; i++) {
        begin[i] = r;
        for (uint32_t j = 0; j < items[i].n; j++, r++) {
            position[r] = items[i].position + j;
            row_seq[r] = items[i].seq;
            rows.max_position = position[r] > rows.max_position ? position[r] : rows.max_position;
            for (uint32_t c = 0; c < width; c++)
                host[(size_t)r * width + c] = scale * scene_value(items[i].seq, position[r], c);
            if (scene->shape.loud > 0)
                host[(size_t)r * width + scene->shape.loud] *= 1000.0f;
        }
    }
    begin[n_items] = r;
    void *device_position = scene_alloc(scene, n_rows * sizeof *position);
    void *device_row_seq = scene_alloc(scene, n_rows * sizeof *row_seq);
    void *device_begin = scene_alloc(scene, (n_items + 1) * sizeof *begin);
    *qkv = scene_alloc(scene, sizeof(float) * n_rows * width);
    device_upload(scene->device, device_position, position, n_rows * sizeof *position);
    device_upload(scene->device, device_row_seq, row_seq, n_rows * sizeof *row_seq);
    device_upload(scene->device, device_begin, begin, (n_items + 1) * sizeof *begin);
    device_upload(scene->device, *qkv, host, sizeof(float) * n_rows * width);
    rows.position = device_position;
    rows.row_seq = device_row_seq;
    rows.seq_begin = device_begin;
    free(position);
    free(row_seq);
    free(begin);
    free(host);
    return rows;
}

static struct act make_act(struct scene *scene, uint32_t n_rows, uint32_t width, uint32_t forms)
{
    size_t bytes = scene->ops->act_bytes(scene->device, n_rows, width, forms);
    struct act act = {scene_alloc(scene, bytes), n_rows, width, forms};
    if (scene->is_cuda)
        soil(scene, act.base, bytes);
    return act;
}

/* Columns [first, first + n) of the rows of qkv, as rows of their own. */
static float *columns_of(struct scene *scene, const struct rope_append_args *args, uint32_t first,
                         uint32_t n)
{
    uint32_t n_rows = args->rows.n_rows, stride = args->qkv_stride;
    float *host = malloc(sizeof(float) * n_rows * stride);
    float *columns = scene_alloc(scene, sizeof(float) * n_rows * n);
    device_download(scene->device, host, args->qkv, sizeof(float) * n_rows * stride);
    for (uint32_t r = 0; r < n_rows; r++)
        memmove(host + (size_t)r * n, host + (size_t)r * stride + first, n * sizeof *host);
    device_upload(scene->device, columns, host, sizeof(float) * n_rows * n);
    free(host);
    return columns;
}

static void append_apart(struct scene *scene, const struct rope_append_args *args)
{
    uint32_t n_queries = args->n_heads * args->group.shape.k_dim;
    struct rope_append_args keys = *args, queries = *args;
    keys.qkv_stride = args->qkv_stride - n_queries;
    keys.qkv = columns_of(scene, args, n_queries, keys.qkv_stride);
    keys.n_heads = 0;
    keys.q = (struct act){.base = NULL};
    queries.qkv_stride = n_queries;
    queries.qkv = columns_of(scene, args, 0, n_queries);
    queries.no_append = true;
    scene->ops->rope_append(scene->stream, &keys);
    scene->ops->rope_append(scene->stream, &queries);
}

static struct act append(struct scene *scene, const struct rows_view *rows, const float *qkv)
{
    const struct scene_shape *shape = &scene->shape;
    struct rope_append_args args = {
        .qkv = qkv,
        .qkv_stride = row_width(shape),
        .n_heads = shape->n_heads,
        .style = shape->style,
        .first_rot = shape->first_rot,
        .n_rot = n_rot_of(shape),
        .inv_freq = scene->inv_freq,
        .rope_scale = 1.0f,
        .qk_norm = shape->qk_norm,
        .q_norm = scene->q_norm,
        .k_norm = scene->k_norm,
        .norm_eps = (float)SCENE_EPS,
        .q_scale = q_scale_of(shape),
        .q_temperature = shape->q_temperature,
        .rows = *rows,
        .group = scene->group,
        .layer_idx = SCENE_LAYER,
        .q = make_act(scene, rows->n_rows, shape->n_heads * shape->kv.k_dim, ACT_QUERY),
        .n_saturated = scene->n_saturated,
    };
    if (shape->apart)
        append_apart(scene, &args);
    else
        scene->ops->rope_append(scene->stream, &args);
    if (kv_group_packs(&scene->group))
        scene->ops->page_seal(scene->stream, &(struct page_seal_args){.rows = *rows,
                                                                      .group = scene->group,
                                                                      .layer_idx = SCENE_LAYER});
    return args.q;
}

static void run(struct scene *scene)
{
    device_submit(scene->stream);
    assert_int_equal(device_wait(scene->stream, NULL, NULL), STATUS_OK);
}

static void free_down_to(struct scene *scene, uint32_t n_allocs)
{
    while (scene->n_allocs > n_allocs)
        device_free(scene->device, scene->allocs[--scene->n_allocs]);
}

void scene_fill(struct scene *scene, uint32_t chunk)
{
    for (uint32_t s = 0; s < scene->shape.n_seqs; s++) {
        uint32_t length = scene->shape.length[s];
        for (uint32_t p = scene->shape.first_page[s] * PAGE_TOKENS; p < length; p += chunk) {
            struct scene_rows item = {s, p, length - p < chunk ? length - p : chunk};
            uint32_t n_allocs = scene->n_allocs;
            float *qkv;
            struct rows_view rows = make_rows(scene, &item, 1, &qkv);
            append(scene, &rows, qkv);
            run(scene);
            free_down_to(scene, n_allocs);
        }
    }
}

void scene_strew(struct scene *scene)
{
    size_t n = scene->group.page_stride / sizeof(float) * scene->n_pages;
    float *values = malloc(n * sizeof *values);
    assert_int_equal(scene->shape.dtype, KV_F32);
    for (size_t i = 0; i < n; i++)
        values[i] = scene_value(0, (uint32_t)(i >> 16), (uint32_t)i & 0xffff);
    device_upload(scene->device, scene->group.base, values, n * sizeof *values);
    free(values);
}

/* A panel's f32 rows; malloc'd. */
static float *read_floats(struct scene *scene, const struct act *act, uint32_t n_rows)
{
    size_t bytes = sizeof(float) * n_rows * act->width;
    float *out = malloc(bytes), *from = scene->is_cuda ? cuda_act_rows_of(act).floats
                                                       : cpu_act_floats(act, ACTIVATIONS_16);
    device_download(scene->device, out, from, bytes);
    return out;
}

/* A panel's f16 rows, as the values that they stand for; malloc'd. */
static float *read_halves(struct scene *scene, const struct act *act, uint32_t n_rows)
{
    struct cuda_act_rows rows = cuda_act_rows_of(act);
    float *out = malloc(sizeof(float) * n_rows * act->width), *scales = malloc(4 * n_rows);
    uint16_t *halves = malloc((size_t)2 * n_rows * rows.stride);
    device_download(scene->device, halves, rows.halves, (size_t)2 * n_rows * rows.stride);
    device_download(scene->device, scales, rows.scales, sizeof(float) * n_rows);
    for (uint32_t r = 0; r < n_rows; r++) {
        for (uint32_t i = 0; i < act->width; i++)
            out[(size_t)r * act->width + i] =
                f16_to_f32(halves[(size_t)r * rows.stride + i]) * scales[r];
        for (uint32_t i = act->width; i < rows.stride; i++)
            assert_int_equal(halves[(size_t)r * rows.stride + i], 0);
    }
    free(halves);
    free(scales);
    return out;
}

/* Queries of the CPU as a GPU holds them; values must be within f16. */
static void round_queries(struct scene *scene, const struct act *q, uint32_t n_rows)
{
    run(scene);
    size_t n = (size_t)n_rows * q->width;
    float *values = read_floats(scene, q, n_rows);
    for (size_t i = 0; i < n; i++)
        values[i] = f16_to_f32(f16_from_f32(values[i]));
    device_upload(scene->device, cpu_act_floats(q, ACTIVATIONS_16), values, n * sizeof *values);
    free(values);
}

/* The panel's f16 form holds what its f32 form does, under a scale where f16 does not reach. */
static void check_halves(struct scene *scene, const struct act *act, uint32_t n_rows,
                         const float *floats)
{
    float *halves = read_halves(scene, act, n_rows), *scales = malloc(n_rows * sizeof *scales);
    device_download(scene->device, scales, cuda_act_rows_of(act).scales, n_rows * sizeof *scales);
    for (uint32_t r = 0; r < n_rows; r++)
        assert_true(scales[r] == panel_scale(floats + (size_t)r * act->width, act->width));
    free(scales);
    for (size_t i = 0; i < (size_t)n_rows * act->width; i++)
        assert_true(fabsf(halves[i] - floats[i]) <= fabsf(floats[i]) * 0x1p-11f + 0x1p-24f);
    free(halves);
}

float *scene_queries(struct scene *scene, const struct scene_rows *items, uint32_t n_items)
{
    uint32_t n_allocs = scene->n_allocs;
    float *qkv;
    struct rows_view rows = make_rows(scene, items, n_items, &qkv);
    struct act q = append(scene, &rows, qkv);
    run(scene);
    float *out = scene->is_cuda ? read_halves(scene, &q, rows.n_rows)
                                : read_floats(scene, &q, rows.n_rows);
    free_down_to(scene, n_allocs);
    return out;
}

float *scene_attend(struct scene *scene, const struct scene_rows *items, uint32_t n_items)
{
    int status;
    float *out = scene_try_attend(scene, items, n_items, &status);
    assert_int_equal(status, STATUS_OK);
    return out;
}

float *scene_try_attend(struct scene *scene, const struct scene_rows *items, uint32_t n_items,
                        int *status)
{
    const struct scene_shape *shape = &scene->shape;
    uint32_t n_allocs = scene->n_allocs, width = shape->n_heads * shape->kv.v_dim;
    float *qkv;
    struct rows_view rows = make_rows(scene, items, n_items, &qkv);
    size_t workspace_bytes = scene->ops->attend_workspace_bytes(
        scene->device, shape->n_heads, &shape->kv, rows.n_rows, rows.max_position + 1);
    workspace_bytes -= scene->workspace_less;
    struct attend_args args = {
        .q = append(scene, &rows, qkv),
        .n_heads = shape->n_heads,
        .rows = rows,
        .group = scene->group,
        .layer_idx = SCENE_LAYER,
        .workspace = scene_alloc(scene, workspace_bytes),
        .workspace_bytes = workspace_bytes,
        .out = make_act(scene, rows.n_rows, width, scene->is_cuda ? ACT_FLOATS | ACT_BLOCKS
                                                                  : ACT_FLOATS),
    };
    if (shape->round_queries && !scene->is_cuda)
        round_queries(scene, &args.q, rows.n_rows);
    soil(scene, args.workspace, workspace_bytes);
    scene->ops->attend(scene->stream, &args);
    device_submit(scene->stream);
    *status = device_wait(scene->stream, NULL, NULL);
    float *out = read_floats(scene, &args.out, rows.n_rows);
    if (scene->is_cuda && *status == STATUS_OK)
        check_halves(scene, &args.out, rows.n_rows, out);
    free_down_to(scene, n_allocs);
    return out;
}

uint8_t *scene_page(struct scene *scene, uint32_t seq, uint32_t page_idx, size_t *n_bytes)
{
    page_id page;
    const struct kv_group_view *group = &scene->group;
    size_t at = (size_t)seq * group->table_stride + page_idx - scene->shape.first_page[seq];
    device_download(scene->device, &page, group->table + at, sizeof page);
    *n_bytes = group->layer_stride;
    uint8_t *bytes = malloc(*n_bytes);
    device_download(scene->device, bytes,
                    group->base + page * group->page_stride + SCENE_LAYER * group->layer_stride,
                    *n_bytes);
    return bytes;
}
