#include "kernels/cpu/cpu_ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "base/status.h"
#include "kernels/tensor_type.h"

#define WIDTH 64
#define MAX_ROWS 512

/* A device on which a whole step can be enqueued. Nothing of it ever runs. */
struct step {
    struct device *device;
    struct stream *stream;
    const struct ops *ops;
    struct weight *matrix, *gate_up, *experts_gate_up, *experts_down, *heads;
    uint8_t *memory;
    size_t workspace_bytes;
};

static void step_open(struct step *step)
{
    struct device_options options = {.n_threads = 2, .strict = true};
    static float values[WIDTH * WIDTH];
    struct weight_source sources[2] = {{TENSOR_F32, WIDTH, WIDTH, values, "a"},
                                       {TENSOR_F32, WIDTH, WIDTH, values, "b"}};
    struct kv_shape shape = {1, WIDTH / 2, WIDTH / 2, false};
    void *memory;
    assert_int_equal(device_open(&options, &step->device, NULL), STATUS_OK);
    assert_int_equal(stream_create(step->device, 1000, &step->stream, NULL), STATUS_OK);
    step->ops = device_ops(step->device);
    step->workspace_bytes =
        step->ops->attend_workspace_bytes(step->device, 2, &shape, MAX_ROWS, 4096);
    assert_int_equal(device_alloc(step->device, step->workspace_bytes, &memory, NULL), STATUS_OK);
    step->memory = memory;
    assert_int_equal(
        step->ops->weight_load(step->device, WEIGHT_PLAIN, sources, 1, 0, 1, &step->matrix, NULL),
        0);
    assert_int_equal(step->ops->weight_load(step->device, WEIGHT_GATE_UP, sources, 2, 0, 1,
                                            &step->gate_up, NULL),
                     0);
    assert_int_equal(step->ops->weight_load(step->device, WEIGHT_EXPERTS_GATE_UP, sources, 2, 0, 1,
                                            &step->experts_gate_up, NULL),
                     0);
    assert_int_equal(step->ops->weight_load(step->device, WEIGHT_EXPERTS, sources, 1, 0, 1,
                                            &step->experts_down, NULL),
                     0);
    assert_int_equal(
        step->ops->weight_load(step->device, WEIGHT_HEADS, sources, 1, 0, 1, &step->heads, NULL),
        0);
}

static void step_close(struct step *step)
{
    step->ops->weight_free(step->device, step->matrix);
    step->ops->weight_free(step->device, step->gate_up);
    step->ops->weight_free(step->device, step->experts_gate_up);
    step->ops->weight_free(step->device, step->experts_down);
    step->ops->weight_free(step->device, step->heads);
    device_free(step->device, step->memory);
    stream_free(step->stream);
    device_close(step->device);
}

static void enqueue_experts(struct step *step, uint32_t n, struct act act)
{
    const struct ops *ops = step->ops;
    void *memory = step->memory;
    ops->route(step->stream,
               &(struct route_args){.rule = {1, 1, 1, 1, 1, ROUTE_SOFTMAX, false, false, 1},
                                    .logits = memory,
                                    .n_rows = n,
                                    .experts = memory,
                                    .weights = memory});
    ops->moe(step->stream, &(struct moe_args){.gate_up = step->experts_gate_up,
                                              .down = step->experts_down,
                                              .in = act,
                                              .experts = memory,
                                              .weights = memory,
                                              .n_rows = n,
                                              .n_used = 1,
                                              .workspace = memory,
                                              .workspace_bytes = SIZE_MAX,
                                              .y = memory,
                                              .y_stride = WIDTH});
}

static void enqueue_heads(struct step *step, uint32_t n, struct act act)
{
    void *memory = step->memory;
    step->ops->quantize(step->stream, &(struct quantize_args){.x = memory,
                                                              .x_stride = WIDTH,
                                                              .n_heads = 1,
                                                              .n = WIDTH,
                                                              .n_rows = n,
                                                              .out = act});
    step->ops->linear_heads(step->stream, &(struct linear_heads_args){.weight = step->heads,
                                                                      .in = act,
                                                                      .n_rows = n,
                                                                      .y = memory,
                                                                      .y_stride = WIDTH,
                                                                      .y_head_stride = WIDTH});
}

