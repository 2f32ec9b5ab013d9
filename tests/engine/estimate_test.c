#include "engine/estimate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void assert_near(double value, double wanted, double tolerance)
{
    if (!(fabs(value - wanted) <= tolerance * fabs(wanted)))
        fail_msg("%g is not %g", value, wanted);
}

static const struct step_cost truth = {.step_ns = 3.5e6,
                                       .decode_row_ns = 0.9e6,
                                       .decode_token_ns = 800,
                                       .prefill_row_ns = 0.9e6,
                                       .prefill_token_ns = 150};

static struct step_work decode_step(uint32_t n_rows, uint64_t n_context)
{
    struct step_work work = {.n_decode = 0};
    for (uint32_t i = 0; i < n_rows; i++)
        step_work_add_decode(&work, n_context);
    return work;
}

static struct step_work prefill_step(uint32_t n_rows, uint64_t n_context)
{
    struct step_work work = {.n_decode = 0};
    step_work_add_prefill(&work, n_context, n_rows);
    return work;
}

static double truth_of(struct step_work work)
{
    return step_cost_of(&truth, &work);
}

static struct estimate warmed(double factor)
{
    struct estimate estimate;
    struct warm_steps warm = {.n_rows = 64,
                              .n_deep = 1024,
                              .prefill_ns = factor * truth_of(prefill_step(64, 0)),
                              .decode_ns = factor * truth_of(decode_step(1, 64)),
                              .deep_prefill_ns = factor * truth_of(prefill_step(64, 1024)),
                              .deep_decode_ns = factor * truth_of(decode_step(1, 1088))};
    estimate_init(&estimate, &warm, 50000000);
    return estimate;
}

static void test_estimate__a_warm_up_tells_rows_from_context(void **state)
{
    struct estimate estimate = warmed(1);

    assert_near(estimate.cost.step_ns, truth.step_ns, 0.05);
    assert_near(estimate.cost.prefill_row_ns, truth.prefill_row_ns, 0.05);
    assert_near(estimate.cost.decode_token_ns, truth.decode_token_ns, 0.05);
    assert_near(estimate.cost.prefill_token_ns, truth.prefill_token_ns, 0.05);
}

static void test_estimate__odd_warm_ups_leave_no_term_at_nothing(void **state)
{
    static const struct warm_steps odd[] = {
        {.n_rows = 64, .prefill_ns = 1000, .decode_ns = 1000},
        {.n_rows = 64, .prefill_ns = 500, .decode_ns = 1000}, /* a hiccup in between */
        {.n_rows = 1, .prefill_ns = 1000, .decode_ns = 1000},
        {.n_rows = 64, .n_deep = 1024, .prefill_ns = 9e4, .decode_ns = 5e3, .deep_prefill_ns = 8e4,
         .deep_decode_ns = 4e3},
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        struct estimate estimate;
        estimate_init(&estimate, &odd[i], 50000000);
        assert_true(estimate.cost.step_ns > 0 && isfinite(estimate.cost.step_ns));
        assert_true(estimate.cost.decode_row_ns > 0 && isfinite(estimate.cost.decode_row_ns));
        assert_true(estimate.cost.decode_token_ns > 0 && isfinite(estimate.cost.decode_token_ns));
        assert_true(estimate.cost.prefill_row_ns > 0 && isfinite(estimate.cost.prefill_row_ns));
        assert_true(estimate.cost.prefill_token_ns > 0 && isfinite(estimate.cost.prefill_token_ns));
    }
}

/* Prompts of 7000 and answers of 50 tokens, alone and eight together, on a machine of `truth`. */
static void live(struct estimate *estimate, double factor)
{
    for (int day = 0; day < 4; day++) {
        for (uint32_t n = 0; n < 7000; n += 50)
            estimate_learn(estimate, &(struct step_work){.n_prefill = 50,
                                                         .prefill_tokens =
                                                             prefill_step(50, n).prefill_tokens},
                           (int64_t)(factor * truth_of(prefill_step(50, n))));
        for (uint32_t n = 0; n < 50; n++) {
            struct step_work alone = decode_step(1, 7000 + n), together = decode_step(8, 300 + n);
            estimate_learn(estimate, &alone, (int64_t)(factor * truth_of(alone)));
            estimate_learn(estimate, &together, (int64_t)(factor * truth_of(together)));
        }
    }
}

static void test_estimate__steps_teach_every_term_whatever_the_warm_up_said(void **state)
{
    static const double factors[] = {0.3, 1, 3};
    for (int i = 0; i < 3; i++) {
        struct estimate estimate = warmed(factors[i]);
        live(&estimate, 1);
        const struct step_work works[] = {decode_step(1, 100), decode_step(1, 7000),
                                          decode_step(8, 300), decode_step(64, 200),
                                          prefill_step(50, 0), prefill_step(50, 6900)};
        for (int k = 0; k < 6; k++)
            assert_near(step_cost_of(&estimate.cost, &works[k]), truth_of(works[k]), 0.1);
    }
}

