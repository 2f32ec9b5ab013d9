#include "gguf_fixture.h"

#include "base/status.h"
#include "kernels/tensor_type.h"
#include "model/layer_plan.h"
#include "model/rope_plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct kv_dtypes f16_pages = {.global = KV_F16, .local = KV_F16};

static const struct tiny_shape shape = {2, 64, 4, 2, 96, 300};

/* Reads the plan of a tiny model with one more key. */
static int read_with(void (*change)(struct gguf_writer *), struct model_plan *plan, struct why *why)
{
    struct gguf_writer writer;
    struct gguf *file = NULL;

    gguf_writer_init(&writer);
    gguf_add_tiny_llama(&writer, &shape);
    if (change != NULL)
        change(&writer);
    int status = gguf_open_written(&writer, &file, why);
    if (status == STATUS_OK)
        status = model_plan_read(file, plan, why);
    gguf_close(file);
    gguf_writer_release(&writer);
    return status;
}

static void assert_refused(void (*change)(struct gguf_writer *), int status, const char *words)
{
    struct model_plan plan;
    struct why why = {.text = ""};
    int got = read_with(change, &plan, &why);
    if (got != status || strstr(why.text, words) == NULL)
        fail_msg("status %d (expected %d): \"%s\" should hold \"%s\"", got, status, why.text,
                 words);
}

static void test_layer_plan__a_tiny_llama_becomes_a_plan(void **state)
{
    struct model_plan plan;
    struct why why;
    assert_int_equal(read_with(NULL, &plan, &why), STATUS_OK);
    assert_string_equal(plan.architecture, "llama");
    assert_int_equal(plan.n_layers, 2);
    assert_int_equal(plan.vocabulary, 300);
    assert_true(plan.tied_output);
    assert_int_equal(plan.n_groups, 1);
    assert_int_equal(plan.groups[0].shape.n_kv_heads, 2);
    assert_int_equal(plan.groups[0].shape.k_dim, 16);
    assert_int_equal(plan.layers[1].kv_layer, 1);
    assert_int_equal(plan.layers[1].n_ff, 96);
    assert_false(plan.layers[0].has_qkv_bias);
    /* 2 layers x 2 heads x (16 + 16) values */
    assert_int_equal(model_plan_token_bytes(&plan, &f16_pages),
                     2 * 2 * 32 * 2);
    model_plan_release(&plan);
}

static void odd_heads(struct gguf_writer *writer)
{
    gguf_add_u32(writer, "llama.attention.key_length", 2000);
}
static void half_rope(struct gguf_writer *writer)
{
    gguf_add_u32(writer, "llama.rope.dimension_count", 15);
}
static void experts(struct gguf_writer *writer)
{
    gguf_add_u32(writer, "llama.expert_count", 8);
}
static void spiral(struct gguf_writer *writer)
{
    gguf_add_string(writer, "llama.rope.scaling.type", "spiral");
}
static void adapter(struct gguf_writer *writer)
{
    gguf_add_string(writer, "general.type", "adapter");
}
static void lone_bias(struct gguf_writer *writer)
{
    float values[64] = {0};
    gguf_add_tensor(writer, "blk.1.attn_q.bias", TENSOR_F32, 1, (uint64_t[]){64}, values,
                    sizeof values);
}
static void odd_bias(struct gguf_writer *writer)
{
    float values[8] = {0};
    gguf_add_tensor(writer, "blk.1.attn_k.bias", TENSOR_F32, 1, (uint64_t[]){8}, values,
                    sizeof values);
}
static void add_vector(struct gguf_writer *writer, const char *name)
{
    float values[16] = {0};
    gguf_add_tensor(writer, name, TENSOR_F32, 1, (uint64_t[]){16}, values, sizeof values);
}
static void other_norms(struct gguf_writer *writer)
{
    add_vector(writer, "blk.0.attn_q_norm.weight");
    add_vector(writer, "blk.1.attn_q_norm.weight");
}
static void output_bias(struct gguf_writer *writer)
{
    add_vector(writer, "output.bias");
}
static void third_layer(struct gguf_writer *writer)
{
    add_vector(writer, "blk.2.attn_norm.weight");
}
static void old_angles(struct gguf_writer *writer)
{
    add_vector(writer, "blk.0.attn_rot_embd.weight");
}
static void not_finite(struct gguf_writer *writer)
{
    gguf_add_f32(writer, "llama.rope.freq_base", NAN);
}
static void add_by_layer(struct gguf_writer *writer, uint16_t a, uint16_t b, uint64_t n)
{
    struct __attribute__((packed)) {
        uint32_t kind;
        uint64_t n;
        uint16_t values[2];
    } array = {GGUF_U16, n, {a, b}};
    gguf_add_raw(writer, "llama.attention.value_length", GGUF_ARRAY, &array,
                 sizeof array - (2 - n) * sizeof *array.values);
}
static void per_layer(struct gguf_writer *writer)
{
    add_by_layer(writer, 16, 8, 2);
}
static void same_by_layer(struct gguf_writer *writer)
{
    add_by_layer(writer, 16, 16, 2);
}
static void too_few_layers(struct gguf_writer *writer)
{
    add_by_layer(writer, 16, 0, 1);
}
static void words_by_layer(struct gguf_writer *writer)
{
    gguf_add_strings(writer, "llama.attention.value_length", (const char *const[]){"a", "b"}, 2);
}
static void steering(struct gguf_writer *writer)
{
    gguf_add_string(writer, "general.type", "\x1b[2Jmodel");
}

