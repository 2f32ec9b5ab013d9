#include "tests/kernels/draw_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "kernels/philox.h"

/* Which of few tokens are ever drawn, as bits, over many seeds. */
static uint32_t drawn(const float *logits, uint32_t n, struct sample_params params)
{
    struct sample_params all[400];
    struct sample_result results[400];
    float *rows = malloc(sizeof *rows * n * 400);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < 400; i++) {
        memcpy(rows + i * n, logits, sizeof *rows * n);
        all[i] = params;
        all[i].seed = i;
    }
    uint32_t banned[] = {1, 2};
    struct draw draw = {.logits = rows,
                        .n_rows = 400,
                        .vocabulary = n,
                        .params = all,
                        .banned = banned,
                        .n_banned = 2};
    assert_int_equal(sample_on(ISA_AUTO, 2, &draw, results), STATUS_OK);
    for (uint32_t i = 0; i < 400; i++)
        seen |= 1u << results[i].id;
    free(rows);
    return seen;
}

static void test_sample__greedy_takes_the_lowest_id_of_equals(void **state)
{
    float logits[] = {-1.0f, 3.0f, 3.0f, 2.0f, 3.0f};
    struct sample_params params = plain;
    params.temperature = 0.0f;
    assert_int_equal(drawn(logits, 5, params), 1u << 1);
    params.mask_banned = 1;
    assert_int_equal(drawn(logits, 5, params), 1u << 4);
}

static void test_sample__top_k_prefers_lower_ids_of_equals(void **state)
{
    float logits[] = {1.0f, 2.0f, 1.0f, -0.0f, 2.0f, 0.0f, 1.0f};
    static const uint32_t expected[] = {0x7f, 0x02, 0x12, 0x13, 0x17, 0x57, 0x5f, 0x7f, 0x7f};
    for (uint32_t k = 0; k < 9; k++) {
        struct sample_params params = plain;
        params.temperature = 2.0f;
        params.top_k = k;
        assert_int_equal(drawn(logits, 7, params), expected[k]);
    }
}

static void test_sample__top_p_keeps_the_shortest_prefix_that_reaches_it(void **state)
{
    float logits[] = {logf(0.2f), logf(0.4f), logf(0.1f), logf(0.3f)};
    static const struct {
        float p;
        uint32_t seen;
    } cases[] = {{0.0f, 2},    {0.39f, 2},   {0.41f, 0xa}, {0.69f, 0xa},
                 {0.71f, 0xb}, {0.91f, 0xf}, {1.0f, 0xf},  {2.0f, 0xf}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sample_params params = plain;
        params.top_p = cases[i].p;
        assert_int_equal(drawn(logits, 4, params), cases[i].seen);
    }
    float equal[] = {1.0f, 1.0f, 1.0f, 1.0f};
    struct sample_params params = plain;
    params.top_p = 0.5f; /* two of four: the lower ids */
    assert_int_equal(drawn(equal, 4, params), 3);
}

/* Surprises of 1.61, 0.92, 2.30 and 1.20 nats, 1.28 on average. */
static void test_sample__typical_p_keeps_what_is_nearest_to_the_mean_surprise(void **state)
{
    float logits[] = {logf(0.2f), logf(0.4f), logf(0.1f), logf(0.3f)};
    static const struct {
        float p;
        uint32_t seen;
    } cases[] = {{0.001f, 8}, {0.29f, 8},   {0.31f, 9}, {0.49f, 9},  {0.51f, 0xb},
                 {0.89f, 0xb}, {0.91f, 0xf}, {1.0f, 0xf}, {0.0f, 0xf}};
    struct sample_params params = plain;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        params.typical_p = cases[i].p;
        assert_int_equal(drawn(logits, 4, params), cases[i].seen);
    }
    params.typical_p = 0.31f; /* before top_p, which then sees 0.3 and 0.2 */
    params.top_p = 0.5f;
    assert_int_equal(drawn(logits, 4, params), 8);
    params.top_p = 1.0f;
    params.top_k = 2; /* behind top_k: 57 % and 43 %, and a mean of 0.68 nats */
    params.typical_p = 0.5f;
    assert_int_equal(drawn(logits, 4, params), 2);
    float equal[] = {1.0f, 1.0f, 1.0f, 1.0f};
    params = plain;
    params.typical_p = 0.5f;
    assert_int_equal(drawn(equal, 4, params), 3);
}

