#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "engine/memory_plan.h"

#define GB 1000000000u

static const struct memory_budget h100 = {.memory_bytes = 80ull * GB,
                                          .bytes_per_second = 3350e9,
                                          .n_devices = 1,
                                          .reserve_bytes = 750000000};
static const struct memory_budget h200 = {.memory_bytes = 141ull * GB,
                                          .bytes_per_second = 4800e9,
                                          .n_devices = 1,
                                          .reserve_bytes = 750000000};

static const struct kv_dtypes f16_pages = {.global = KV_F16, .local = KV_F16};

static struct memory_plan plan_of(const char *name, const char *pages,
                                  const struct memory_budget *budget, uint64_t context)
{
    struct memory_plan plan;
    struct kv_dtypes dtypes;
    struct why why = {.text = ""};
    assert_int_equal(kv_dtypes_parse("--kv-dtype", pages, &dtypes, &why), STATUS_OK);
    assert_int_equal(memory_plan_make(model_shape_find(name), weight_format_find("int4"), 0,
                                      &dtypes, budget, context, &plan, &why),
                     STATUS_OK);
    return plan;
}

static void is_near(double value, double expected, double share)
{
    if (value < expected * (1 - share) || value > expected * (1 + share))
        fail_msg("%.6g, expected %.6g", value, expected);
}

/* The table of cuda_kernels.md 13, Scout in int4: tokens a second at the whole bandwidth. */
static void test_memory_plan__agrees_with_the_arithmetic_of_scout(void **state)
{
    static const struct {
        const char *pages;
        uint64_t context;
        double on_h100, on_h200;
    } rows[] = {
        {"f16", 8192, 313, 449}, {"f16", 131072, 200, 287}, {"f16", 1048576, 54, 78},
        {"q8", 8192, 338, 484},  {"q8", 131072, 256, 367},  {"q8", 1048576, 91, 131},
        {"q4", 8192, 352, 504},  {"q4", 131072, 300, 430},  {"q4", 1048576, 143, 204},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct memory_plan one = plan_of("llama4-scout", rows[i].pages, &h100, rows[i].context);
        struct memory_plan two = plan_of("llama4-scout", rows[i].pages, &h200, rows[i].context);
        /* the table has f16 scales in packed pages; ours are f32 */
        is_near(one.tokens_per_second, rows[i].on_h100, rows[i].pages[0] == 'q' ? 0.06 : 0.03);
        is_near(two.tokens_per_second, rows[i].on_h200, rows[i].pages[0] == 'q' ? 0.06 : 0.03);
    }
    struct memory_plan f16 = plan_of("llama4-scout", "f16", &h100, 1048576);
    is_near((double)f16.weights_bytes, 60.6e9, 0.03);
    is_near((double)f16.global_bytes, 51.5e9, 0.03);
    assert_int_equal(f16.global_token_bytes, 49152);
    assert_false(f16.fits);
    struct memory_plan q4 = plan_of("llama4-scout", "q4", &h100, 1048576);
    is_near((double)(q4.weights_bytes + q4.kv_bytes), 75.0e9, 0.03);
    assert_true(q4.fits);
    struct memory_plan both = plan_of("llama4-scout", "global=q4,local=f16", &h100, 1048576);
    assert_int_equal(both.global_token_bytes, q4.global_token_bytes);
    assert_int_equal(both.local_token_bytes, f16.local_token_bytes);
}

static void test_memory_plan__the_longest_context_fits_and_one_page_more_does_not(void **state)
{
    static const char *const names[] = {"llama4-scout", "llama3.1-8b", "deepseek-v2-lite"};
    static const char *const formats[] = {"f32", "f16", "q8", "q4"};
    for (size_t i = 0; i < 12; i++) {
        struct memory_budget small = h100;
        const char *name = names[i / 4], *pages = formats[i % 4];
        small.memory_bytes = plan_of(name, pages, &h100, 64).weights_bytes + 5ull * GB;
        uint64_t longest = plan_of(name, pages, &small, 64).longest_context;
        assert_true(longest > 0);
        assert_true(plan_of(name, pages, &small, longest).fits);
        if (longest < model_shape_find(name)->context)
            assert_false(plan_of(name, pages, &small, longest + PAGE_TOKENS).fits);
    }
}

