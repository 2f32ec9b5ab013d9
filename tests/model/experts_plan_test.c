/* Experts as a file has them: what becomes a plan, and what is refused with which numbers. */
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

static int read_with(const struct tiny_experts *experts, void (*change)(struct gguf_writer *),
                     struct model_plan *plan, struct why *why)
{
    struct gguf_writer writer;
    struct gguf *file = NULL;

    gguf_writer_init(&writer);
    gguf_add_tiny_experts(&writer, &TINY_SHAPE, experts);
    if (change != NULL)
        change(&writer);
    int status = gguf_open_written(&writer, &file, why);
    if (status == STATUS_OK)
        status = model_plan_read(file, plan, why);
    gguf_close(file);
    gguf_writer_release(&writer);
    return status;
}

static void assert_refused(struct tiny_experts experts, void (*change)(struct gguf_writer *),
                           int status, const char *words)
{
    struct model_plan plan;
    struct why why = {.text = ""};
    int got = read_with(&experts, change, &plan, &why);
    if (got != status || strstr(why.text, words) == NULL)
        fail_msg("status %d (expected %d): \"%s\" should hold \"%s\"", got, status, why.text,
                 words);
}

static struct model_plan read_sound(const struct tiny_experts *experts,
                                    void (*change)(struct gguf_writer *))
{
    struct model_plan plan;
    struct why why = {.text = ""};
    if (read_with(experts, change, &plan, &why) < 0)
        fail_msg("%s", why.text);
    return plan;
}

static void test_experts_plan__mixtral_is_softmax_normalised(void **state)
{
    struct model_plan plan = read_sound(&TINY_EXPERTS, NULL);
    for (uint32_t i = 0; i < plan.n_layers; i++) {
        const struct layer_plan *layer = &plan.layers[i];
        assert_int_equal(layer->ffn, FFN_MOE);
        assert_int_equal(layer->experts.n_ff, 96);
        assert_int_equal(layer->experts.rule.n_experts, 5);
        assert_int_equal(layer->experts.rule.n_used, 2);
        assert_int_equal(layer->experts.rule.score, ROUTE_SOFTMAX);
        assert_true(layer->experts.rule.normalise && layer->experts.rule.scale == 1);
        assert_int_equal(layer->experts.n_shared_ff, 0);
        assert_false(layer->experts.scales_input || layer->experts.has_choice_bias);
    }
    struct model_shape shape;
    model_shape_from_plan(&plan, &shape);
    assert_int_equal(shape.n_dense_layers, 0);
    assert_int_equal(shape.n_experts, 5);
    uint64_t matrix = 3 * 64 * 96, attention = 64 * 64 * 2 + 64 * 32 * 2, head = 64 * 300;
    assert_int_equal(model_shape_parameters(&shape), 2 * (attention + 5 * matrix) + head);
    assert_int_equal(model_shape_active_parameters(&shape), 2 * (attention + 2 * matrix) + head);
    model_plan_release(&plan);
}

static void test_experts_plan__gate_and_up_may_be_one_tensor(void **state)
{
    struct tiny_experts fused = {5, 2, true};
    struct model_plan plan = read_sound(&fused, NULL);
    assert_int_equal(plan.layers[1].ffn, FFN_MOE);
    model_plan_release(&plan);
}

static void set(struct gguf_writer *writer, const char *key, uint32_t value)
{
    char name[96];
    snprintf(name, sizeof name, "llama.%s", key);
    gguf_add_u32(writer, name, value);
}
static void other_rule(struct gguf_writer *writer)
{
    set(writer, "expert_gating_func", 2);
    gguf_add_raw(writer, "llama.expert_weights_norm", GGUF_BOOL, "", 1);
    gguf_add_f32(writer, "llama.expert_weights_scale", 2.5f);
    set(writer, "expert_group_count", 4);
    set(writer, "expert_group_used_count", 2);
}
static void three_groups(struct gguf_writer *writer)
{
    set(writer, "expert_group_count", 3);
}
static void one_of_four_groups(struct gguf_writer *writer)
{
    set(writer, "expert_group_count", 4);
    set(writer, "expert_group_used_count", 1);
}
static void five_of_four_groups(struct gguf_writer *writer)
{
    set(writer, "expert_group_count", 4);
    set(writer, "expert_group_used_count", 5);
}
static void odd_gating(struct gguf_writer *writer)
{
    set(writer, "expert_gating_func", 3);
}
static void wider_experts(struct gguf_writer *writer)
{
    set(writer, "expert_feed_forward_length", 128);
}
static void endless_scale(struct gguf_writer *writer)
{
    gguf_add_f32(writer, "llama.expert_weights_scale", INFINITY);
}
static void add_bias(struct gguf_writer *writer, float last)
{
    float values[8] = {0, 0, 0, 0, last};
    gguf_add_tensor(writer, "blk.1.exp_probs_b.bias", TENSOR_F32, 1, (uint64_t[]){5}, values,
                    5 * sizeof *values);
}
static void bias(struct gguf_writer *writer)
{
    add_bias(writer, 1);
}
static void nan_bias(struct gguf_writer *writer)
{
    add_bias(writer, NAN);
}
static void expert_bias(struct gguf_writer *writer)
{
    float values[96] = {0};
    gguf_add_tensor(writer, "blk.0.ffn_gate_exps.bias", TENSOR_F32, 1, (uint64_t[]){96}, values,
                    sizeof values);
}

