#include "engine/step_cost.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct step_cost cost = {.step_ns = 1000,
                                      .decode_row_ns = 100,
                                      .decode_token_ns = 1,
                                      .prefill_row_ns = 50,
                                      .prefill_token_ns = 0.5};

static void assert_near(double value, double wanted)
{
    if (fabs(value - wanted) > 1e-9 * fabs(wanted))
        fail_msg("%.12g is not %.12g", value, wanted);
}

static void test_step_cost__is_the_sum_of_what_each_row_looks_back_on(void **state)
{
    struct step_work work = {.n_decode = 0};
    double wanted = 1000;
    step_work_add_decode(&work, 10);
    wanted += 100 + 11 * 1;
    step_work_add_prefill(&work, 200, 3);
    for (int row = 0; row < 3; row++)
        wanted += 50 + (200 + row + 1) * 0.5;

    assert_near(step_cost_of(&cost, &work), wanted);
    assert_near(cost.step_ns + step_cost_decode(&cost, 1, 11) + step_cost_prefill(&cost, 200, 3),
                wanted);
}

static void test_step_cost__a_prompt_costs_the_same_in_any_pieces(void **state)
{
    double whole = step_cost_prefill(&cost, 0, 7000), pieces = 0;
    for (uint64_t n = 0; n < 7000; n += 70)
        pieces += step_cost_prefill(&cost, n, 70);

    assert_near(pieces, whole);
    assert_near(step_cost_prefill(&cost, 3500, 3500) - step_cost_prefill(&cost, 0, 3500),
                3500.0 * 3500 * 0.5); /* the second half looks back on all of the first */
}

static void test_step_cost__rows_within_a_time_are_the_most_that_fit(void **state)
{
    for (uint64_t n_context = 0; n_context < 100000; n_context = 3 * n_context + 1)
        for (double ns = 100; ns < 1e9; ns *= 1.7) {
            uint32_t n = step_cost_rows_within(&cost, n_context, ns);
            assert_true(step_cost_prefill(&cost, n_context, n) <= ns * (1 + 1e-12));
            assert_true(step_cost_prefill(&cost, n_context, n + 1) > ns * (1 - 1e-12));
        }
    assert_int_equal(step_cost_rows_within(&cost, 0, 0), 0);
    assert_int_equal(step_cost_rows_within(&cost, 0, -1), 0);
    assert_int_equal(step_cost_rows_within(&(struct step_cost){.step_ns = 1}, 5, 1),
                     CONTEXT_TOKENS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step_cost__is_the_sum_of_what_each_row_looks_back_on),
        cmocka_unit_test(test_step_cost__a_prompt_costs_the_same_in_any_pieces),
        cmocka_unit_test(test_step_cost__rows_within_a_time_are_the_most_that_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
