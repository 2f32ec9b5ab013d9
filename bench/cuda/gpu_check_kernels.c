/* Each op at the shapes of an 8B model: one row, as decode has it, and a whole step of prefill. */
#include "base/status.h"
#include "bench/cuda/gpu_check_case.h"
#include "kernels/cuda/cuda_cost.h"

static void call_linear(struct bench_case *bench, uint32_t lane, const void *args)
{
    struct linear_args linear = *(const struct linear_args *)args;
    linear.weight = bench->weights[lane];
    bench->check->ops->linear(bench->stream, &linear);
}

static void bench_linear(struct bench_case *bench, uint32_t type, uint32_t n_in, uint32_t n_out,
                         uint32_t n_rows)
{
    struct check_matrix matrix = {
        .name = "a matrix", .type = type, .n_in = n_in, .n_out = {n_out}, .seed = CASE_SEED};
    if (!case_begin(bench, "linear", "%s %u x %u, %u rows", tensor_type_info(type)->name, n_out,
                    n_in, n_rows))
        return;
    case_load_weights(bench, &matrix);
    uint32_t forms = type == TENSOR_F32 ? ACT_FLOATS : ACT_BLOCKS;
    struct linear_args args = {.weight = bench->weights[0],
                               .in = case_filled_panel(bench, n_rows, n_in, forms),
                               .n_rows = n_rows,
                               .mode = LINEAR_SET,
                               .y = case_floats(bench, (size_t)n_rows * n_out),
                               .y_stride = n_out};
    struct op_cost cost = {.read = 0};
    if (bench->status == STATUS_OK)
        cost = cuda_cost_linear(&args);
    case_measure(bench, call_linear, &args, cost);
}

static void call_glu(struct bench_case *bench, uint32_t lane, const void *args)
{
    struct linear_glu_args glu = *(const struct linear_glu_args *)args;
    glu.weight = bench->weights[lane];
    bench->check->ops->linear_glu(bench->stream, &glu);
}

static void bench_glu(struct bench_case *bench, uint32_t n_rows)
{
    uint32_t width = bench->model->width, n_ff = bench->model->n_ff, type = bench->model->type;
    struct check_matrix matrix = {.name = "gate and up",
                                  .fuse = WEIGHT_GATE_UP,
                                  .type = type,
                                  .n_in = width,
                                  .n_out = {n_ff, n_ff},
                                  .seed = CASE_SEED};
    if (!case_begin(bench, "linear_glu", "%s 2 x %u x %u, %u rows", tensor_type_info(type)->name,
                    n_ff, width, n_rows))
        return;
    case_load_weights(bench, &matrix);
    struct linear_glu_args args = {.weight = bench->weights[0],
                                   .in = case_filled_panel(bench, n_rows, width, ACT_BLOCKS),
                                   .n_rows = n_rows,
                                   .out = case_panel(bench, n_rows, n_ff, ACT_BLOCKS)};
    struct op_cost cost = {.read = 0};
    if (bench->status == STATUS_OK)
        cost = cuda_cost_linear_glu(&args);
    case_measure(bench, call_glu, &args, cost);
}

static void call_embed(struct bench_case *bench, uint32_t lane, const void *args)
{
    struct embed_args embed = *(const struct embed_args *)args;
    embed.table = bench->weights[lane];
    bench->check->ops->embed(bench->stream, &embed);
}

static void bench_embed(struct bench_case *bench, uint32_t n_rows)
{
    struct row_input inputs[CASE_STEP_ROWS];
    struct check_matrix matrix = {.name = "a table",
                                  .type = bench->model->type,
                                  .n_in = bench->model->width,
                                  .n_out = {bench->model->vocabulary},
                                  .seed = CASE_SEED};
    if (!case_begin(bench, "embed", "%u rows of %u", n_rows, matrix.n_in))
        return;
    case_load_weights(bench, &matrix);
    for (uint32_t i = 0; i < n_rows; i++)
        inputs[i] = (struct row_input){ROW_TOKEN, i * 7919u % bench->model->vocabulary};
    struct embed_args args = {.table = bench->weights[0],
                              .inputs = case_upload(bench, inputs, n_rows * sizeof *inputs),
                              .n_rows = n_rows,
                              .x = case_floats(bench, (size_t)n_rows * matrix.n_in)};
    struct op_cost cost = {.read = 0};
    if (bench->status == STATUS_OK)
        cost = cuda_cost_embed(&args);
    case_measure(bench, call_embed, &args, cost);
}

static void bench_matrices(struct bench_case *bench)
{
    static const uint32_t other_types[] = {TENSOR_Q4_1, TENSOR_Q8_0, TENSOR_F16,
                                           TENSOR_Q4_K, TENSOR_Q6_K, TENSOR_IQ4_XS,
                                           TENSOR_BF16};
    const struct check_shape *model = bench->model;
    uint32_t q_width = model->n_heads * model->head_dim, type = model->type;
    uint32_t qkv_width = q_width + 2 * model->n_kv_heads * model->head_dim;
    static const uint32_t rows[] = {1, 8, 32, CASE_STEP_ROWS};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bench_linear(bench, type, model->width, qkv_width, rows[i]);
        bench_linear(bench, type, q_width, model->width, rows[i]);
        bench_glu(bench, rows[i]);
        bench_linear(bench, type, model->n_ff, model->width, rows[i]);
    }
    bench_linear(bench, type, model->width, model->vocabulary, 1);
    for (size_t i = 0; i < sizeof other_types / sizeof *other_types; i++) {
        uint32_t block = tensor_type_info(other_types[i])->block_values;
        uint32_t width = (model->width + block - 1) / block * block;
        bench_linear(bench, other_types[i], width, qkv_width, 1);
        bench_linear(bench, other_types[i], width, qkv_width, CASE_STEP_ROWS);
    }
    bench_embed(bench, 1);
    bench_embed(bench, CASE_STEP_ROWS);
}

int check_kernels(struct gpu_check *check, struct why *why)
{
    struct bench_case bench = {.check = check, .model = &check_shape_8b, .why = why};
    uint32_t n_ops = CASE_LIST_CALLS + CASE_ALLOCS_MAX;
    bench.status = stream_create(check->device, n_ops, &bench.stream, why);
    if (bench.status < 0)
        return bench.status;
    bench_matrices(&bench);
    bench_rows(&bench);
    stream_free(bench.stream);
    return bench.status;
}
