/* deepseek2: what a file's keys and tensors become, and what contradicts itself. */
#include "gguf_fixture.h"

#include "base/status.h"
#include "kernels/tensor_type.h"
#include "model/layer_plan.h"
#include "model/model_shape.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct kv_dtypes f16_pages = {.global = KV_F16, .local = KV_F16};

static const struct tiny_latent absorbed = {false, false}, joined = {true, true};

struct change { /* of one of the fixture's keys, whose own name is spoiled */
    const char *key;
    enum { NUMBER, REAL, NO_KEY } kind;
    double value;
};

static void rename_key(struct gguf_writer *writer, const char *key)
{
    struct gguf_key full = gguf_key_of("deepseek2", key);
    size_t n = strlen(full.text);
    for (size_t i = 0; i + n <= writer->n_keys_bytes; i++) {
        uint64_t length;
        if (i < 8 || memcmp(writer->keys + i, full.text, n) != 0)
            continue;
        memcpy(&length, writer->keys + i - 8, sizeof length);
        if (length == n)
            writer->keys[i] = 'x';
    }
}

static void apply(struct gguf_writer *writer, const struct change *change)
{
    struct gguf_key full = gguf_key_of("deepseek2", change->key);
    rename_key(writer, change->key);
    if (change->kind == NUMBER)
        gguf_add_u32(writer, full.text, (uint32_t)change->value);
    if (change->kind == REAL)
        gguf_add_f32(writer, full.text, (float)change->value);
}

static int read_plan(const struct tiny_latent *latent, const struct change *changes, size_t n,
                     struct model_plan *plan, struct why *why)
{
    struct gguf_writer writer;
    struct gguf *file = NULL;
    gguf_writer_init(&writer);
    gguf_add_tiny_latent(&writer, latent);
    for (size_t i = 0; i < n; i++)
        apply(&writer, &changes[i]);
    int status = gguf_open_written(&writer, &file, why);
    if (status == STATUS_OK)
        status = model_plan_read(file, plan, why);
    gguf_close(file);
    gguf_writer_release(&writer);
    return status;
}

static struct model_plan plan_of(const struct tiny_latent *latent, const struct change *changes,
                                 size_t n)
{
    struct model_plan plan;
    struct why why = {.text = ""};
    if (read_plan(latent, changes, n, &plan, &why) < 0)
        fail_msg("%s", why.text);
    return plan;
}

static void assert_refused(const struct tiny_latent *latent, const struct change *changes, size_t n,
                           const char *words)
{
    struct model_plan plan;
    struct why why = {.text = ""};
    int status = read_plan(latent, changes, n, &plan, &why);
    if (status != STATUS_CORRUPT || strstr(why.text, words) == NULL)
        fail_msg("status %d: \"%s\" lacks \"%s\"", status, why.text, words);
}

static void refuse_one(const struct tiny_latent *latent, struct change change, const char *words)
{
    assert_refused(latent, &change, 1, words);
}

/* Both shapes of files come to the same plan, but for where its matrices stand. */
static void test_arch_deepseek__both_shapes_of_files_share_one_latent_vector(void **state)
{
    for (int i = 0; i < 2; i++) {
        struct model_plan plan = plan_of(i == 0 ? &absorbed : &joined, NULL, 0);
        const struct layer_plan *layer = &plan.layers[1];
        assert_int_equal(plan.n_groups, 1);
        assert_int_equal(plan.groups[0].kind, KV_FULL);
        assert_int_equal(layer->n_heads, 4);
        assert_true(layer->kv.n_kv_heads == 1 && layer->kv.k_dim == 32 && layer->kv.v_dim == 24);
        assert_true(layer->kv.v_in_k);
        assert_int_equal(layer->latent.q_rank, i == 0 ? 0 : 20);
        assert_int_equal(layer->latent.nope_dim, 16);
        assert_int_equal(layer->latent.value_dim, 12);
        assert_int_equal(layer->latent.is_joined, i == 1);
        assert_true(layer->rope == ROPE_NORM && layer->qk_norm == QK_NORM_LATENT);
        assert_true(layer->first_rot == 24 && layer->n_rot == 8);
        assert_true(layer->q_scale == (float)(M_LOG2E / sqrt(24)));
        assert_int_equal(model_plan_token_bytes(&plan, &f16_pages),
                         2 * 2 * 32);
        assert_true(plan.layers[0].ffn == FFN_DENSE && layer->ffn == FFN_MOE);
        assert_int_equal(layer->experts.n_shared_ff, 64);
        assert_false(layer->experts.has_shared_gate);
        model_plan_release(&plan);
    }
}