/* Enqueues one of each op for n rows of n_seqs sequences; gives the length of the list. */
static uint64_t enqueue(struct step *step, uint32_t n, uint32_t n_seqs, uint32_t max_position)
{
    uint64_t before = stream_n_enqueued(step->stream);
    const struct ops *ops = step->ops;
    void *memory = step->memory;
    struct act act = {memory, MAX_ROWS, WIDTH, ACT_FLOATS | ACT_QUERY};
    struct act other = {step->memory + 64, MAX_ROWS, WIDTH, ACT_FLOATS};
    struct rows_view rows = {n, n_seqs, memory, memory, memory, max_position};
    struct kv_group_view group = {.shape = {1, WIDTH / 2, WIDTH / 2, false},
                                  .base = memory,
                                  .table = memory,
                                  .first_page = memory,
                                  .table_stride = 64};
    device_write(step->stream, memory, memory, n);
    ops->page_zero(step->stream, &(struct page_zero_args){memory, 64, memory, n});
    ops->page_copy(step->stream, &(struct page_copy_args){memory, 64, memory, memory, n});
    ops->embed(
        step->stream,
        &(struct embed_args){.table = step->matrix, .inputs = memory, .n_rows = n, .x = memory});
    ops->norm(step->stream, &(struct norm_args){memory, memory, 1e-5f, n, WIDTH, act});
    ops->linear(
        step->stream,
        &(struct linear_args){
            .weight = step->matrix, .in = act, .n_rows = n, .y = memory, .y_stride = WIDTH});
    ops->linear_glu(
        step->stream,
        &(struct linear_glu_args){.weight = step->gate_up, .in = act, .n_rows = n, .out = other});
    enqueue_experts(step, n, act);
    enqueue_heads(step, n, act);
    ops->rope_append(step->stream, &(struct rope_append_args){.qkv = memory,
                                                              .qkv_stride = 4 * WIDTH / 2,
                                                              .n_heads = 2,
                                                              .style = ROPE_NORM,
                                                              .n_rot = 32,
                                                              .inv_freq = memory,
                                                              .rows = rows,
                                                              .group = group,
                                                              .q = act});
    ops->attend(step->stream, &(struct attend_args){.q = act,
                                                    .n_heads = 2,
                                                    .rows = rows,
                                                    .group = group,
                                                    .workspace = memory,
                                                    .workspace_bytes = step->workspace_bytes,
                                                    .out = act});
    ops->gather(step->stream, &(struct gather_args){memory, memory, n, WIDTH, memory});
    ops->sample(step->stream, &(struct sample_args){.logits = memory,
                                                    .n_rows = n,
                                                    .vocabulary = 100,
                                                    .params = memory,
                                                    .workspace = memory,
                                                    .results = memory});
    ops->count(step->stream, &(struct count_args){.counts = memory,
                                                  .vocabulary = 100,
                                                  .n_slots = 1,
                                                  .inputs = memory,
                                                  .slots = memory,
                                                  .n_rows = n});
    device_read(step->stream, memory, memory, n);
    assert_int_equal(stream_status(step->stream), STATUS_OK);
    return stream_n_enqueued(step->stream) - before;
}

static void test_ops__a_step_is_the_same_list_whatever_its_rows(void **state)
{
    struct step step;
    step_open(&step);
    uint64_t n_entries = enqueue(&step, 1, 1, 0);
    assert_true(n_entries >= 17);
    static const uint32_t rows[] = {0, 2, 11, 12, 13, 64, 511, 512};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(enqueue(&step, rows[i], (uint32_t)i, rows[i] * 1000), n_entries);
    step_close(&step);
}

static void test_ops__the_table_is_full_and_numbered(void **state)
{
    const void *const *entries = (const void *const *)&cpu_ops;
    for (size_t i = 0; i < sizeof cpu_ops / sizeof *entries; i++)
        assert_non_null(entries[i]);
    assert_int_equal(cpu_ops.numerics, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ops__a_step_is_the_same_list_whatever_its_rows),
        cmocka_unit_test(test_ops__the_table_is_full_and_numbered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
