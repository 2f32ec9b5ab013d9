/* The ops without matrices: norms, queries and pages, attention, rows, draws. */
#include "bench/cuda/gpu_check_case.h"

#include "base/status.h"
#include "bench/cuda/gpu_ops.h"
#include "kernels/cuda/cuda_cost.h"

#include <stdlib.h>

/* --- rows --- */

static void call_norm(struct bench_case *bench, uint32_t lane, const void *args)
{
    (void)lane;
    bench->check->ops->norm(bench->stream, args);
}

static void bench_norm(struct bench_case *bench, uint32_t n_rows)
{
    uint32_t width = bench->model->width;
    if (!case_begin(bench, "norm", "%u rows of %u", n_rows, width))
        return;
    struct norm_args args = {.x = case_floats(bench, (size_t)n_rows * width),
                             .weight = case_floats(bench, width),
                             .eps = 1e-5f,
                             .n_rows = n_rows,
                             .width = width,
                             .out = case_panel(bench, n_rows, width, ACT_BLOCKS)};
    case_measure(bench, call_norm, &args, cuda_cost_norm(&args));
}

static void call_gather(struct bench_case *bench, uint32_t lane, const void *args)
{
    (void)lane;
    bench->check->ops->gather(bench->stream, args);
}

static void bench_gather(struct bench_case *bench, uint32_t n_rows)
{
    uint32_t rows[CASE_STEP_ROWS], width = bench->model->width;
    if (!case_begin(bench, "gather", "%u rows of %u", n_rows, width))
        return;
    for (uint32_t i = 0; i < n_rows; i++)
        rows[i] = n_rows - 1 - i;
    struct gather_args args = {.x = case_floats(bench, (size_t)n_rows * width),
                               .rows = case_upload(bench, rows, n_rows * sizeof *rows),
                               .n = n_rows,
                               .width = width,
                               .y = case_floats(bench, (size_t)n_rows * width)};
    case_measure(bench, call_gather, &args, cuda_cost_gather(&args));
}

static void call_sample(struct bench_case *bench, uint32_t lane, const void *args)
{
    (void)lane;
    bench->check->ops->sample(bench->stream, args);
}

/* What cuts cost is not counted: those lines have the bytes of a greedy draw. */
static void bench_sample(struct bench_case *bench, const char *how, struct sample_params params)
{
    uint32_t vocabulary = bench->model->vocabulary;
    struct gpu_check *check = bench->check;
    if (!case_begin(bench, "sample", "%s, a row of %u", how, vocabulary))
        return;
    struct sample_args args = {
        .logits = case_floats(bench, vocabulary),
        .n_rows = 1,
        .vocabulary = vocabulary,
        .params = case_upload(bench, &params, sizeof params),
        .workspace =
            case_take(bench, check->ops->sample_workspace_bytes(check->device, 1, vocabulary)),
        .results = case_take(bench, sizeof(struct sample_result)),
    };
    case_measure(bench, call_sample, &args, cuda_cost_greedy(&args));
}

/* --- pages: a sequence of `context` tokens, whose last n_rows are the step --- */

struct pages {
    struct rows_view rows, host_rows; /* device, host: for costs */
    struct kv_group_view group;
    uint32_t *position, *row_seq, seq_begin[2]; /* what host_rows points to */
};

static void make_rows(struct bench_case *bench, struct pages *pages, uint32_t context,
                      uint32_t n_rows)
{
    pages->position = calloc(n_rows, sizeof *pages->position);
    pages->row_seq = calloc(n_rows, sizeof *pages->row_seq);
    if (pages->position == NULL || pages->row_seq == NULL) {
        bench->status = refuse(bench->why, STATUS_NO_MEMORY, "no memory for %u rows", n_rows);
        return;
    }
    for (uint32_t i = 0; i < n_rows; i++)
        pages->position[i] = context - n_rows + i;
    pages->seq_begin[0] = 0;
    pages->seq_begin[1] = n_rows;
    pages->host_rows = (struct rows_view){
        n_rows, 1, pages->position, pages->row_seq, pages->seq_begin, context - 1};
    pages->rows = (struct rows_view){
        n_rows,
        1,
        case_upload(bench, pages->position, n_rows * sizeof *pages->position),
        case_upload(bench, pages->row_seq, n_rows * sizeof *pages->row_seq),
        case_upload(bench, pages->seq_begin, sizeof pages->seq_begin),
        context - 1};
}