static void test_experts_plan__keys_of_a_file_change_the_rule(void **state)
{
    struct model_plan plan = read_sound(&(struct tiny_experts){8, 4, false}, other_rule);
    const struct route_rule *rule = &plan.layers[1].experts.rule;
    assert_int_equal(rule->score, ROUTE_SIGMOID);
    assert_false(rule->normalise);
    assert_true(rule->scale == 2.5f);
    assert_int_equal(rule->n_groups, 4);
    assert_int_equal(rule->n_groups_used, 2);
    model_plan_release(&plan);
    plan = read_sound(&TINY_EXPERTS, bias);
    assert_true(plan.layers[1].experts.has_choice_bias);
    assert_false(plan.layers[0].experts.has_choice_bias);
    model_plan_release(&plan);
}

static void test_experts_plan__what_contradicts_the_file_is_refused_with_numbers(void **state)
{
    const struct tiny_experts eight = {8, 4, false};
    assert_refused((struct tiny_experts){4, 5, false}, NULL, STATUS_CORRUPT,
                   "expert_used_count is 5; it must be 1 to 4");
    assert_refused((struct tiny_experts){4, 0, false}, NULL, STATUS_CORRUPT,
                   "expert_used_count is 0; it must be 1 to 4");
    assert_refused(eight, three_groups, STATUS_CORRUPT,
                   "expert_count 8 is no multiple of expert_group_count 3");
    assert_refused(eight, one_of_four_groups, STATUS_CORRUPT,
                   "expert_used_count is 4; the 1 groups that are used have 2 experts");
    assert_refused(eight, five_of_four_groups, STATUS_CORRUPT,
                   "expert_group_used_count is 5; it must be 0 to 4");
    assert_refused(eight, odd_gating, STATUS_UNSUPPORTED, "expert_gating_func is 3");
    assert_refused(eight, wider_experts, STATUS_CORRUPT,
                   "ffn_gate_exps.weight has the shape [64, 96, 8, 1]; the keys imply [64, 128]");
    assert_refused(eight, endless_scale, STATUS_CORRUPT, "expert_weights_scale");
    assert_refused(TINY_EXPERTS, nan_bias, STATUS_CORRUPT, "exp_probs_b.bias[4] is nan");
    assert_refused(TINY_EXPERTS, expert_bias, STATUS_UNSUPPORTED, "blk.0.ffn_gate_exps.bias");
}

/* Their tensors are read as 96 wide only where keys say so. */
static void test_experts_plan__qwen_experts_without_a_width_share_that_of_a_dense_layer(
    void **state)
{
    static const char *const architectures[] = {"qwen2moe", "qwen3moe"};
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++) {
        struct gguf_writer writer;
        struct gguf *file = NULL;
        struct model_plan plan;
        struct why why = {.text = ""};
        gguf_writer_init(&writer);
        gguf_add_tiny_experts_of(&writer, architectures[i], &TINY_SHAPE,
                                 &(struct tiny_experts){8, 3, false});
        assert_int_equal(gguf_open_written(&writer, &file, &why), STATUS_OK);
        assert_int_equal(model_plan_read(file, &plan, &why), STATUS_CORRUPT);
        assert_non_null(strstr(why.text, "has the shape [64, 96, 8, 1]; the keys imply [64, 32]"));
        gguf_close(file);
        gguf_writer_release(&writer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_experts_plan__mixtral_is_softmax_normalised),
        cmocka_unit_test(test_experts_plan__gate_and_up_may_be_one_tensor),
        cmocka_unit_test(test_experts_plan__keys_of_a_file_change_the_rule),
        cmocka_unit_test(test_experts_plan__what_contradicts_the_file_is_refused_with_numbers),
        cmocka_unit_test(
            test_experts_plan__qwen_experts_without_a_width_share_that_of_a_dense_layer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