static void test_arch_deepseek__the_published_shapes_cost_what_is_published(void **state)
{
    static const struct {
        const char *name;
        uint64_t f16_bytes;
    } rows[] = {
        {"deepseek-v2-lite", 31104}, {"deepseek-v2", 69120}, {"deepseek-v3", 70272}};
    for (size_t i = 0; i < 3; i++) {
        const struct model_shape *shape = model_shape_find(rows[i].name);
        assert_true(shape->kv.v_in_k && shape->kv.n_kv_heads == 1);
        assert_int_equal(2 * shape->n_layers * shape->kv.k_dim, rows[i].f16_bytes);
    }
    struct model_plan plan = plan_of(&joined, NULL, 0);
    struct model_shape shape;
    model_shape_from_plan(&plan, &shape);
    assert_true(shape.q_rank == 20 && shape.nope_dim == 16 && shape.value_dim == 12);
    uint64_t attention = 64 * 20 + 20 * 96 + 64 * 32 + 24 * 4 * 28 + 48 * 64;
    uint64_t ffn = 3 * 64 * 96 + 3 * 64 * (6 * 32 + 64), head = 64 * 300;
    assert_int_equal(model_shape_parameters(&shape), 2 * attention + ffn + head);
    model_plan_release(&plan);
}

static void test_arch_deepseek__v2_takes_a_group_for_its_best_and_v3_for_its_best_two(void **state)
{
    struct change keys[] = {{"expert_group_count", NUMBER, 3},
                            {"expert_group_used_count", NUMBER, 2},
                            {"expert_gating_func", NUMBER, 2},
                            {"expert_weights_scale", REAL, 2.5}};
    struct model_plan plan = plan_of(&absorbed, keys, 2);
    const struct route_rule *rule = &plan.layers[1].experts.rule;
    assert_true(rule->score == ROUTE_SOFTMAX && rule->group_best == 1 && rule->scale == 1);
    assert_true(rule->n_groups == 3 && rule->n_groups_used == 2 && !rule->normalise);
    model_plan_release(&plan);
    plan = plan_of(&absorbed, keys, 4);
    rule = &plan.layers[1].experts.rule;
    assert_true(rule->score == ROUTE_SIGMOID && rule->group_best == 2 && rule->scale == 2.5f);
    model_plan_release(&plan);
    keys[0].value = 4;
    assert_refused(&absorbed, keys, 4, "expert_count 6 is no multiple of expert_group_count 4");
}

static void test_arch_deepseek__scores_grow_with_yarn(void **state)
{
    struct change keys[] = {{"rope.scaling.factor", REAL, 40},
                            {"rope.scaling.yarn_log_multiplier", REAL, 0.1}};
    struct gguf_writer writer;
    struct gguf *file;
    struct model_plan plan;
    struct why why;
    gguf_writer_init(&writer);
    gguf_add_tiny_latent(&writer, &absorbed);
    apply(&writer, &keys[0]);
    apply(&writer, &keys[1]);
    gguf_add_string(&writer, "deepseek2.rope.scaling.type", "yarn");
    assert_int_equal(gguf_open_written(&writer, &file, &why), STATUS_OK);
    assert_int_equal(model_plan_read(file, &plan, &why), STATUS_OK);
    double growth = 0.1 * log(40) + 1, want = M_LOG2E * growth * growth / sqrt(24);
    assert_true(fabs((double)plan.layers[0].q_scale / want - 1) < 1e-6);
    assert_true(plan.ropes[0].scale == 1);
    model_plan_release(&plan);
    gguf_close(file);
    gguf_writer_release(&writer);
}

/* Layers that guess further tokens stand behind the others and are passed over. */
static void test_arch_deepseek__layers_of_further_guesses_are_passed_over(void **state)
{
    struct change keys[] = {{"nextn_predict_layers", NUMBER, 1}};
    struct model_plan plan = plan_of(&absorbed, keys, 1);
    assert_int_equal(plan.n_layers, 1);
    assert_int_equal(plan.layers[0].ffn, FFN_DENSE);
    model_plan_release(&plan);
    keys[0].value = 2;
    assert_refused(&absorbed, keys, 1, "nextn_predict_layers is 2; it must be 0 to 1");
}

