#include "kernels/cpu/cpu_sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "kernels/cpu/cpu_philox.h"
#include "kernels/ops.h"

#define VOCABULARY 5003 /* whole registers and a rest */

static const struct sample_params plain = {
    .temperature = 1.0f, .top_p = 1.0f, .repetition = 1.0f, .count_slot = -1};

struct draw { /* what a sampling op gets, on the host */
    const float *logits;
    uint32_t n_rows, vocabulary;
    const struct sample_params *params;
    const uint32_t *counts;
    uint32_t n_slots;
    const uint32_t *banned;
    uint32_t n_banned;
};

static void *upload(struct device *device, const void *bytes, size_t n)
{
    void *on_device;
    assert_int_equal(device_alloc(device, n, &on_device, NULL), STATUS_OK);
    if (bytes != NULL)
        device_upload(device, on_device, bytes, n);
    return on_device;
}

static int sample_on(enum isa isa, int n_threads, const struct draw *draw,
                     struct sample_result *results)
{
    struct device_options options = {.n_threads = n_threads, .isa = isa, .strict = true};
    struct device *device;
    struct stream *stream;
    assert_int_equal(device_open(&options, &device, NULL), STATUS_OK);
    assert_int_equal(stream_create(device, 4, &stream, NULL), STATUS_OK);
    const struct ops *ops = device_ops(device);
    struct sample_args args = {
        .logits = upload(device, draw->logits, sizeof(float) * draw->n_rows * draw->vocabulary),
        .n_rows = draw->n_rows,
        .vocabulary = draw->vocabulary,
        .params = upload(device, draw->params, sizeof *draw->params * draw->n_rows),
        .n_slots = draw->n_slots,
        .n_banned = draw->n_banned,
        .workspace = upload(device, NULL,
                            ops->sample_workspace_bytes(device, draw->n_rows, draw->vocabulary)),
        .results = upload(device, NULL, sizeof *results * draw->n_rows),
    };
    if (draw->counts != NULL)
        args.counts =
            upload(device, draw->counts, sizeof(uint32_t) * draw->n_slots * draw->vocabulary);
    if (draw->banned != NULL)
        args.banned = upload(device, draw->banned, sizeof(uint32_t) * draw->n_banned);
    ops->sample(stream, &args);
    device_submit(stream);
    int status = device_wait(stream, NULL, NULL);
    device_download(device, results, args.results, sizeof *results * draw->n_rows);
    device_free(device, (void *)args.logits);
    device_free(device, (void *)args.params);
    device_free(device, (void *)args.counts);
    device_free(device, (void *)args.banned);
    device_free(device, args.workspace);
    device_free(device, args.results);
    stream_free(stream);
    device_close(device);
    return status;
}

static uint64_t random_state = 77;

static double random_unit(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 11) * 0x1p-53;
}

/* About normal, deviation 3.5, as a model's logits are; some are equal. */
static void random_logits(float *logits, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        double sum = -6;
        for (int j = 0; j < 12; j++)
            sum += random_unit();
        logits[i] = (float)(sum * 3.5);
        if (i % 50 == 49)
            logits[i] = logits[(uint32_t)(random_unit() * i)];
    }
}

/* --- a naive form in double: sort, then walk --- */

struct candidate {
    uint32_t id;
    double logit, mass;
};

