#include "engine/estimate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_near(double value, double wanted, double tolerance)
{
    if (fabs(value - wanted) > tolerance)
        fail_msg("%g is not %g", value, wanted);
}

static void test_estimate__learns_what_steps_take(void **state)
{
    struct estimate estimate = {.has_decode = false};
    for (int i = 0; i < 60; i++) {
        estimate_learn(&estimate, 3, 0, 5000000);             /* 5 ms a step of single tokens */
        estimate_learn(&estimate, 3, 100, 5000000 + 2000000); /* 20 us a row of a prompt */
    }
    assert_near(estimate.cost.fixed_ns, 5e6, 1);
    assert_near(estimate.cost.row_ns, 20e3, 1);

    for (int i = 0; i < 60; i++)
        estimate_learn(&estimate, 1, 0, 10000000); /* the machine got slower */
    assert_near(estimate.cost.fixed_ns, 10e6, 1e3);
}

static void test_estimate__tails_of_prompts_and_odd_steps_teach_nothing_wrong(void **state)
{
    struct estimate estimate = {.has_decode = false};
    estimate_learn(&estimate, 1, 0, 5000000);
    estimate_learn(&estimate, 0, 100, 2000000);
    double row_ns = estimate.cost.row_ns;

    estimate_learn(&estimate, 0, 1, 4000000);   /* one row: a step's fixed time, not a row's */
    estimate_learn(&estimate, 2, 100, 4000000); /* faster than decoding alone: a row is not free */

    assert_near(estimate.cost.row_ns, row_ns, 1e-9);
}

static void test_estimate__adds_queue_prompt_and_answer(void **state)
{
    struct estimate estimate = {.cost = {.fixed_ns = 10e6, .row_ns = 1e6}};
    struct work_ahead none = {.n_prefill = 0}, some = {.n_prefill = 500, .n_decode = 100};

    assert_near(estimate_first_token_s(&estimate, &none, 1000), 1, 1e-9);
    assert_near(estimate_first_token_s(&estimate, &some, 1000), 1 + 0.5 + 1, 1e-9);
    assert_near(estimate_output_s(&estimate, 400), 4, 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_estimate__learns_what_steps_take),
        cmocka_unit_test(test_estimate__tails_of_prompts_and_odd_steps_teach_nothing_wrong),
        cmocka_unit_test(test_estimate__adds_queue_prompt_and_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