static void test_arch_deepseek__what_contradicts_itself_is_refused_with_numbers(void **state)
{
    refuse_one(&absorbed, (struct change){"attention.key_length_mla", NO_KEY, 0},
               "key deepseek2.attention.key_length_mla is missing");
    refuse_one(&absorbed, (struct change){"attention.value_length_mla", NO_KEY, 0},
               "key deepseek2.attention.value_length_mla is missing");
    refuse_one(&joined, (struct change){"attention.kv_lora_rank", NO_KEY, 0},
               "key deepseek2.attention.kv_lora_rank is missing");
    refuse_one(&joined, (struct change){"attention.key_length_mla", NUMBER, 24},
               "key deepseek2.attention.value_length_mla is missing");
    refuse_one(&absorbed, (struct change){"attention.key_length", NUMBER, 24},
               "attention.key_length is 24; attention.kv_lora_rank + rope.dimension_count implies "
               "32");
    refuse_one(&absorbed, (struct change){"attention.value_length", NUMBER, 12},
               "attention.value_length is 12; attention.kv_lora_rank implies 24");
    refuse_one(&absorbed, (struct change){"attention.head_count_kv", NUMBER, 4},
               "attention.head_count_kv is 4; attention.key_length_mla implies 1");
    refuse_one(&joined, (struct change){"attention.head_count_kv", NUMBER, 1},
               "attention.head_count_kv is 1; attn_kv_b implies 4");
    refuse_one(&absorbed, (struct change){"attention.key_length_mla", NUMBER, 8},
               "heads of 8 values leave none beside the 8 of rope.dimension_count");
    refuse_one(&absorbed, (struct change){"rope.dimension_count", NUMBER, 7},
               "attention.kv_lora_rank 24 and rope.dimension_count 7 make keys of 31 values; 1024 "
               "are possible, and an even number turns");
    refuse_one(&absorbed, (struct change){"attention.kv_lora_rank", NUMBER, 1020},
               "make keys of 1028 values; 1024 are possible");
    refuse_one(&absorbed, (struct change){"attention.head_count", NUMBER, 8},
               "tensor blk.0.attn_q.weight has the shape [64, 96");
    refuse_one(&joined, (struct change){"attention.q_lora_rank", NO_KEY, 0},
               "key deepseek2.attention.q_lora_rank is missing");
    refuse_one(&absorbed, (struct change){"leading_dense_block_count", NUMBER, 3},
               "leading_dense_block_count is 3; it must be 0 to 2");
    refuse_one(&absorbed, (struct change){"expert_count", NO_KEY, 0},
               "key deepseek2.expert_count is missing");
    refuse_one(&absorbed, (struct change){"expert_shared_count", NUMBER, 1},
               "ffn_gate_shexp.weight has the shape [64, 64, 1, 1]; the keys imply [64, 32]");
    refuse_one(&absorbed, (struct change){"expert_shared_count", NUMBER, 1025},
               "expert_shared_count is 1025; it must be 0 to 1024");
}

static void test_arch_deepseek__heads_together_are_bounded(void **state)
{
    struct change keys[] = {{"attention.head_count", NUMBER, 1024},
                            {"attention.key_length_mla", NUMBER, 65}};
    assert_refused(&absorbed, keys, 2, "1024 heads of 65 values are wider than 65536");
    keys[1].value = 64;
    assert_refused(&absorbed, keys, 2, "tensor blk.0.attn_q.weight has the shape");
    struct change shared[] = {{"expert_shared_count", NUMBER, 1024},
                              {"expert_feed_forward_length", NUMBER, 1025}};
    assert_refused(&absorbed, shared, 2, "1024 shared experts of 1025 values are wider than");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arch_deepseek__both_shapes_of_files_share_one_latent_vector),
        cmocka_unit_test(test_arch_deepseek__the_published_shapes_cost_what_is_published),
        cmocka_unit_test(test_arch_deepseek__v2_takes_a_group_for_its_best_and_v3_for_its_best_two),
        cmocka_unit_test(test_arch_deepseek__scores_grow_with_yarn),
        cmocka_unit_test(test_arch_deepseek__layers_of_further_guesses_are_passed_over),
        cmocka_unit_test(test_arch_deepseek__what_contradicts_itself_is_refused_with_numbers),
        cmocka_unit_test(test_arch_deepseek__heads_together_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
