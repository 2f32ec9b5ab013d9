/* What tells the plain architectures apart, and what a file may not say about it. */
#include "gguf_fixture.h"

#include "base/status.h"
#include "kernels/tensor_type.h"
#include "model/layer_plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_LAYERS 4
#define HEAD 16

static const struct tiny_shape shape = {N_LAYERS, 64, 4, 2, 96, 300};

/* One more key or tensor of a file. */
struct extra {
    const char *key; /* of the architecture; of VECTOR the tensor's name */
    enum { NUMBER, REAL, TEXT, FLAG, FLAGS, VECTOR } kind;
    double value; /* of VECTOR: its length; of FLAGS: how many */
    const char *text;
};

static void add(struct gguf_writer *writer, const char *architecture, const struct extra *extra)
{
    static const float values[1024];
    struct gguf_key key = gguf_key_of(architecture, extra->key);
    uint64_t n = extra->kind == VECTOR || extra->kind == FLAGS ? (uint64_t)extra->value : 0;
    struct __attribute__((packed)) {
        uint32_t kind;
        uint64_t n;
        uint8_t flags[8];
    } flags = {GGUF_BOOL, n, {1, 0, 0, 1}};
    switch (extra->kind) {
    case NUMBER:
        gguf_add_u32(writer, key.text, (uint32_t)extra->value);
        break;
    case REAL:
        gguf_add_f32(writer, key.text, (float)extra->value);
        break;
    case TEXT:
        gguf_add_string(writer, key.text, extra->text);
        break;
    case FLAG:
        gguf_add_raw(writer, key.text, GGUF_BOOL, &(uint8_t){extra->value != 0}, 1);
        break;
    case FLAGS:
        gguf_add_raw(writer, key.text, GGUF_ARRAY, &flags, 12 + n);
        break;
    case VECTOR:
        gguf_add_tensor(writer, extra->key, TENSOR_F32, 1, &n, values, n * sizeof *values);
        break;
    }
}

