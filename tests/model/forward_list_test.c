/* A null backend: it plans like the real one, runs nothing and writes down what it is asked to
 * enqueue. (This program is linked with --wrap=device_ops.) */
#include "gguf_fixture.h"

#include "base/status.h"
#include "kernels/ops.h"
#include "model/forward.h"
#include "model/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MAX_ROWS 512
#define LIST_MAX 64

struct item { /* one op: what it reads beside rows, what it writes, and where in the model */
    const char *op;
    const void *weight, *from, *to;
    uint32_t layer_idx, mode;
};

static struct list_of_ops {
    struct item items[LIST_MAX];
    uint32_t n;
} list;

static void note(struct item item)
{
    assert_true(list.n < LIST_MAX);
    list.items[list.n++] = item;
}

static void note_embed(struct stream *stream, const struct embed_args *args)
{
    note((struct item){.op = "embed", .weight = args->table, .from = args->inputs, .to = args->x});
}

static void note_norm(struct stream *stream, const struct norm_args *args)
{
    note((struct item){"norm", args->weight, args->x, args->out.base, 0, args->out.forms});
}

static void note_linear(struct stream *stream, const struct linear_args *args)
{
    note((struct item){"linear", args->weight, args->in.base, args->y, 0, args->mode});
}

static void note_linear_glu(struct stream *stream, const struct linear_glu_args *args)
{
    note((struct item){
        "linear_glu", args->weight, args->in.base, args->out.base, 0, args->out.forms});
}

static void note_route(struct stream *stream, const struct route_args *args)
{
    note((struct item){
        "route", args->bias, args->logits, args->experts, args->rule.n_used, args->rule.score});
}

static void note_moe(struct stream *stream, const struct moe_args *args)
{
    note((struct item){"moe", args->gate_up, args->in.base, args->y, args->n_used, args->mode});
}

static void note_rope_append(struct stream *stream, const struct rope_append_args *args)
{
    note((struct item){"rope_append", args->inv_freq, args->qkv, args->q.base, args->layer_idx,
                       args->style});
}

static void note_attend(struct stream *stream, const struct attend_args *args)
{
    note((struct item){
        "attend", args->workspace, args->q.base, args->out.base, args->layer_idx, args->out.forms});
}

static void note_gather(struct stream *stream, const struct gather_args *args)
{
    note((struct item){.op = "gather", .weight = args->rows, .from = args->x, .to = args->y});
}

const struct ops *__real_device_ops(const struct device *device);

const struct ops *__wrap_device_ops(const struct device *device)
{
    static struct ops ops;
    ops = *__real_device_ops(device);
    ops.embed = note_embed;
    ops.norm = note_norm;
    ops.linear = note_linear;
    ops.linear_glu = note_linear_glu;
    ops.route = note_route;
    ops.moe = note_moe;
    ops.rope_append = note_rope_append;
    ops.attend = note_attend;
    ops.gather = note_gather;
    return &ops;
}

struct rig {
    struct device *device;
    struct model *model;
    struct forward *forward;
    struct stream *stream;
};

static struct rig rig_open(void (*add_model)(struct gguf_writer *writer))
{
    struct rig rig;
    struct gguf_writer writer;
    struct why why = {.text = ""};
    struct device_options options = {.n_threads = 2, .strict = true};
    gguf_writer_init(&writer);
    add_model(&writer);
    const char *path = gguf_write(&writer, 0);
    if (device_open(&options, &rig.device, &why) < 0 ||
        model_load(rig.device, path, NULL, &rig.model, &why) < 0 ||
        forward_create(rig.device, rig.model, MAX_ROWS, MAX_ROWS, 1024, &rig.forward, &why) < 0 ||
        stream_create(rig.device, forward_ops_max(rig.model), &rig.stream, &why) < 0)
        fail_msg("%s", why.text);
    unlink(path);
    gguf_writer_release(&writer);
    return rig;
}

static void dense(struct gguf_writer *writer)
{
    gguf_add_tiny_llama(writer, &TINY_SHAPE);
}

static void with_experts(struct gguf_writer *writer)
{
    gguf_add_tiny_experts(writer, &TINY_SHAPE, &TINY_EXPERTS);
}

static void rig_close(struct rig *rig)
{
    forward_free(rig->forward);
    stream_free(rig->stream);
    model_free(rig->model);
    device_close(rig->device);
}