/* The rows of the last n_pages pages, which are packed to the places that `table` ends with. */
static struct kv_open_view make_open(struct bench_case *bench, const struct kv_group_view *group,
                                     uint32_t n_pages)
{
    size_t layer_bytes = bench->check->ops->page_layer_bytes(&group->shape, group->dtype_open);
    uint32_t first_page = group->table_stride - n_pages;
    size_t bytes = layer_bytes * bench->n_lanes * n_pages;
    page_id table[CASE_STEP_ROWS / PAGE_TOKENS + 2];
    for (uint32_t i = 0; i < n_pages; i++)
        table[i] = i;
    struct kv_open_view open = {
        .base = case_take(bench, bytes),
        .page_stride = layer_bytes * bench->n_lanes,
        .layer_stride = layer_bytes,
        .table = case_upload(bench, table, n_pages * sizeof *table),
        .first_page = case_upload(bench, &first_page, sizeof first_page),
        .table_stride = n_pages,
    };
    if (bench->status == STATUS_OK)
        gpu_fill_halves(bench->stream, open.base, bytes, CASE_SEED, -1.0f, 1.0f);
    return open;
}

/* A layer a lane, filled by a seed: of packed ones the scales, too, which come out as small
 * numbers. *pages stays where it is: its rows point into it. */
static void make_pages(struct bench_case *bench, enum kv_dtype dtype, uint32_t context,
                       uint32_t n_rows, struct pages *pages)
{
    const struct check_shape *model = bench->model;
    uint32_t n_pages = (context + PAGE_TOKENS - 1) / PAGE_TOKENS;
    struct kv_shape shape = {model->n_kv_heads, model->head_dim, model->head_dim, false};
    size_t layer_bytes = bench->check->ops->page_layer_bytes(&shape, dtype);
    page_id *table = malloc(n_pages * sizeof *table);
    case_set_lanes(bench, layer_bytes * n_pages);
    size_t bytes = layer_bytes * bench->n_lanes * n_pages;
    if (table == NULL)
        bench->status = refuse(bench->why, STATUS_NO_MEMORY, "no memory for a table");
    for (uint32_t i = 0; table != NULL && i < n_pages; i++)
        table[i] = n_pages - 1 - i;
    make_rows(bench, pages, context, n_rows);
    pages->group = (struct kv_group_view){
        .kind = KV_FULL,
        .shape = shape,
        .dtype_open = kv_dtype_open(dtype),
        .dtype_full = dtype,
        .base = case_take(bench, bytes),
        .page_stride = layer_bytes * bench->n_lanes,
        .layer_stride = layer_bytes,
        .table = case_upload(bench, table, n_pages * sizeof *table),
        .first_page = case_take(bench, sizeof(uint32_t)),
        .table_stride = n_pages,
    };
    if (bench->status == STATUS_OK)
        gpu_fill_halves(bench->stream, pages->group.base, bytes, CASE_SEED, -1.0f, 1.0f);
    if (kv_group_packs(&pages->group))
        pages->group.open =
            make_open(bench, &pages->group, n_pages - (context - n_rows) / PAGE_TOKENS);
    free(table);
}

static void free_pages(struct pages *pages)
{
    free(pages->position);
    free(pages->row_seq);
}

static struct rope_append_args append_of(struct bench_case *bench, const struct pages *pages)
{
    const struct check_shape *model = bench->model;
    uint32_t n_rows = pages->rows.n_rows, q_width = model->n_heads * model->head_dim;
    uint32_t width = q_width + 2 * model->n_kv_heads * model->head_dim;
    double inv_freq[MODEL_HEAD_DIM_MAX / 2];
    for (uint32_t i = 0; i < model->head_dim / 2; i++)
        inv_freq[i] = 1.0 / (1 + i);
    return (struct rope_append_args){
        .qkv = case_floats(bench, (size_t)n_rows * width),
        .qkv_stride = width,
        .n_heads = model->n_heads,
        .style = ROPE_NORM,
        .n_rot = model->head_dim,
        .inv_freq = case_upload(bench, inv_freq, model->head_dim / 2 * sizeof *inv_freq),
        .rope_scale = 1.0f,
        .q_scale = 0.1f,
        .rows = pages->rows,
        .group = pages->group,
        .q = case_panel(bench, n_rows, q_width, ACT_QUERY),
    };
}

static void call_append(struct bench_case *bench, uint32_t lane, const void *args)
{
    struct rope_append_args append = *(const struct rope_append_args *)args;
    append.layer_idx = lane;
    bench->check->ops->rope_append(bench->stream, &append);
}

static void bench_append(struct bench_case *bench, uint32_t n_rows)
{
    if (!case_begin(bench, "rope_append", "%u rows, %u / %u heads of %u", n_rows,
                    bench->model->n_heads, bench->model->n_kv_heads, bench->model->head_dim))
        return;
    struct pages pages = {.position = NULL};
    make_pages(bench, KV_F16, CASE_PREFILL_CONTEXT, n_rows, &pages);
    struct rope_append_args args = append_of(bench, &pages);
    case_measure(bench, call_append, &args, cuda_cost_rope_append(&args));
    free_pages(&pages);
}

static void call_attend(struct bench_case *bench, uint32_t lane, const void *args)
{
    struct attend_args attend = *(const struct attend_args *)args;
    attend.layer_idx = lane;
    bench->check->ops->attend(bench->stream, &attend);
}