static void test_estimate__any_number_of_steps_leaves_it_sound(void **state)
{
    struct estimate estimate = warmed(1);
    uint64_t dice = 5;
    for (int i = 0; i < 300000; i++) {
        dice = dice * 6364136223846793005u + 1442695040888963407u;
        struct step_work work = decode_step((uint32_t)(dice >> 60), (dice >> 48) % 8000);
        step_work_add_prefill(&work, (dice >> 40) % 7000, (uint32_t)(dice >> 33) % 64);
        double factor = 0.5 + (double)(dice >> 50 & 255) / 255; /* a restless machine */
        estimate_learn(&estimate, &work, (int64_t)(factor * truth_of(work)));
    }
    const struct step_work works[] = {decode_step(1, 100), decode_step(8, 4000),
                                      prefill_step(50, 0), prefill_step(50, 6900)};
    for (int k = 0; k < 4; k++)
        assert_near(step_cost_of(&estimate.cost, &works[k]), truth_of(works[k]), 0.35);
    for (int i = 0; i < ESTIMATE_TERMS; i++)
        assert_true(estimate.spread[i][i] > 0 && estimate.spread[i][i] <= 1.001);
}

static void test_estimate__one_odd_step_says_little(void **state)
{
    struct estimate estimate = warmed(1);
    struct step_work work = decode_step(1, 100);
    double before = step_cost_of(&estimate.cost, &work);

    estimate_learn(&estimate, &work, 100 * (int64_t)before); /* the machine was stopped */

    assert_true(step_cost_of(&estimate.cost, &work) < 1.2 * before);
}

/* What many rows take must not be thought of one. */
static void test_estimate__a_crowd_leaves_the_estimate_for_one_alone(void **state)
{
    struct estimate estimate = warmed(1);
    struct work_ahead none = {.n_decode = 0};
    double before = estimate_output_s(&estimate, &none, 100, 100, 1);
    for (int i = 0; i < 500; i++) {
        struct step_work crowd = decode_step(64, 100);
        estimate_learn(&estimate, &crowd, (int64_t)truth_of(crowd));
    }

    assert_near(estimate_output_s(&estimate, &none, 100, 100, 1), before, 0.2);
}

static void test_estimate__what_a_busy_hour_drove_up_comes_down_at_rest(void **state)
{
    struct estimate estimate = warmed(1);
    struct work_ahead none = {.n_decode = 0};
    double before = estimate_first_token_s(&estimate, &none, 500);
    live(&estimate, 10);
    assert_true(estimate_first_token_s(&estimate, &none, 500) > 5 * before);

    for (int i = 0; i < 180; i++)
        estimate_rest(&estimate, 1000000000);

    assert_near(estimate_first_token_s(&estimate, &none, 500), before, 0.05);
}

static void test_estimate__a_long_prompt_takes_more_than_its_length(void **state)
{
    struct estimate estimate = warmed(1);
    struct work_ahead none = {.n_decode = 0};
    double short_s = estimate_first_token_s(&estimate, &none, 700),
           long_s = estimate_first_token_s(&estimate, &none, 7000);

    assert_near(short_s, 0.63 + 0.0367 + 14 * 3.5e-3, 0.05); /* rows, context, steps of 50 ms */
    assert_near(long_s, 6.3 + 3.675 + 215 * 3.5e-3, 0.05);
}

static void test_estimate__adds_queue_prompt_answer_and_company(void **state)
{
    struct estimate estimate = {
        .cost = {.decode_row_ns = 10e6, .prefill_row_ns = 1e6, .decode_token_ns = 1e3},
        .max_step_ns = 50000000};
    struct work_ahead none = {.n_decode = 0};
    struct work_ahead some = {
        .prefill_ns = 500e6, .n_wait = 100, .n_decode = 2, .decode_tokens = 5000};

    assert_near(estimate_first_token_s(&estimate, &none, 1000), 1, 1e-9);
    assert_near(estimate_output_s(&estimate, &none, 1000, 400, 1), 400 * (0.01 + 1201e-6), 1e-9);
    /* 25 of 50 ms go to those that decode: 1.5 s of rows take 60 steps */
    assert_near(estimate_first_token_s(&estimate, &some, 1000), 1.5 + (60 + 100) * 0.025, 1e-9);
    assert_near(estimate_output_s(&estimate, &some, 1000, 400, 1), 400 * (0.03 + 6201e-6), 1e-9);
    assert_near(estimate_output_s(&estimate, &some, 1000, 400, 2), 800 * (0.03 + 6201e-6), 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_estimate__a_warm_up_tells_rows_from_context),
        cmocka_unit_test(test_estimate__odd_warm_ups_leave_no_term_at_nothing),
        cmocka_unit_test(test_estimate__steps_teach_every_term_whatever_the_warm_up_said),
        cmocka_unit_test(test_estimate__any_number_of_steps_leaves_it_sound),
        cmocka_unit_test(test_estimate__one_odd_step_says_little),
        cmocka_unit_test(test_estimate__a_crowd_leaves_the_estimate_for_one_alone),
        cmocka_unit_test(test_estimate__what_a_busy_hour_drove_up_comes_down_at_rest),
        cmocka_unit_test(test_estimate__a_long_prompt_takes_more_than_its_length),
        cmocka_unit_test(test_estimate__adds_queue_prompt_answer_and_company),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