#define STEP_BYTES 1000000000u /* and twice that from 32,768 tokens on */

static uint64_t stepped_workspace(const void *arg, uint64_t context)
{
    return context < 32768 ? STEP_BYTES : 2 * *(const uint64_t *)arg;
}

/* As the engine asks: with what an open device needs, in place of the formulas. */
static void test_memory_plan__a_workspace_that_is_known_takes_its_place(void **state)
{
    static const uint64_t step_bytes = STEP_BYTES;
    struct memory_budget budget = h100;
    budget.workspace_bytes = stepped_workspace;
    budget.workspace_arg = &step_bytes;
    struct memory_plan plan = plan_of("llama3.1-8b", "f16", &budget, 32767);
    assert_int_equal(plan.workspace_bytes, STEP_BYTES);
    assert_int_equal(plan.room_bytes,
                     plan.memory_bytes - plan.weights_bytes - plan.reserve_bytes - STEP_BYTES);
    assert_int_equal(plan_of("llama3.1-8b", "f16", &budget, 32768).workspace_bytes, 2 * STEP_BYTES);

    /* room for 40,000 tokens beside the small workspace, for far fewer beside the large one */
    budget.memory_bytes = plan.weights_bytes + plan.reserve_bytes + STEP_BYTES +
                          40000 * plan.global_token_bytes;
    plan = plan_of("llama3.1-8b", "f16", &budget, 32704);
    assert_true(plan.fits);
    assert_int_equal(plan.room_bytes, 40000 * plan.global_token_bytes);
    assert_int_equal(plan.longest_context, 32704);
    assert_false(plan_of("llama3.1-8b", "f16", &budget, 32768).fits);
}

static void test_memory_plan__the_reserve_is_a_sixteenth_of_a_small_memory(void **state)
{
    assert_int_equal(memory_plan_reserve(80ull * GB), 750000000);
    assert_int_equal(memory_plan_reserve(12ull * GB), 750000000);
    assert_int_equal(memory_plan_reserve(64u << 20), 4u << 20);
}

static void test_memory_plan__weights_that_do_not_fit_leave_no_context(void **state)
{
    struct memory_plan plan = plan_of("llama3.1-405b", "f16", &h100, 8192);
    assert_false(plan.fits);
    assert_int_equal(plan.longest_context, 0);
}

static void test_memory_plan__gpus_share_heads_evenly_or_are_refused(void **state)
{
    struct memory_plan plan;
    struct why why = {.text = ""};
    struct memory_budget three = h100;
    three.n_devices = 3;
    assert_int_equal(memory_plan_make(model_shape_find("llama4-scout"), weight_format_find("int4"),
                                      0, &f16_pages, &three, 0, &plan, &why),
                     STATUS_INVALID);
    assert_non_null(strstr(why.text, "8 heads"));

    struct memory_budget two = h100;
    two.n_devices = 2;
    is_near(plan_of("llama4-scout", "f16", &two, 131072).tokens_per_second, 401, 0.03);
    /* a latent vector is held by every GPU */
    assert_int_equal(plan_of("deepseek-v3", "f16", &two, 4096).kv_bytes,
                     2 * plan_of("deepseek-v3", "f16", &h100, 4096).kv_bytes);
}