static int by_value_then_id(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int by_id(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static uint32_t naive_draw(const struct draw *draw, uint32_t r)
{
    const struct sample_params *params = &draw->params[r];
    struct candidate *all = malloc(sizeof *all * draw->vocabulary);
    for (uint32_t i = 0; i < draw->vocabulary; i++) {
        double logit = (double)draw->logits[(size_t)r * draw->vocabulary + i];
        if (params->count_slot >= 0 &&
            draw->counts[(size_t)params->count_slot * draw->vocabulary + i] != 0)
            logit =
                logit > 0 ? logit / (double)params->repetition : logit * (double)params->repetition;
        all[i] = (struct candidate){.id = i, .logit = logit};
    }
    for (uint32_t i = 0; params->mask_banned && i < draw->n_banned; i++)
        all[draw->banned[i]].logit = -INFINITY;
    qsort(all, draw->vocabulary, sizeof *all, by_value_then_id);
    uint32_t n = draw->vocabulary, kept = 1;
    if (params->temperature == 0.0f)
        n = 1;
    double max = all[0].logit, total = 0, sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        all[i].mass = n == 1 ? 1 : exp((all[i].logit - max) / (double)params->temperature);
        if (all[i].mass < (double)params->min_p || (params->top_k > 0 && i >= params->top_k))
            n = i;
        else
            total += all[i].mass;
    }
    for (kept = 0;
         kept < n && (kept == 0 || sum < (double)params->top_p * total || params->top_p >= 1.0f);
         kept++)
        sum += all[kept].mass;
    qsort(all, kept, sizeof *all, by_id);
    double u =
        (double)cpu_philox(params->seed, params->choice_idx, params->position) * 0x1p-64 * sum;
    uint32_t at = 0;
    while (at + 1 < kept && u >= all[at].mass)
        u -= all[at++].mass;
    uint32_t id = all[at].id;
    free(all);
    return id;
}

static struct sample_params random_params(uint32_t i)
{
    struct sample_params params = plain;
    params.temperature = i % 7 == 0 ? 0.0f : 0.3f + 0.25f * (float)(i % 5);
    params.top_p = i % 3 == 0 ? 1.0f : 0.5f + 0.45f * (float)random_unit();
    params.top_k = i % 4 == 0 ? 0 : 1 + (uint32_t)(random_unit() * 100) * (i % 2 == 0 ? 1 : 40);
    params.min_p = i % 5 == 0 ? 0.05f * (float)random_unit() : 0.0f;
    params.repetition = i % 2 == 0 ? 1.0f : 1.3f;
    params.count_slot = i % 6 == 0 ? -1 : (int32_t)(i % 2);
    params.mask_banned = i % 2;
    params.seed = 12345 + i;
    params.position = i * 3;
    params.choice_idx = i % 4;
    params.want_logprob = i % 3 != 0;
    params.n_top = i % 3 == 2 ? 1 + i % TOP_LOGPROBS_MAX : 0;
    return params;
}

#define N_ROWS 60

struct crowd { /* many rows with every mix of settings */
    float logits[N_ROWS * VOCABULARY];
    struct sample_params params[N_ROWS];
    uint32_t counts[2 * VOCABULARY];
    uint32_t banned[5];
    struct draw draw;
};

static struct crowd *make_crowd(void)
{
    struct crowd *crowd = calloc(1, sizeof *crowd);
    random_logits(crowd->logits, N_ROWS * VOCABULARY);
    for (uint32_t i = 0; i < N_ROWS; i++)
        crowd->params[i] = random_params(i);
    for (uint32_t i = 0; i < 2 * VOCABULARY; i++)
        crowd->counts[i] = random_unit() < 0.1 ? 1 + i % 3 : 0;
    memcpy(crowd->banned, (uint32_t[]){0, 17, 1000, 4999, 5002}, sizeof crowd->banned);
    crowd->draw = (struct draw){crowd->logits, N_ROWS, VOCABULARY,    crowd->params,
                                crowd->counts, 2,      crowd->banned, 5};
    return crowd;
}

static void test_sample__draws_what_a_naive_form_draws(void **state)
{
    struct crowd *crowd = make_crowd();
    struct sample_result results[N_ROWS];
    int n_different = 0;
    for (int again = 0; again < 20; again++) {
        for (uint32_t i = 0; i < N_ROWS; i++)
            crowd->params[i].position += 1000;
        assert_int_equal(sample_on(ISA_AUTO, 2, &crowd->draw, results), STATUS_OK);
        for (uint32_t i = 0; i < N_ROWS; i++)
            n_different += results[i].id != naive_draw(&crowd->draw, i);
    }
    /* A u within 1e-6 of a border may fall to either side: 1200 draws, each with some hundred
     * borders close by. */
    assert_in_range(n_different, 0, 3);
    free(crowd);
}

static void
test_sample__is_the_same_on_every_instruction_set_and_any_number_of_threads(void **state)
{
    struct crowd *crowd = make_crowd();
    struct sample_result *truth = calloc(N_ROWS, sizeof *truth),
                         *results = calloc(N_ROWS, sizeof *results);
    assert_int_equal(sample_on(ISA_SCALAR, 1, &crowd->draw, truth), STATUS_OK);
    for (int isa = ISA_SCALAR; isa <= ISA_AVX512; isa++) {
        if (!isa_is_available((enum isa)isa)) {
            print_message("skipped: this machine has no %s\n", isa_name((enum isa)isa));
            continue;
        }
        for (int n_threads = 1; n_threads <= 4; n_threads *= 2) {
            assert_int_equal(sample_on((enum isa)isa, n_threads, &crowd->draw, results), STATUS_OK);
            assert_memory_equal(results, truth, N_ROWS * sizeof *results);
        }
    }
    free(truth);
    free(results);
    free(crowd);
}

static void test_sample__follows_the_distribution(void **state)
{
    float logits[4] = {0.0f, 1.0f, 2.0f, -1.0f};
    double sum = 0, expected[4];
    for (int i = 0; i < 4; i++)
        sum += expected[i] = exp((double)logits[i] / 0.8);
    uint32_t n_seen[4] = {0}, n_draws = 4000;
    float *rows = malloc(sizeof logits * n_draws);
    struct sample_params *params = malloc(sizeof *params * n_draws);
    struct sample_result *results = malloc(sizeof *results * n_draws);
    for (uint32_t i = 0; i < n_draws; i++) {
        memcpy(rows + 4 * i, logits, sizeof logits);
        params[i] = plain;
        params[i].temperature = 0.8f;
        params[i].seed = 42;
        params[i].position = i;
    }
    struct draw draw = {.logits = rows, .n_rows = n_draws, .vocabulary = 4, .params = params};
    assert_int_equal(sample_on(ISA_AUTO, 2, &draw, results), STATUS_OK);
    for (uint32_t i = 0; i < n_draws; i++)
        n_seen[results[i].id]++;
    for (int i = 0; i < 4; i++) {
        double p = expected[i] / sum, deviation = sqrt(p * (1 - p) * n_draws);
        assert_true(fabs(n_seen[i] - p * n_draws) < 4 * deviation);
    }
    free(rows);
    free(params);
    free(results);
}

/* --- edges --- */

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

static void test_philox__gives_the_published_numbers(void **state)
{
    assert_true(cpu_philox(0, 0, 0) == 0xe169c58d6627e8d5u);
    assert_true(cpu_philox(1, 0, 0) != cpu_philox(0, 1, 0));
    assert_true(cpu_philox(0, 1, 0) != cpu_philox(0, 0, 1));
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
        double u = (double)cpu_philox(params.seed, 0, 0) * 0x1p-64;
        assert_in_range(result.id, (uint32_t)(u * n) - 1, (uint32_t)(u * n) + 1);
        params.top_p = 0.25f;
    }
    free(logits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox__gives_the_published_numbers),
        cmocka_unit_test(test_sample__draws_what_a_naive_form_draws),
        cmocka_unit_test(
            test_sample__is_the_same_on_every_instruction_set_and_any_number_of_threads),
        cmocka_unit_test(test_sample__follows_the_distribution),
        cmocka_unit_test(test_sample__greedy_takes_the_lowest_id_of_equals),
        cmocka_unit_test(test_sample__top_k_prefers_lower_ids_of_equals),
        cmocka_unit_test(test_sample__top_p_keeps_the_shortest_prefix_that_reaches_it),
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
