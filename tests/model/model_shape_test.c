#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "model/model_shape.h"

static void is_near(uint64_t counted, double published, double share)
{
    double ratio = (double)counted / published;
    if (ratio < 1 - share || ratio > 1 + share)
        fail_msg("%.4g counted, %.4g published", (double)counted, published);
}

/* Published counts of all parameters, in 1e9 to the digits that are published. */
static void test_model_shape__counts_what_the_publishers_count(void **state)
{
    static const struct {
        const char *name;
        double parameters;
    } rows[] = {
        {"smollm2-135m", 0.1345},  {"llama3.2-1b", 1.236},      {"llama3.2-3b", 3.213},
        {"llama3.1-8b", 8.030},    {"llama3.3-70b", 70.55},     {"llama3.1-405b", 405.9},
        {"llama4-scout", 107.8},   {"llama4-maverick", 400.0},  {"mistral-7b", 7.248},
        {"mixtral-8x7b", 46.70},   {"mistral-nemo-12b", 12.25}, {"mistral-small-24b", 23.57},
        {"qwen2.5-7b-1m", 7.616},  {"qwen2.5-14b-1m", 14.77},   {"qwen3-8b", 8.191},
        {"qwen3-30b-a3b", 30.53},  {"qwen3-235b-a22b", 235.1},  {"deepseek-v2-lite", 15.71},
        {"deepseek-v2", 235.7},    {"deepseek-v3", 671.0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct model_shape *shape = model_shape_find(rows[i].name);
        assert_non_null(shape);
        is_near(model_shape_parameters(shape), rows[i].parameters * 1e9, 0.005);
    }
}

static void test_model_shape__scout_reads_a_sixth_of_itself_for_a_token(void **state)
{
    const struct model_shape *scout = model_shape_find("llama4-scout");
    is_near(model_shape_active_parameters(scout), 16.1e9, 0.005); /* cuda_kernels.md 13 */
}

static void test_model_shape__v3_activates_37_billion(void **state)
{
    is_near(model_shape_active_parameters(model_shape_find("deepseek-v3")), 36.6e9, 0.02);
}

static void test_model_shape__tells_what_nobody_published(void **state)
{
    const struct model_shape *behemoth = model_shape_find("llama4-behemoth");
    assert_non_null(behemoth->note);
    assert_int_equal(behemoth->n_layers, 0);
    assert_true(model_shape_parameters(behemoth) > model_shape_active_parameters(behemoth));
}

static void test_model_shape__names_are_found_once_each(void **state)
{
    size_t n = 0;
    for (const struct model_shape *shape; (shape = model_shape_at(n)) != NULL; n++)
        assert_ptr_equal(model_shape_find(shape->name), shape);
    assert_true(n >= 20);
    assert_null(model_shape_find("llama5"));
}

/* Scripts may name both kinds whatever the model is; a setting that would do nothing is told. */
static void test_model_shape__a_kind_of_pages_that_the_model_lacks_is_refused(void **state)
{
    static const struct {
        const char *kv_dtype;
        uint32_t n_local; /* of 30 */
        const char *told; /* NULL: it is taken */
    } cases[] = {
        {"local=q4", 0, "--kv-dtype local=q4 changes no page: none of the model's 30 layers"},
        {"global=q8", 30, "--kv-dtype global=q8 changes no page: all of the model's 30 layers"},
        {"local=q4", 1, NULL},  {"global=q4", 29, NULL},           {"global=q4", 0, NULL},
        {"local=q8", 30, NULL}, {"local=q4,global=f16", 0, NULL},  {"q4", 0, NULL},
        {"q4", 30, NULL},       {"global=f16,local=q4", 30, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model_shape shape = {.n_layers = 30, .n_local_layers = cases[i].n_local};
        struct why why = {.text = ""};
        struct kv_dtypes dtypes;
        assert_int_equal(kv_dtypes_parse("--kv-dtype", cases[i].kv_dtype, &dtypes, &why),
                         STATUS_OK);
        int status = model_shape_check_pages(&shape, &dtypes, &why);
        assert_int_equal(status, cases[i].told == NULL ? STATUS_OK : STATUS_INVALID);
        if (cases[i].told != NULL)
            assert_non_null(strstr(why.text, cases[i].told));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_shape__counts_what_the_publishers_count),
        cmocka_unit_test(test_model_shape__scout_reads_a_sixth_of_itself_for_a_token),
        cmocka_unit_test(test_model_shape__v3_activates_37_billion),
        cmocka_unit_test(test_model_shape__tells_what_nobody_published),
        cmocka_unit_test(test_model_shape__names_are_found_once_each),
        cmocka_unit_test(test_model_shape__a_kind_of_pages_that_the_model_lacks_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