/* f16, of layers whose full pages are packed: 36 of Scout's 48 have a window. */
static void test_memory_plan__rows_of_pages_being_written_are_counted_where_they_are_packed(
    void **state)
{
    struct memory_budget budget = h100;
    struct memory_plan f16 = plan_of("llama4-scout", "f16", &budget, 65536);
    uint64_t rows = 10 * PAGE_TOKENS * (f16.global_token_bytes + f16.local_token_bytes);
    struct memory_plan without = plan_of("llama4-scout", "q8", &budget, 65536);

    budget.open_pages = 10;
    assert_int_equal(plan_of("llama4-scout", "f16", &budget, 65536).open_bytes, 0);
    assert_int_equal(plan_of("llama4-scout", "f16", &budget, 65536).needed_bytes,
                     f16.needed_bytes);
    struct memory_plan with = plan_of("llama4-scout", "q8", &budget, 65536);
    assert_int_equal(with.open_bytes, rows);
    assert_int_equal(with.needed_bytes, without.needed_bytes + rows);
    assert_int_equal(with.room_bytes, without.room_bytes - rows);
    assert_true(with.longest_context < without.longest_context);
    assert_int_equal(plan_of("llama4-scout", "global=q4,local=f16", &budget, 65536).open_bytes,
                     10 * PAGE_TOKENS * f16.global_token_bytes);
}

static void test_memory_plan__refuses_a_context_beyond_the_trained_one(void **state)
{
    struct memory_plan plan;
    struct why why = {.text = ""};
    assert_int_equal(memory_plan_make(model_shape_find("qwen3-8b"), weight_format_find("int4"), 0,
                                      &f16_pages, &h100, 40961, &plan, &why),
                     STATUS_INVALID);
    assert_non_null(strstr(why.text, "40,961"));
    assert_non_null(strstr(why.text, "40,960"));
}

static void test_memory_plan__of_an_unpublished_shape_only_the_weights_are_planned(void **state)
{
    struct memory_plan plan;
    struct why why = {.text = ""};
    assert_int_equal(memory_plan_make(model_shape_find("llama4-behemoth"),
                                      weight_format_find("int4"), 0, &f16_pages,
                                      &h100, 0, &plan, &why),
                     STATUS_UNSUPPORTED);
    is_near((double)plan.weights_bytes, 1.125e12, 0.01);
    assert_int_equal(plan.kv_bytes, 0);
}

static void test_memory_plan__a_file_says_what_its_weights_take(void **state)
{
    struct memory_plan plan;
    struct why why = {.text = ""};
    assert_int_equal(memory_plan_make(model_shape_find("smollm2-135m"), NULL, 96436224,
                                      &f16_pages, &h100, 0, &plan, &why),
                     STATUS_OK);
    assert_int_equal(plan.weights_bytes, 96436224);
    is_near((double)plan.weights_read_bytes, 96436224, 0.001); /* tied: all of it is read */
    assert_int_equal(plan.global_token_bytes, 23040);          /* models.md 5 */
}

/* The most that one can take, over the vocabulary of Llama 3: tables of states 2.3 MB, nodes 0.8,
 * masks 0.3. */
static void test_memory_plan__grammars_of_requests_have_a_bound(void **state)
{
    is_near((double)memory_plan_grammars(128256), GRAMMARS_MAX * 3.35e6, 0.05);
    assert_true(memory_plan_grammars(256 * 1024) > memory_plan_grammars(128 * 1024));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_plan__grammars_of_requests_have_a_bound),
        cmocka_unit_test(test_memory_plan__agrees_with_the_arithmetic_of_scout),
        cmocka_unit_test(test_memory_plan__the_longest_context_fits_and_one_page_more_does_not),
        cmocka_unit_test(test_memory_plan__a_workspace_that_is_known_takes_its_place),
        cmocka_unit_test(test_memory_plan__the_reserve_is_a_sixteenth_of_a_small_memory),
        cmocka_unit_test(test_memory_plan__weights_that_do_not_fit_leave_no_context),
        cmocka_unit_test(test_memory_plan__gpus_share_heads_evenly_or_are_refused),
        cmocka_unit_test(
            test_memory_plan__rows_of_pages_being_written_are_counted_where_they_are_packed),
        cmocka_unit_test(test_memory_plan__refuses_a_context_beyond_the_trained_one),
        cmocka_unit_test(test_memory_plan__of_an_unpublished_shape_only_the_weights_are_planned),
        cmocka_unit_test(test_memory_plan__a_file_says_what_its_weights_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