static void bench_attend(struct bench_case *bench, enum kv_dtype dtype, uint32_t context,
                         uint32_t n_rows)
{
    const struct check_shape *model = bench->model;
    struct gpu_check *check = bench->check;
    if (!case_begin(bench, "attend", "%u rows at the end of %u, %s pages", n_rows, context,
                    kv_dtype_name(dtype)))
        return;
    struct pages pages = {.position = NULL};
    make_pages(bench, dtype, context, n_rows, &pages);
    struct rope_append_args append = append_of(bench, &pages);
    struct attend_args args = {.q = append.q,
                               .n_heads = model->n_heads,
                               .rows = pages.rows,
                               .group = pages.group,
                               .out = case_panel(bench, n_rows, append.q.width, ACT_BLOCKS)};
    args.workspace_bytes = check->ops->attend_workspace_bytes(
        check->device, model->n_heads, &pages.group.shape, n_rows, context);
    args.workspace = case_take(bench, args.workspace_bytes);
    struct op_cost cost = {.read = 0};
    if (bench->status == STATUS_OK) {
        struct attend_args counted = args;
        counted.rows = pages.host_rows;
        cost = cuda_cost_attend(&counted);
        check->ops->rope_append(bench->stream, &append); /* queries */
    }
    case_measure(bench, call_attend, &args, cost);
    free_pages(&pages);
}

static void call_page_seal(struct bench_case *bench, uint32_t lane, const void *args)
{
    struct page_seal_args seal = *(const struct page_seal_args *)args;
    seal.layer_idx = lane;
    bench->check->ops->page_seal(bench->stream, &seal);
}

static void bench_seal(struct bench_case *bench, enum kv_dtype dtype)
{
    if (!case_begin(bench, "page_seal", "%u rows at the end of %u, %s pages", CASE_STEP_ROWS,
                    CASE_PREFILL_CONTEXT, kv_dtype_name(dtype)))
        return;
    struct pages pages = {.position = NULL};
    make_pages(bench, dtype, CASE_PREFILL_CONTEXT, CASE_STEP_ROWS, &pages);
    struct page_seal_args args = {.rows = pages.rows, .group = pages.group};
    struct page_seal_args counted = {.rows = pages.host_rows, .group = pages.group};
    struct op_cost cost = {.read = 0};
    if (bench->status == STATUS_OK)
        cost = cuda_cost_page_seal(&counted);
    case_measure(bench, call_page_seal, &args, cost);
    free_pages(&pages);
}

static void call_page_copy(struct bench_case *bench, uint32_t lane, const void *args)
{
    (void)lane;
    bench->check->ops->page_copy(bench->stream, args);
}

static void call_page_zero(struct bench_case *bench, uint32_t lane, const void *args)
{
    (void)lane;
    bench->check->ops->page_zero(bench->stream, args);
}

/* Whole pages: all layers. */
static void bench_page(struct bench_case *bench, bool copies)
{
    const struct check_shape *model = bench->model;
    const page_id ids[2] = {0, 1};
    struct kv_shape shape = {model->n_kv_heads, model->head_dim, model->head_dim, false};
    size_t bytes = bench->check->ops->page_layer_bytes(&shape, KV_F16) * model->n_layers;
    if (!case_begin(bench, copies ? "page_copy" : "page_zero", "a page of %zu bytes", bytes))
        return;
    uint8_t *base = case_take(bench, 2 * bytes);
    const page_id *pages = case_upload(bench, ids, sizeof ids);
    struct page_copy_args copy = {base, bytes, pages, pages + 1, 1};
    struct page_zero_args zero = {base, bytes, pages, 1};
    if (copies)
        case_measure(bench, call_page_copy, &copy, cuda_cost_page_copy(&copy));
    else
        case_measure(bench, call_page_zero, &zero, cuda_cost_page_zero(&zero));
}

void bench_rows(struct bench_case *bench)
{
    static const enum kv_dtype dtypes[] = {KV_F16, KV_BF16, KV_Q8, KV_Q4};
    struct sample_params params = {
        .top_p = 1.0f, .repetition = 1.0f, .count_slot = -1, .mask_slot = -1};
    bench_norm(bench, 1);
    bench_norm(bench, CASE_STEP_ROWS);
    bench_append(bench, 1);
    bench_append(bench, CASE_STEP_ROWS);
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        bench_attend(bench, dtypes[i], CASE_DECODE_CONTEXT, 1);
        bench_attend(bench, dtypes[i], CASE_PREFILL_CONTEXT, CASE_STEP_ROWS);
        if (kv_dtype_is_packed(dtypes[i]))
            bench_seal(bench, dtypes[i]);
    }
    bench_gather(bench, CASE_STEP_ROWS);
    bench_page(bench, false);
    bench_page(bench, true);
    bench_sample(bench, "greedy", params);
    params.temperature = 0.8f;
    bench_sample(bench, "temperature", params);
    params.top_p = 0.95f;
    params.top_k = 40;
    bench_sample(bench, "top_k 40, top_p 0.95", params);
}