static void test_layer_plan__weights_that_nothing_would_use_are_refused(void **state)
{
    struct model_plan plan;
    struct why why;
    assert_refused(other_norms, STATUS_UNSUPPORTED,
                   "2 tensors that a llama model does not have (the first is "
                   "blk.0.attn_q_norm.weight)");
    assert_refused(output_bias, STATUS_UNSUPPORTED, "output.bias");
    assert_refused(third_layer, STATUS_UNSUPPORTED, "blk.2.attn_norm.weight");
    assert_int_equal(read_with(old_angles, &plan, &why), STATUS_OK);
    model_plan_release(&plan);
}

static void test_layer_plan__faults_are_named_with_their_numbers(void **state)
{
    assert_refused(odd_heads, STATUS_CORRUPT, "attention.key_length is 2000; it must be 1 to 1024");
    assert_refused(half_rope, STATUS_CORRUPT, "rope.dimension_count is 15");
    assert_refused(experts, STATUS_CORRUPT, "expert_used_count is missing");
    assert_refused(spiral, STATUS_UNSUPPORTED, "spiral");
    assert_refused(adapter, STATUS_UNSUPPORTED, "merge it into its base model");
    assert_refused(odd_bias, STATUS_CORRUPT, "tensor blk.1.attn_k.bias has the shape [8");
    assert_refused(not_finite, STATUS_CORRUPT, "rope.freq_base");
    assert_refused(per_layer, STATUS_UNSUPPORTED, "differs by layer");
    assert_refused(too_few_layers, STATUS_CORRUPT,
                   "value_length is an array of 1; it must hold a number for each of 2 layers");
    assert_refused(words_by_layer, STATUS_CORRUPT, "value_length is a string; it must be an int");
    assert_refused(steering, STATUS_UNSUPPORTED, "general.type is \"");
}

static void test_layer_plan__what_a_file_says_never_steers_a_terminal(void **state)
{
    struct model_plan plan;
    struct why why = {.text = ""};
    assert_int_equal(read_with(steering, &plan, &why), STATUS_UNSUPPORTED);
    assert_null(strchr(why.text, '\x1b'));
}

static void test_layer_plan__an_array_of_one_number_for_each_layer_is_that_number(void **state)
{
    struct model_plan plan;
    struct why why = {.text = ""};
    if (read_with(same_by_layer, &plan, &why) < 0)
        fail_msg("%s", why.text);
    assert_int_equal(plan.groups[0].shape.v_dim, 16);
    model_plan_release(&plan);
}

static void biases(struct gguf_writer *writer)
{
    static const struct {
        const char *part;
        uint64_t n;
    } parts[] = {
        {"attn_q", 64}, {"attn_k", 32}, {"attn_v", 32}, {"attn_output", 64}, {"ffn_down", 64}};
    float values[96] = {0};
    char name[64];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(name, sizeof name, "blk.0.%s.bias", parts[i].part);
        gguf_add_tensor(writer, name, TENSOR_F32, 1, &parts[i].n, values,
                        parts[i].n * sizeof *values);
    }
}

static void test_layer_plan__biases_are_a_property_of_each_layer(void **state)
{
    struct model_plan plan;
    struct why why;
    assert_int_equal(read_with(biases, &plan, &why), STATUS_OK);
    assert_true(plan.layers[0].has_qkv_bias && plan.layers[0].has_output_bias &&
                plan.layers[0].has_ffn_bias);
    assert_false(plan.layers[1].has_qkv_bias || plan.layers[1].has_output_bias ||
                 plan.layers[1].has_ffn_bias);
    model_plan_release(&plan);

    assert_int_equal(read_with(lone_bias, &plan, &why), STATUS_OK);
    assert_true(plan.layers[1].has_qkv_bias && !plan.layers[0].has_qkv_bias);
    model_plan_release(&plan);
}