static void test_sample__min_p_is_relative_to_the_best(void **state)
{
    float logits[] = {logf(0.2f), logf(0.4f), logf(0.1f), logf(0.3f)};
    struct sample_params params = plain;
    params.min_p = 0.51f;
    assert_int_equal(drawn(logits, 4, params), 0xa);
    params.min_p = 0.49f;
    assert_int_equal(drawn(logits, 4, params), 0xb);
    params.min_p = 1.0f;
    assert_int_equal(drawn(logits, 4, params), 2);
    params.min_p = 0.0f;
    assert_int_equal(drawn(logits, 4, params), 0xf);
}

static void test_sample__filters_act_on_what_the_one_before_left(void **state)
{
    float logits[] = {logf(0.2f), logf(0.4f), logf(0.1f), logf(0.3f)};
    struct sample_params params = plain;
    params.top_k = 2; /* 0.4 and 0.3 are left: 57 % and 43 % */
    params.top_p = 0.55f;
    assert_int_equal(drawn(logits, 4, params), 2);
    params.top_p = 0.6f;
    assert_int_equal(drawn(logits, 4, params), 0xa);
}

static void test_sample__a_tiny_temperature_is_nearly_greedy(void **state)
{
    float logits[] = {90.0f, 100.0f, 99.0f};
    struct sample_params params = plain;
    params.temperature = 1e-38f;
    assert_int_equal(drawn(logits, 3, params), 2);
}

static void test_sample__repetition_lowers_what_was_seen(void **state)
{
    float logits[] = {2.0f, 1.9f, -1.0f, -1.1f};
    uint32_t counts[] = {3, 0, 1, 0};
    struct sample_params params = plain;
    params.temperature = 0.0f;
    params.repetition = 1.2f;
    params.count_slot = 0;
    struct sample_result result;
    struct draw draw = {.logits = logits,
                        .n_rows = 1,
                        .vocabulary = 4,
                        .params = &params,
                        .counts = counts,
                        .n_slots = 1};
    assert_int_equal(sample_on(ISA_AUTO, 1, &draw, &result), STATUS_OK);
    assert_int_equal(result.id, 1);
    draw.logits = logits + 2; /* negative ones are multiplied */
    draw.vocabulary = 2;
    assert_int_equal(sample_on(ISA_AUTO, 1, &draw, &result), STATUS_OK);
    assert_int_equal(result.id, 1);
    params.count_slot = 1; /* a slot that is not there */
    assert_int_equal(sample_on(ISA_AUTO, 1, &draw, &result), STATUS_INTERNAL);
}

static void test_sample__nan_and_nothing_left_stick(void **state)
{
    float logits[] = {1.0f, 2.0f, NAN, 0.0f};
    uint32_t banned[] = {0, 1, 2};
    struct sample_params params = plain;
    struct sample_result result;
    struct draw draw = {.logits = logits, .n_rows = 1, .vocabulary = 4, .params = &params};
    for (int isa = ISA_SCALAR; isa <= ISA_AVX512; isa++)
        if (isa_is_available((enum isa)isa))
            assert_int_equal(sample_on((enum isa)isa, 1, &draw, &result), STATUS_INTERNAL);
    draw.vocabulary = 2;
    draw.banned = banned;
    draw.n_banned = 2;
    assert_int_equal(sample_on(ISA_AUTO, 1, &draw, &result), STATUS_OK);
    params.mask_banned = 1;
    assert_int_equal(sample_on(ISA_AUTO, 1, &draw, &result), STATUS_INTERNAL);
}