static int read_plan(const char *architecture, const struct extra *extras, size_t n,
                     struct model_plan *plan, struct why *why)
{
    struct gguf_writer writer;
    struct gguf *file = NULL;
    gguf_writer_init(&writer);
    gguf_add_tiny_of(&writer, architecture, &shape);
    for (size_t i = 0; i < n; i++)
        add(&writer, architecture, &extras[i]);
    int status = gguf_open_written(&writer, &file, why);
    if (status == STATUS_OK)
        status = model_plan_read(file, plan, why);
    gguf_close(file);
    gguf_writer_release(&writer);
    return status;
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct model_plan plan_of(const char *architecture, const struct extra *extras, size_t n)
{
    struct model_plan plan;
    struct why why = {.text = ""};
    if (read_plan(architecture, extras, n, &plan, &why) < 0)
        fail_msg("%s: %s", architecture, why.text);
    return plan;
}

static void assert_refused(const char *architecture, const struct extra *extras, size_t n,
                           const char *words)
{
    struct model_plan plan;
    struct why why = {.text = ""};
    int status = read_plan(architecture, extras, n, &plan, &why);
    if (status >= 0 || strstr(why.text, words) == NULL)
        fail_msg("%s, status %d: \"%s\" lacks \"%s\"", architecture, status, why.text, words);
}

static void test_arch__qwen2_turns_halves_and_may_have_an_output_bias(void **state)
{
    struct extra bias[] = {{"output.bias", VECTOR, 300, NULL}};
    struct model_plan plan = plan_of("qwen2", bias, 1);
    assert_int_equal(plan.layers[N_LAYERS - 1].rope, ROPE_NEOX);
    assert_int_equal(plan.layers[0].qk_norm, QK_NORM_NONE);
    model_plan_release(&plan);
    bias[0].value = 301;
    assert_refused("qwen2", bias, 1, "tensor output.bias has the shape [301");
    plan = plan_of("qwen2", &(struct extra){"attention.causal", FLAG, true, NULL}, 1);
    assert_false(plan.has_head_bias);
    model_plan_release(&plan);
}

static size_t norms_of_qwen3(struct extra *out, char (*names)[64], uint64_t n)
{
    for (size_t i = 0; i < 2 * N_LAYERS; i++) {
        snprintf(names[i], sizeof names[i], "blk.%zu.attn_%c_norm.weight", i / 2, "qk"[i % 2]);
        out[i] = (struct extra){names[i], VECTOR, (double)n, NULL};
    }
    return 2 * N_LAYERS;
}

static void test_arch__qwen3_norms_every_head_before_it_turns(void **state)
{
    struct extra norms[2 * N_LAYERS];
    char names[2 * N_LAYERS][64];
    size_t n = norms_of_qwen3(norms, names, HEAD);
    struct model_plan plan = plan_of("qwen3", norms, n);
    for (uint32_t i = 0; i < N_LAYERS; i++)
        assert_true(plan.layers[i].rope == ROPE_NEOX && plan.layers[i].qk_norm == QK_NORM_BEFORE);
    model_plan_release(&plan);
    assert_refused("qwen3", norms, n - 1, "tensor blk.3.attn_k_norm.weight is missing");
    assert_refused("qwen2", norms, n, "8 tensors that a qwen2 model does not have");
    norms[3].value = HEAD + 1;
    assert_refused("qwen3", norms, n, "tensor blk.1.attn_k_norm.weight has the shape [17");
}

static void test_arch__mistral3_lets_queries_of_every_layer_grow(void **state)
{
    struct extra keys[] = {
        {"attention.temperature_scale", REAL, 0.1, NULL},
        {"rope.scaling.original_context_length", NUMBER, 512, NULL},
        {"attention.temperature_length", NUMBER, 100, NULL},
    };
    struct model_plan plan = plan_of("mistral3", keys, 2);
    for (uint32_t i = 0; i < N_LAYERS; i++) {
        assert_true(plan.layers[i].q_temperature.scale == 0.1f);
        assert_int_equal(plan.layers[i].q_temperature.length, 512);
        assert_int_equal(plan.layers[i].q_temperature.offset, 0);
    }
    model_plan_release(&plan);
    plan = plan_of("mistral3", keys, 3);
    assert_int_equal(plan.layers[0].q_temperature.length, 100);
    model_plan_release(&plan);
    plan = plan_of("mistral3", keys + 1, 1);
    assert_true(plan.layers[0].q_temperature.scale == 0);
    model_plan_release(&plan);
}

static void test_arch__windows_stand_in_a_group_of_their_own(void **state)
{
    struct extra keys[] = {{"attention.sliding_window", NUMBER, 100, NULL},
                           {"attention.sliding_window_pattern", NUMBER, 2, NULL}};
    struct model_plan plan = plan_of("llama", keys, 2);
    assert_int_equal(plan.n_groups, 2);
    assert_int_equal(plan.groups[0].kind, KV_SLIDING);
    assert_int_equal(plan.groups[0].window, 100);
    assert_int_equal(plan.groups[1].kind, KV_FULL);
    assert_int_equal(plan.groups[1].window, 0);
    for (uint32_t i = 0; i < N_LAYERS; i++) { /* layers 1 and 3 see everything */
        assert_int_equal(plan.layers[i].kv_group, i % 2);
        assert_int_equal(plan.layers[i].kv_layer, i / 2);
    }
    assert_true(plan.groups[0].n_layers == 2 && plan.groups[1].n_layers == 2);
    model_plan_release(&plan);

    plan = plan_of("qwen2", keys, 1); /* without a pattern: all */
    assert_true(plan.n_groups == 1 && plan.groups[0].kind == KV_SLIDING);
    model_plan_release(&plan);
    keys[1] = (struct extra){"attention.sliding_window_pattern", FLAGS, N_LAYERS, NULL};
    plan = plan_of("llama", keys, 2); /* 1, 0, 0, 1 */
    for (uint32_t i = 0; i < N_LAYERS; i++)
        assert_int_equal(plan.groups[plan.layers[i].kv_group].kind,
                         i % 3 == 0 ? KV_SLIDING : KV_FULL);
    model_plan_release(&plan);
    keys[0].value = 0;
    plan = plan_of("llama", keys, 2);
    assert_true(plan.n_groups == 1 && plan.groups[0].kind == KV_FULL);
    model_plan_release(&plan);
}

static void test_arch__llama4_has_chunks_and_every_fourth_layer_sees_everything(void **state)
{
    struct extra keys[] = {{"interleave_moe_layer_step", NUMBER, 0, NULL},
                           {"attention.chunk_size", NUMBER, 128, NULL},
                           {"attention.temperature_length", NUMBER, 100, NULL},
                           {"attention.temperature_scale", REAL, 0.25, NULL},
                           {"attention.sliding_window_pattern", NUMBER, 2, NULL}};
    struct model_plan plan = plan_of("llama4", keys, 1);
    for (uint32_t i = 0; i < N_LAYERS; i++) {
        const struct layer_plan *layer = &plan.layers[i];
        const struct kv_group_plan *group = &plan.groups[layer->kv_group];
        bool is_global = i == 3;
        assert_int_equal(group->kind, is_global ? KV_FULL : KV_CHUNKED);
        assert_int_equal(group->window, is_global ? 0 : 8192);
        assert_int_equal(layer->rope, is_global ? ROPE_NONE : ROPE_NORM);
        assert_int_equal(layer->qk_norm, is_global ? QK_NORM_NONE : QK_NORM_AFTER);
        assert_true(layer->q_temperature.scale == (is_global ? 0.1f : 0.0f));
    }
    assert_int_equal(plan.layers[3].q_temperature.length, 8192);
    assert_int_equal(plan.layers[3].q_temperature.offset, 1);
    model_plan_release(&plan);
    plan = plan_of("llama4", keys, COUNT(keys));
    assert_int_equal(plan.groups[0].window, 128);
    assert_int_equal(plan.layers[1].rope, ROPE_NONE);
    assert_int_equal(plan.layers[1].q_temperature.length, 100);
    assert_true(plan.layers[1].q_temperature.scale == 0.25f);
    model_plan_release(&plan);
}

static void test_arch__numbers_that_cannot_be_are_refused(void **state)
{
    static const struct {
        const char *architecture;
        struct extra extra;
        const char *words;
    } cases[] = {
        {"mistral3", {"attention.temperature_scale", REAL, NAN, NULL}, "temperature_scale is nan"},
        {"mistral3", {"attention.temperature_scale", REAL, -0.1, NULL}, "it must be 0 to 1000"},
        {"mistral3", {"attention.temperature_scale", REAL, 1e9, NULL}, "it must be 0 to 1000"},
        {"mistral3", {"attention.temperature_length", NUMBER, 0, NULL},
         "mistral3.attention.temperature_length is 0; it must be 1 to 2147483647"},
        {"mistral3", {"rope.scaling.original_context_length", NUMBER, 0, NULL}, "must be 1 to"},
        {"qwen2", {"attention.sliding_window", NUMBER, 4294967295, NULL},
         "qwen2.attention.sliding_window is 4294967295; it must be 0 to 2147483647"},
        {"llama", {"attention.sliding_window_pattern", NUMBER, 513, NULL}, "it must be 0 to 512"},
        {"llama", {"attention.sliding_window_pattern", FLAGS, N_LAYERS - 1, NULL},
         "an array of 3 of bool; it must hold a bool for each of 4 layers"},
        {"qwen3", {"expert_count", NUMBER, 8, NULL}, "qwen3.expert_count is 8; models of this"},
        {"qwen3moe", {"expert_count", NUMBER, 0, NULL}, "expert_count is 0; it must be 1 to"},
        {"qwen2moe", {"expert_used_count", NUMBER, 2, NULL}, "qwen2moe.expert_count is missing"},
        {"qwen2", {"rope.freq_base", REAL, -INFINITY, NULL}, "rope.freq_base is -inf"},
        {"llama", {"rope.scaling.factor", REAL, 1e-7, NULL}, "rope.scaling.factor is 1e-07"},
        {"llama", {"rope.scaling.factor", REAL, 1e-5, NULL},
         "turns pair 0 by 100000 a token; at most 128 is possible"},
        {"llama", {"rope.scaling.factor", REAL, -4, NULL}, "rope.scaling.factor is -4"},
        {"llama", {"rope.scaling.attn_factor", REAL, NAN, NULL}, "attn_factor is nan"},
        {"mistral3", {"rope.scaling.yarn_beta_fast", REAL, 0, NULL}, "yarn_beta_fast is 0"},
        {"mistral3", {"rope.scaling.yarn_beta_slow", REAL, INFINITY, NULL}, "beta_slow is inf"},
        {"mistral3", {"rope.scaling.yarn_log_multiplier", REAL, -1, NULL}, "multiplier is -1"},
        {"llama4", {"attention.chunk_size", NUMBER, 0, NULL},
         "llama4.attention.chunk_size is 0; it must be 1 to 2147483647"},
        {"llama4", {"attention.temperature_length", NUMBER, 0, NULL}, "temperature_length is 0"},
        {"llama4", {"attention.temperature_scale", REAL, NAN, NULL}, "temperature_scale is nan"},
        {"llama4", {"attention.sliding_window", NUMBER, 0, NULL}, "a model without chunks"},
        {"llama4", {"attention.key_length", NUMBER, 16, NULL},
         "key llama4.interleave_moe_layer_step is missing"},
        {"llama", {"rope.scaling.type", TEXT, 0, "longrope"}, "scaling.type is longrope"},
        {"qwen2", {"attention.causal", FLAG, false, NULL}, "qwen2.attention.causal is false"},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_refused(cases[i].architecture, &cases[i].extra, 1, cases[i].words);
}

/* Numbers at the ends of what is taken leave finite angles. */
static void test_arch__yarn_of_odd_numbers_stays_finite(void **state)
{
    static const double odd[] = {2e-6, 1, 9e5};
    for (size_t fast = 0; fast < COUNT(odd); fast++)
        for (size_t slow = 0; slow < COUNT(odd); slow++)
            for (size_t base = 0; base < COUNT(odd); base++) {
                struct extra keys[] = {
                    {"rope.scaling.type", TEXT, 0, "yarn"},
                    {"rope.scaling.factor", REAL, 64, NULL},
                    {"rope.scaling.yarn_beta_fast", REAL, odd[fast], NULL},
                    {"rope.scaling.yarn_beta_slow", REAL, odd[slow], NULL},
                    {"rope.scaling.original_context_length", NUMBER, 1 + 1e9 * (double)base, NULL},
                    {"rope.freq_base", REAL, 1.0001 + odd[base], NULL},
                };
                struct model_plan plan = plan_of("llama", keys, COUNT(keys));
                for (uint32_t k = 0; k < plan.ropes[0].n_pairs; k++)
                    assert_true(plan.ropes[0].inv_freq[k] >= 0 && plan.ropes[0].inv_freq[k] <= 128);
                assert_true(isfinite(plan.ropes[0].scale) && plan.ropes[0].scale > 0);
                model_plan_release(&plan);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arch__qwen2_turns_halves_and_may_have_an_output_bias),
        cmocka_unit_test(test_arch__qwen3_norms_every_head_before_it_turns),
        cmocka_unit_test(test_arch__mistral3_lets_queries_of_every_layer_grow),
        cmocka_unit_test(test_arch__windows_stand_in_a_group_of_their_own),
        cmocka_unit_test(test_arch__llama4_has_chunks_and_every_fourth_layer_sees_everything),
        cmocka_unit_test(test_arch__numbers_that_cannot_be_are_refused),
        cmocka_unit_test(test_arch__yarn_of_odd_numbers_stays_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