static struct rope_source plain_rope(void)
{
    return (struct rope_source){.n_rot = 64,
                                .base = 10000,
                                .scaling = ROPE_SCALING_LINEAR,
                                .factor = 1,
                                .original_context = 4096,
                                .beta_fast = 32,
                                .beta_slow = 1,
                                .attn_factor = 1};
}

static void test_rope_plan__plain_linear_and_factored_angles(void **state)
{
    struct rope_source source = plain_rope();
    struct rope_plan plain, scaled;
    float factors[32];
    struct why why;

    for (uint32_t k = 0; k < 32; k++)
        factors[k] = 1 + (float)k / 4;
    assert_int_equal(rope_plan_make(&source, &plain, &why), STATUS_OK);
    source.factor = 4;
    source.factors = factors;
    assert_int_equal(rope_plan_make(&source, &scaled, &why), STATUS_OK);
    for (uint32_t k = 0; k < 32; k++) {
        assert_true(fabs(plain.inv_freq[k] / pow(10000, -2.0 * k / 64) - 1) < 1e-14);
        assert_true(fabs(scaled.inv_freq[k] * 4 * (double)factors[k] / plain.inv_freq[k] - 1) <
                    1e-14);
    }
    assert_true(plain.scale == 1 && scaled.scale == 1);
    free(plain.inv_freq);
    free(scaled.inv_freq);
}

static void test_rope_plan__yarn_keeps_fast_pairs_and_stretches_slow_ones(void **state)
{
    struct rope_source source = plain_rope();
    struct rope_plan plan;
    struct why why;

    source.scaling = ROPE_SCALING_YARN;
    source.factor = 8;
    assert_int_equal(rope_plan_make(&source, &plan, &why), STATUS_OK);
    double slowest = pow(10000, -2.0 * 31 / 64);
    assert_true(plan.inv_freq[0] == 1);                             /* turns often: as trained */
    assert_true(fabs(plan.inv_freq[31] * 8 / slowest - 1) < 1e-14); /* never turns: interpolated */
    for (uint32_t k = 1; k < 32; k++)
        assert_true(plan.inv_freq[k] < plan.inv_freq[k - 1]);
    assert_true(fabs((double)plan.scale - (0.1 * log(8) + 1)) < 1e-6);
    free(plan.inv_freq);

    source.log_multiplier = 1; /* Ministral 3: the two growths cancel */
    assert_int_equal(rope_plan_make(&source, &plan, &why), STATUS_OK);
    assert_true(plan.scale == 1 && plan.score_scale == 1);
    free(plan.inv_freq);
}

/* DeepSeek: mscale and mscale_all_dim are equal, and files hold a tenth of them. */
static void test_rope_plan__yarn_may_grow_scores_instead_of_turns(void **state)
{
    struct rope_source source = plain_rope();
    struct rope_plan plan;
    struct why why;

    source.scaling = ROPE_SCALING_YARN;
    source.factor = 40;
    source.grows_scores = true;
    source.log_multiplier = 0.1; /* V3 */
    assert_int_equal(rope_plan_make(&source, &plan, &why), STATUS_OK);
    assert_true(plan.scale == 1 && fabs(plan.score_scale - 1.8739) < 1e-4);
    free(plan.inv_freq);
    source.log_multiplier = 0.0707; /* V2 */
    assert_int_equal(rope_plan_make(&source, &plan, &why), STATUS_OK);
    assert_true(plan.scale == 1 && fabs(plan.score_scale - 1.5896) < 1e-4);
    free(plan.inv_freq);
    source.log_multiplier = 0;
    assert_int_equal(rope_plan_make(&source, &plan, &why), STATUS_OK);
    assert_true(fabs((double)plan.scale - (0.1 * log(40) + 1)) < 1e-6 && plan.score_scale == 1);
    free(plan.inv_freq);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layer_plan__a_tiny_llama_becomes_a_plan),
        cmocka_unit_test(test_layer_plan__weights_that_nothing_would_use_are_refused),
        cmocka_unit_test(test_layer_plan__faults_are_named_with_their_numbers),
        cmocka_unit_test(test_layer_plan__what_a_file_says_never_steers_a_terminal),
        cmocka_unit_test(test_layer_plan__an_array_of_one_number_for_each_layer_is_that_number),
        cmocka_unit_test(test_layer_plan__biases_are_a_property_of_each_layer),
        cmocka_unit_test(test_rope_plan__plain_linear_and_factored_angles),
        cmocka_unit_test(test_rope_plan__yarn_keeps_fast_pairs_and_stretches_slow_ones),
        cmocka_unit_test(test_rope_plan__yarn_may_grow_scores_instead_of_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
