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

static void note_quantize(struct stream *stream, const struct quantize_args *args)
{
    note((struct item){"quantize", NULL, args->x, args->out.base, args->n, args->out.forms});
}

static void note_linear_heads(struct stream *stream, const struct linear_heads_args *args)
{
    note((struct item){
        "linear_heads", args->weight, args->in.base, args->y, args->n_tail, args->y_head_stride});
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
    ops.quantize = note_quantize;
    ops.linear_heads = note_linear_heads;
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

static void latent(struct gguf_writer *writer)
{
    gguf_add_tiny_latent(writer, &(struct tiny_latent){.has_q_rank = true});
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
        .outputs = {n_outputs, n_outputs, array, array, array, max_position},
    };
    struct kv_view view = {.n_groups = 1};
    view.groups[0].shape = model_plan(rig->model)->groups[0].shape;
    memset(&list, 0, sizeof list);
    forward_run(rig->forward, rig->stream, &batch, &view);
    return list;
}

static void assert_same_list(const struct list_of_ops *got, const struct list_of_ops *want)
{
    assert_int_equal(got->n, want->n);
    assert_memory_equal(got->items, want->items, sizeof want->items);
}

/* Where all rows are asked for logits, some, or none. */
static void assert_same_whatever_the_rows(void (*add_model)(struct gguf_writer *writer))
{
    struct rig rig = rig_open(add_model);
    struct list_of_ops all = list_of(&rig, 1, 1, 1, 0), some = list_of(&rig, 2, 1, 1, 1),
                       none = list_of(&rig, 1, 1, 0, 0);
    static const uint32_t rows[] = {2, 7, 12, 13, 64, 100, MAX_ROWS};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint32_t n = rows[i];
        for (uint32_t n_seqs = 1; n_seqs <= n; n_seqs = n_seqs * 3 + 1) {
            struct list_of_ops many = list_of(&rig, n, n_seqs, n_seqs, n * 1000);
            assert_same_list(&many, n_seqs == n ? &all : &some);
        }
        struct list_of_ops asked = list_of(&rig, n, 1, n, n * 1000),
                           unasked = list_of(&rig, n, 2, 0, n * 1000);
        assert_same_list(&asked, &all);
        assert_same_list(&unasked, &none);
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

static void test_forward_list__of_latent_attention_is_the_same_whatever_the_rows(void **state)
{
    assert_same_whatever_the_rows(latent);
}

static void test_forward_list__latent_attention_goes_into_its_space_and_out_of_it(void **state)
{
    static const char *const layer[] = {"norm",     "linear",       "linear",      "norm",
                                        "linear",   "quantize",     "linear_heads", "rope_append",
                                        "attend",   "linear_heads", "quantize",    "linear",
                                        "norm",     "linear_glu",   "linear"};
    struct rig rig = rig_open(latent);
    struct list_of_ops step = list_of(&rig, 3, 1, 2, 2);
    for (uint32_t i = 0; i < 15; i++)
        assert_string_equal(step.items[1 + i].op, layer[i]);
    const struct item *key = &step.items[2], *in = &step.items[7], *append = &step.items[8];
    assert_int_equal(step.items[6].layer_idx, 16); /* nope values of a head */
    assert_true(in->layer_idx == 8 && in->mode == 32); /* rope behind rank 24 */
    assert_ptr_equal(in->to, append->from);
    assert_ptr_equal(key->to, (const float *)append->from + 4 * 32); /* behind the queries */
    assert_ptr_equal(step.items[10].from, step.items[9].to); /* out of the space */
    assert_int_equal(step.items[11].layer_idx, 12);
    assert_int_equal(step.items[12].mode, LINEAR_ADD);
    rig_close(&rig);
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

static void assert_ops(const struct list_of_ops *step, const char *const *names, uint32_t n)
{
    assert_int_equal(step->n, n);
    for (uint32_t i = 0; i < n; i++)
        assert_string_equal(step->items[i].op, names[i]);
}

static void test_forward_list__is_the_plan_layer_by_layer(void **state)
{
    static const char *const names[] = {
        "embed",                                              /* */
        "norm",       "linear",     "rope_append", "attend", /* layer 0 */
        "linear",     "norm",       "linear_glu",  "linear", /* */
        "norm",       "linear",     "linear", /* the last: queries, keys and values apart */
        "rope_append", "attend",    "linear",      "norm",   /* */
        "linear_glu", "linear",                              /* */
        "norm",       "linear",
    };
    struct rig rig = rig_open(dense);
    struct list_of_ops step = list_of(&rig, 3, 1, 3, 2);
    assert_int_equal(model_plan(rig.model)->n_layers, 2);
    assert_ops(&step, names, sizeof names / sizeof *names);
    assert_int_equal(step.items[3].layer_idx, 0);
    assert_int_equal(step.items[12].layer_idx, 1);
    assert_ptr_equal(step.items[19].from, step.items[18].to);
    rig_close(&rig);
}

static void test_forward_list__rows_that_are_asked_for_logits_go_on_alone(void **state)
{
    static const char *const names[] = {
        "embed",                                                        /* */
        "norm",   "linear", "rope_append", "attend",                    /* layer 0 */
        "linear", "norm",   "linear_glu",  "linear",                    /* */
        "norm",   "linear", "rope_append",                              /* keys and values of all */
        "gather", "norm",   "linear",      "rope_append", "attend",     /* of those */
        "linear", "norm",   "linear_glu",  "linear",      "norm", "linear",
    };
    struct rig rig = rig_open(dense);
    struct list_of_ops step = list_of(&rig, 3, 1, 2, 2);
    assert_ops(&step, names, sizeof names / sizeof *names);
    const void *asked = step.items[12].to;
    assert_ptr_not_equal(asked, step.items[9].from);
    assert_ptr_equal(step.items[13].from, asked);
    assert_ptr_equal(step.items[17].to, asked);
    assert_ptr_equal(step.items[20].to, asked);
    assert_ptr_equal(step.items[21].from, asked);
    rig_close(&rig);
}

static void test_forward_list__ends_at_the_last_keys_where_nobody_asks_for_logits(void **state)
{
    struct rig rig = rig_open(dense);
    struct list_of_ops some = list_of(&rig, 3, 1, 2, 2), step = list_of(&rig, 3, 1, 0, 2);
    uint32_t n_layers = model_plan(rig.model)->n_layers;
    assert_int_equal(step.n, 1 + 8 * (n_layers - 1) + 3);
    assert_memory_equal(step.items, some.items, step.n * sizeof *step.items);
    assert_string_equal(step.items[step.n - 1].op, "rope_append");
    rig_close(&rig);
}

static void test_forward_list__of_a_whole_last_layer_gathers_behind_it(void **state)
{
    struct rig rig = rig_open(dense);
    struct list_of_ops all = list_of(&rig, 3, 1, 3, 2);
    forward_keep_last_layer_whole(rig.forward);
    struct list_of_ops some = list_of(&rig, 3, 1, 2, 2);
    assert_int_equal(some.n, all.n + 1);
    assert_memory_equal(some.items, all.items, (all.n - 2) * sizeof *all.items);
    assert_string_equal(some.items[all.n - 2].op, "gather");
    assert_ptr_equal(some.items[all.n - 1].from, some.items[all.n - 2].to);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_list__is_the_same_whatever_the_rows),
        cmocka_unit_test(test_forward_list__of_experts_is_the_same_whatever_the_rows),
        cmocka_unit_test(test_forward_list__of_latent_attention_is_the_same_whatever_the_rows),
        cmocka_unit_test(test_forward_list__latent_attention_goes_into_its_space_and_out_of_it),
        cmocka_unit_test(test_forward_list__experts_stand_where_the_feed_forward_stood),
        cmocka_unit_test(test_forward_list__is_the_plan_layer_by_layer),
        cmocka_unit_test(test_forward_list__rows_that_are_asked_for_logits_go_on_alone),
        cmocka_unit_test(test_forward_list__ends_at_the_last_keys_where_nobody_asks_for_logits),
        cmocka_unit_test(test_forward_list__of_a_whole_last_layer_gathers_behind_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