/* The list of a step; nothing behind these device pointers is ever read. */
static struct list_of_ops list_of(const struct rig *rig, uint32_t n_rows, uint32_t n_seqs,
                                  uint32_t n_outputs, uint32_t max_position)
{
    static const uint8_t nowhere[1];
    const void *array = nowhere;
    struct forward_batch batch = {
        .inputs = array,
        .rows = {n_rows, n_seqs, array, array, array, max_position},
        .output_rows = array,
        .n_outputs = n_outputs,
    };
    struct kv_view view = {.n_groups = 1};
    view.groups[0].shape = model_plan(rig->model)->groups[0].shape;
    memset(&list, 0, sizeof list);
    forward_run(rig->forward, rig->stream, &batch, &view);
    return list;
}

static void assert_same_whatever_the_rows(void (*add_model)(struct gguf_writer *writer))
{
    struct rig rig = rig_open(add_model);
    struct list_of_ops one = list_of(&rig, 1, 1, 1, 0);
    static const uint32_t rows[] = {2, 7, 12, 13, 64, 100, MAX_ROWS};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (uint32_t n_seqs = 1; n_seqs <= rows[i]; n_seqs = n_seqs * 3 + 1) {
            struct list_of_ops many = list_of(&rig, rows[i], n_seqs, n_seqs, rows[i] * 1000);
            assert_int_equal(many.n, one.n);
            assert_memory_equal(many.items, one.items, sizeof one.items);
        }
    assert_int_equal(stream_n_enqueued(rig.stream), 0);
    rig_close(&rig);
}

static void test_forward_list__is_the_same_whatever_the_rows(void **state)
{
    assert_same_whatever_the_rows(dense);
}

static void test_forward_list__of_experts_is_the_same_whatever_the_rows(void **state)
{
    assert_same_whatever_the_rows(with_experts);
}

static void test_forward_list__experts_stand_where_the_feed_forward_stood(void **state)
{
    static const char *const layer[] = {"norm", "linear", "rope_append", "attend", "linear",
                                        "norm", "linear", "route",       "moe"};
    struct rig rig = rig_open(with_experts);
    struct list_of_ops step = list_of(&rig, 3, 1, 2, 2);
    for (uint32_t i = 0; i < 9; i++)
        assert_string_equal(step.items[1 + i].op, layer[i]);
    const struct item *moe = &step.items[9];
    assert_ptr_equal(moe->to, step.items[5].to); /* onto x */
    assert_int_equal(moe->layer_idx, 2);
    assert_int_equal(moe->mode, LINEAR_ADD);
    rig_close(&rig);
}

static void test_forward_list__is_the_plan_layer_by_layer(void **state)
{
    static const char *const layer[] = {"norm",   "linear", "rope_append", "attend",
                                        "linear", "norm",   "linear_glu",  "linear"};
    static const char *const ends[] = {"norm", "linear"};
    struct rig rig = rig_open(dense);
    struct list_of_ops step = list_of(&rig, 3, 1, 2, 2);
    uint32_t n_layers = model_plan(rig.model)->n_layers, at = 1;
    assert_int_equal(step.n, 1 + 8 * n_layers + 1 + 2);
    assert_string_equal(step.items[0].op, "embed");
    for (uint32_t l = 0; l < n_layers; l++)
        for (uint32_t i = 0; i < 8; i++, at++) {
            if (l + 1 == n_layers && i == 5) /* the rows whose logits are asked for go on alone */
                assert_string_equal(step.items[at++].op, "gather");
            assert_string_equal(step.items[at].op, layer[i]);
            if (i == 2 || i == 3)
                assert_int_equal(step.items[at].layer_idx, l);
        }
    for (uint32_t i = 0; i < 2; i++)
        assert_string_equal(step.items[at + i].op, ends[i]);
    rig_close(&rig);
}

static void test_forward_list__ends_at_the_last_keys_where_nobody_asks_for_logits(void **state)
{
    struct rig rig = rig_open(dense);
    struct list_of_ops whole = list_of(&rig, 3, 1, 2, 2), step = list_of(&rig, 3, 1, 0, 2);
    uint32_t n_layers = model_plan(rig.model)->n_layers;
    assert_int_equal(step.n, 1 + 8 * (n_layers - 1) + 3);
    assert_memory_equal(step.items, whole.items, step.n * sizeof *step.items);
    assert_string_equal(step.items[step.n - 1].op, "rope_append");
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_list__is_the_same_whatever_the_rows),
        cmocka_unit_test(test_forward_list__of_experts_is_the_same_whatever_the_rows),
        cmocka_unit_test(test_forward_list__experts_stand_where_the_feed_forward_stood),
        cmocka_unit_test(test_forward_list__is_the_plan_layer_by_layer),
        cmocka_unit_test(test_forward_list__ends_at_the_last_keys_where_nobody_asks_for_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