static void test_sample__reports_logprobs_of_the_raw_logits(void **state)
{
    struct crowd *crowd = make_crowd();
    struct sample_result *results = calloc(N_ROWS, sizeof *results);
    assert_int_equal(sample_on(ISA_AUTO, 2, &crowd->draw, results), STATUS_OK);
    for (uint32_t r = 0; r < N_ROWS; r++) {
        const float *logits = crowd->logits + r * VOCABULARY;
        double max = -INFINITY, sum = 0;
        for (uint32_t i = 0; i < VOCABULARY; i++)
            max = fmax(max, (double)logits[i]);
        for (uint32_t i = 0; i < VOCABULARY; i++)
            sum += exp((double)logits[i] - max);
        const struct sample_params *params = &crowd->params[r];
        if (params->want_logprob)
            assert_true(fabs((double)results[r].logprob -
                             ((double)logits[results[r].id] - max - log(sum))) < 2e-6);
        assert_int_equal(results[r].n_top, params->n_top);
        for (uint32_t i = 0; i < params->n_top; i++) {
            uint32_t id = results[r].top_id[i], n_before = 0;
            for (uint32_t j = 0; j < VOCABULARY; j++)
                n_before += logits[j] > logits[id] || (logits[j] == logits[id] && j < id);
            assert_int_equal(n_before, i);
            assert_true(fabs((double)results[r].top_logprob[i] -
                             ((double)logits[id] - max - log(sum))) < 2e-6);
        }
    }
    free(results);
    free(crowd);
}

static void test_sample__logprobs_stop_at_the_floor_and_at_the_vocabulary(void **state)
{
    float logits[] = {0.0f, -INFINITY, -20000.0f};
    struct sample_params params = plain;
    params.want_logprob = 1;
    params.n_top = TOP_LOGPROBS_MAX;
    struct sample_result result;
    struct draw draw = {.logits = logits, .n_rows = 1, .vocabulary = 3, .params = &params};
    assert_int_equal(sample_on(ISA_AUTO, 1, &draw, &result), STATUS_OK);
    assert_int_equal(result.n_top, 3);
    assert_int_equal(result.top_id[1], 2);
    assert_true(result.top_logprob[1] == -9999.0f);
    assert_int_equal(result.top_id[2], 1);
    assert_true(result.top_logprob[2] == -9999.0f);
}

static void test_sample__the_largest_vocabulary_works(void **state)
{
    uint32_t n = MODEL_VOCABULARY_MAX;
    float *logits = calloc(n, sizeof *logits); /* all equal */
    struct sample_params params = plain;
    params.top_p = 0.25f;
    struct sample_result result;
    struct draw draw = {.logits = logits, .n_rows = 1, .vocabulary = n, .params = &params};
    for (params.seed = 0; params.seed < 5; params.seed++) {
        assert_int_equal(sample_on(ISA_AUTO, 1, &draw, &result), STATUS_OK);
        assert_in_range(result.id, 0, n / 4);
        params.top_p = 1.0f;
        assert_int_equal(sample_on(ISA_AUTO, 1, &draw, &result), STATUS_OK);
        double u = (double)philox(params.seed, 0, 0) * 0x1p-64;
        assert_in_range(result.id, (uint32_t)(u * n) - 1, (uint32_t)(u * n) + 1);
        params.top_p = 0.25f;
    }
    free(logits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sample__greedy_takes_the_lowest_id_of_equals),
        cmocka_unit_test(test_sample__top_k_prefers_lower_ids_of_equals),
        cmocka_unit_test(test_sample__top_p_keeps_the_shortest_prefix_that_reaches_it),
        cmocka_unit_test(test_sample__typical_p_keeps_what_is_nearest_to_the_mean_surprise),
        cmocka_unit_test(test_sample__min_p_is_relative_to_the_best),
        cmocka_unit_test(test_sample__filters_act_on_what_the_one_before_left),
        cmocka_unit_test(test_sample__a_tiny_temperature_is_nearly_greedy),
        cmocka_unit_test(test_sample__repetition_lowers_what_was_seen),
        cmocka_unit_test(test_sample__nan_and_nothing_left_stick),
        cmocka_unit_test(test_sample__reports_logprobs_of_the_raw_logits),
        cmocka_unit_test(test_sample__logprobs_stop_at_the_floor_and_at_the_vocabulary),
        cmocka_unit_test(test_sample__the_largest_vocabulary_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
