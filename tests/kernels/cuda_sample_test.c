/* The CUDA op against the CPU's: the same results to the last bit, log-probabilities included. */
#include "tests/kernels/draw_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "kernels/cpu/cpu_math.h"
#include "kernels/cpu/cpu_sample.h"
#include "tests/kernels/matrix_fixture.h"
#include "tests/kernels/twin_fixture.h"

static const struct device_options cpu = {.backend = BACKEND_CPU, .n_threads = 1};
static const struct device_options cuda = {.backend = BACKEND_CUDA};

static void assert_same(const char *shapes, const struct draw *draw)
{
    struct sample_result *want = calloc(draw->n_rows, sizeof *want);
    struct sample_result *got = malloc(draw->n_rows * sizeof *got);
    memset(got, 0xa5, draw->n_rows * sizeof *got);
    assert_int_equal(sample_by(&cpu, draw, want), STATUS_OK);
    assert_int_equal(sample_by(&cuda, draw, got), STATUS_OK);
    for (uint32_t r = 0; r < draw->n_rows; r++) {
        assert_int_equal(got[r].id, want[r].id);
        assert_memory_equal(&got[r], &want[r], sizeof *want);
    }
    free(want);
    free(got);
    matrix_passed("sample", "f32", shapes);
}

static void test_cuda_sample__has_the_bits_of_the_cpu_for_every_mix_of_settings(void **state)
{
    struct crowd *crowd = make_crowd();
    for (uint32_t i = 1; i < N_ROWS; i += 4)
        crowd->params[i].temperature += 1.5f; /* flat: many are kept */
    assert_same("settings", &crowd->draw);
    for (uint32_t i = 0; i < N_ROWS; i++)
        crowd->params[i].typical_p = 0.1f + 0.015f * (float)i;
    assert_same("settings", &crowd->draw);
    free(crowd);
}

/* Rows of the same logits, settings from a list, all with log-probabilities. */
static void check_logits(const char *shapes, const float *logits, uint32_t vocabulary)
{
    static const struct sample_params settings[] = {
        {.temperature = 0.0f, .top_p = 1.0f},
        {.temperature = 1.0f, .top_p = 1.0f},
        {.temperature = 1e-38f, .top_p = 1.0f},
        {.temperature = 0.7f, .top_p = 0.0f},
        {.temperature = 0.7f, .top_p = 0.5f},
        {.temperature = 2.0f, .top_p = 0.999f},
        {.temperature = 100.0f, .top_p = 0.9f},
        {.temperature = 1.0f, .top_p = 1.0f, .top_k = 1},
        {.temperature = 1.0f, .top_p = 0.9f, .top_k = 7},
        {.temperature = 3.0f, .top_p = 0.6f, .top_k = 2000},
        {.temperature = 1.0f, .top_p = 1.0f, .min_p = 1.0f},
        {.temperature = 1.0f, .top_p = 0.8f, .min_p = 0.02f},
        {.temperature = 1.0f, .top_p = 1.0f, .min_p = 0.3f, .top_k = 3},
        {.temperature = 5.0f, .top_p = 0.95f, .min_p = 1e-30f, .top_k = 900},
        {.temperature = 1.0f, .top_p = 1.0f, .typical_p = 0.4f},
        {.temperature = 30.0f, .top_p = 0.8f, .typical_p = 0.7f},
        {.temperature = 2.0f, .top_p = 1.0f, .typical_p = 0.5f, .top_k = 700},
        {.temperature = 3.0f, .top_p = 0.9f, .typical_p = 0.9f, .min_p = 0.02f},
    };
    enum { N = sizeof settings / sizeof *settings, AGAIN = UNDER_TSAN ? 1 : 2 };
    struct sample_params params[N * AGAIN];
    float *rows = malloc(sizeof *rows * vocabulary * N * AGAIN);
    for (uint32_t i = 0; i < N * AGAIN; i++) {
        params[i] = settings[i % N];
        params[i].repetition = 1.0f;
        params[i].count_slot = params[i].mask_slot = -1;
        params[i].seed = 0x123456789abcdefull * i;
        params[i].choice_idx = i % 3;
        params[i].position = i;
        params[i].want_logprob = 1;
        params[i].n_top = i % (TOP_LOGPROBS_MAX + 4); /* more is as many as there may be */
        memcpy(rows + (size_t)i * vocabulary, logits, sizeof *rows * vocabulary);
    }
    struct draw draw = {
        .logits = rows, .n_rows = N * AGAIN, .vocabulary = vocabulary, .params = params};
    assert_same(shapes, &draw);
    free(rows);
}

static void check_rows(const float *logits, uint32_t vocabulary, struct sample_params params)
{
    enum { ROWS = UNDER_TSAN ? 4 : 16 };
    struct sample_params of_row[ROWS];
    float *rows = malloc(sizeof *rows * vocabulary * ROWS);
    for (uint32_t r = 0; r < ROWS; r++) {
        of_row[r] = params;
        of_row[r].seed = r;
        memcpy(rows + (size_t)r * vocabulary, logits, sizeof *rows * vocabulary);
    }
    struct draw draw = {
        .logits = rows, .n_rows = ROWS, .vocabulary = vocabulary, .params = of_row};
    assert_same("cuts", &draw);
    free(rows);
}

static void test_cuda_sample__takes_any_vocabulary(void **state)
{
    static const uint32_t sizes[] = {1, 2, 19, 33, 31, 1023, 2049, 1024};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i += UNDER_TSAN ? 3 : 1) {
        float *logits = random_floats(sizes[i], (uint32_t)i + 1, 6.0f);
        check_logits("vocabularies", logits, sizes[i]);
        free(logits);
    }
}

/* More strips than log-probabilities asked for, and more than a warp has lanes. */
static void test_cuda_sample__takes_a_large_vocabulary(void **state)
{
    enum { LARGE = 33 * 1024 + 5 };
    struct sample_params params[3] = {plain, plain, plain};
    float *logits = random_floats(3 * LARGE, 7, 4.0f);
    for (uint32_t i = 0; i < 3; i++) {
        params[i].n_top = 20;
        params[i].want_logprob = 1;
        params[i].seed = i;
        logits[i * LARGE + LARGE - 1] = 390.0f; /* among the best, in the last strip */
    }
    params[1].top_k = 40;
    params[1].top_p = 0.9f;
    params[1].temperature = 30.0f;
    params[2].temperature = 40.0f;
    struct draw draw = {.logits = logits, .n_rows = 3, .vocabulary = LARGE, .params = params};
    assert_same("vocabularies", &draw);
    free(logits);
}

/* The last id, or the last tie, at each border: in and out. */
static void test_cuda_sample__cuts_the_typical_at_their_borders(void **state)
{
    static const struct {
        float logits[4];
        uint32_t n, top_k;
        float typical_p;
    } cases[] = {
        {{0.0f, -0.1f}, 2, 1, 0.99f},        /* left out by top_k alone */
        {{-0.1f, -0.1f, 0.0f}, 3, 2, 0.99f}, /* a tie that top_k leaves out */
        {{0.0f, -0.2f, -0.2f}, 3, 0, 0.4f},  /* the mean lacks nobody */
        {{0.0f, -0.5f}, 2, 0, 0.5f},         /* beyond the last distance */
        {{0.0f, 0.0f}, 2, 0, 0.4f},          /* a tie too many */
        {{0.0f, 0.0f, 0.0f, 0.0f}, 4, 0, 0.5f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sample_params params = plain;
        params.top_k = cases[i].top_k;
        params.typical_p = cases[i].typical_p;
        check_rows(cases[i].logits, cases[i].n, params);
    }
}

static void test_cuda_sample__breaks_ties_by_id(void **state)
{
    enum { N = 1500 };
    float logits[N];
    for (uint32_t i = 0; i < N; i++)
        logits[i] = i % 2 == 0 ? 0.0f : -0.0f; /* all equal, whatever the sign */
    check_logits("ties", logits, N);
    for (uint32_t i = 0; i < N; i++)
        logits[i] = (float)(i * 7 % 5);
    check_logits("ties", logits, N);
    for (uint32_t i = 0; i < N; i++) /* ties among what cannot be drawn */
        logits[i] = i == 1100 ? 1.0f : i % 3 == 0 ? -INFINITY : -1e30f;
    check_logits("ties", logits, N);

    static const float pair[2] = {0.0f, 0.0f}; /* the last id is the last tie that is kept */
    struct sample_params params = plain;
    params.top_p = 0.99f;
    check_rows(pair, 2, params);
}

/* Beside a logit of 0. */
static uint64_t mass_of(float logit)
{
    return cpu_sample_mass(cpu_exp2(logit * LOG2_E));
}

/* The greatest logit from -40 to `most` whose mass is at most that. */
static float logit_of_mass(float most, uint64_t mass)
{
    float least = -40.0f;
    if (mass_of(most) <= mass)
        return most;
    while (nextafterf(least, 0.0f) < most) {
        float middle = least + (most - least) / 2;
        bool fits = mass_of(middle) <= mass;
        *(fits ? &least : &most) = middle;
    }
    return least;
}

/* What is within 8 of the best lacks just one of what is wanted: a token, and then a mass of 1. */
static void test_cuda_sample__looks_beyond_the_nearest_logits(void **state)
{
    enum { N = 5003, NEAR = 9 };
    struct sample_params params = plain;
    float logits[N];
    for (uint32_t i = 0; i < N; i++)
        logits[i] = i % 500 == 7 && i < NEAR * 500 ? -0.1f * (float)(i / 500) : -8.5f;
    params.top_k = NEAR + 1;
    check_rows(logits, N, params);

    uint64_t left = mass_of(0.0f) + 2; /* half of all is one more than the first */
    logits[0] = 0.0f;
    for (uint32_t i = 1; i < N; i++) {
        logits[i] = left > 0 ? logit_of_mass(-8.1f, left) : -40.0f;
        left -= mass_of(logits[i]);
    }
    assert_int_equal(left, 0);
    params.top_k = 0;
    params.top_p = 0.5f;
    check_rows(logits, N, params);
}

/* More banned ids than a block has threads, each the likeliest; then the last id of a strip. */
static void test_cuda_sample__never_draws_what_is_banned(void **state)
{
    enum { N = 2048, N_BANNED = N / 7 + 2, ROWS = 8, STRIP_LAST = 1023 };
    struct sample_params params[ROWS];
    uint32_t banned[N_BANNED];
    float *logits = random_floats(ROWS * N, 11, 3.0f);
    for (uint32_t i = 0; i < N_BANNED; i++)
        banned[i] = i == 0 ? STRIP_LAST + 1 : 7 * (i - 1);
    for (uint32_t r = 0; r < ROWS; r++) {
        params[r] = plain;
        params[r].mask_banned = 1;
        params[r].seed = r;
        params[r].temperature = r % 2 == 0 ? 0.0f : 1.0f;
        for (uint32_t i = 0; i < N_BANNED; i++)
            logits[r * N + banned[i]] = 1000.0f + (float)(i * (r + 1) % 31);
        logits[r * N + STRIP_LAST] = r < 2 ? 900.0f : 0.0f;
    }
    struct draw draw = {.logits = logits,
                        .n_rows = ROWS,
                        .vocabulary = N,
                        .params = params,
                        .banned = banned,
                        .n_banned = N_BANNED};
    assert_same("banned", &draw);
    free(logits);
}

/* As many biases as may be, more than a block has threads, up to a strip's last id; those of the
 * rows stand behind each other. */
static void test_cuda_sample__adds_every_bias(void **state)
{
    enum { N = 2048, ROWS = 3 };
    struct sample_params params[ROWS];
    struct sample_bias biases[ROWS * LOGIT_BIASES_MAX];
    float *logits = random_floats(ROWS * N, 13, 3.0f);
    for (uint32_t r = 0; r < ROWS; r++) {
        params[r] = plain;
        params[r].seed = r;
        params[r].first_bias = r * LOGIT_BIASES_MAX;
        params[r].n_biases = LOGIT_BIASES_MAX;
        params[r].want_logprob = 1;
        params[r].temperature = 0.0f;
        for (uint32_t i = 0; i < LOGIT_BIASES_MAX; i++)
            biases[r * LOGIT_BIASES_MAX + i] = (struct sample_bias){i * 6 + r, -50.0f};
    }
    biases[LOGIT_BIASES_MAX - 1] = (struct sample_bias){1024, 1e4f}; /* each the last of its row */
    biases[2 * LOGIT_BIASES_MAX - 1] = (struct sample_bias){1023, 1e4f};
    biases[3 * LOGIT_BIASES_MAX - 1] = (struct sample_bias){N - 1, 1e4f};
    biases[LOGIT_BIASES_MAX] = (struct sample_bias){1024, -1000.0f}; /* not the row's before */
    biases[2 * LOGIT_BIASES_MAX] = (struct sample_bias){1023, -1000.0f};
    struct draw draw = {.logits = logits,
                        .n_rows = ROWS,
                        .vocabulary = N,
                        .params = params,
                        .biases = biases,
                        .n_biases = ROWS * LOGIT_BIASES_MAX};
    assert_same("biases", &draw);
    free(logits);
}

/* A mask of few, the others the likeliest; two masks, the last bit of each a strip's. */
static void test_cuda_sample__draws_what_a_mask_leaves(void **state)
{
    enum { N = 2048 + 7, ROWS = 6 };
    struct sample_params params[ROWS];
    uint32_t masks[2 * MASK_WORDS(N)] = {0};
    float *logits = random_floats(ROWS * N, 17, 3.0f);
    static const uint32_t allowed[2][4] = {{0, 31, 1023, 2048}, {32, 1024, 2047, N - 1}};
    for (uint32_t m = 0; m < 2; m++)
        for (uint32_t i = 0; i < 4; i++)
            masks[m * MASK_WORDS(N) + allowed[m][i] / 32] |= 1u << allowed[m][i] % 32;
    for (uint32_t r = 0; r < ROWS; r++) {
        params[r] = plain;
        params[r].seed = r;
        params[r].mask_slot = (int32_t)(r % 2);
        params[r].temperature = r < 2 ? 0.0f : 2.0f;
        params[r].top_k = r == 4 ? 3 : 0;
        params[r].top_p = r == 5 ? 0.6f : 1.0f;
        params[r].n_top = 3;
        params[r].want_logprob = 1;
        for (uint32_t i = 0; i < 4; i++)
            logits[r * N + allowed[r % 2][i]] -= 30.0f;
    }
    struct draw draw = {.logits = logits,
                        .n_rows = ROWS,
                        .vocabulary = N,
                        .params = params,
                        .masks = masks,
                        .n_masks = 2};
    assert_same("masks", &draw);
    free(logits);
}

static void test_cuda_sample__a_row_does_not_depend_on_the_others(void **state)
{
    struct crowd *crowd = make_crowd();
    struct sample_result *together = malloc(N_ROWS * sizeof *together), alone;
    assert_int_equal(sample_by(&cuda, &crowd->draw, together), STATUS_OK);
    for (uint32_t r = 0; r < N_ROWS; r += 7) {
        struct draw one = crowd->draw;
        one.logits += (size_t)r * VOCABULARY;
        one.params += r;
        one.n_rows = 1;
        assert_int_equal(sample_by(&cuda, &one, &alone), STATUS_OK);
        assert_memory_equal(&alone, &together[r], sizeof alone);
    }
    free(together);
    free(crowd);
}

static int status_of(const struct device_options *options, const float *logits, uint32_t n,
                     struct sample_params params, const uint32_t *counts)
{
    struct sample_result result;
    uint32_t banned = 0;
    struct draw draw = {.logits = logits,
                        .n_rows = 1,
                        .vocabulary = n,
                        .params = &params,
                        .counts = counts,
                        .n_slots = counts != NULL ? 1 : 0,
                        .banned = &banned,
                        .n_banned = 1};
    return sample_by(options, &draw, &result);
}

static void test_cuda_sample__fails_where_the_cpu_does(void **state)
{
    struct sample_params greedy = plain, masked = plain, told = plain, counted = plain;
    greedy.temperature = 0.0f;
    masked.mask_banned = 1;
    told.mask_banned = told.want_logprob = 1;
    counted.repetition = 1.5f;
    counted.count_slot = 0; /* and there are no counts */
    struct sample_params tired = counted, maskless = plain, biased = plain, beyond = plain;
    tired.repetition = 1.0f;
    tired.presence = 0.5f;
    maskless.mask_slot = 0; /* nor masks, nor biases */
    biased.n_biases = 1;
    beyond.first_bias = 1;
    const float fine[] = {1.0f, 2.0f}, nan_first[] = {NAN, 2.0f}, nan_last[] = {1.0f, -NAN},
                infinite[] = {1.0f, INFINITY}, none[] = {-INFINITY, -INFINITY},
                only_banned[] = {1.0f, -INFINITY};
    const struct {
        const float *logits;
        struct sample_params params;
        int status;
    } cases[] = {
        {fine, plain, STATUS_OK},
        {fine, counted, STATUS_INTERNAL},
        {fine, tired, STATUS_INTERNAL},
        {fine, maskless, STATUS_INTERNAL},
        {fine, biased, STATUS_INTERNAL},
        {fine, beyond, STATUS_OK}, /* of no biases */
        {nan_first, plain, STATUS_INTERNAL},
        {nan_first, masked, STATUS_OK},
        {nan_first, told, STATUS_INTERNAL},
        {nan_last, plain, STATUS_INTERNAL},
        {nan_last, greedy, STATUS_INTERNAL},
        {infinite, plain, STATUS_INTERNAL},
        {none, greedy, STATUS_INTERNAL},
        {only_banned, plain, STATUS_OK},
        {only_banned, masked, STATUS_INTERNAL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int of_cpu = status_of(&cpu, cases[i].logits, 2, cases[i].params, NULL);
        int of_cuda = status_of(&cuda, cases[i].logits, 2, cases[i].params, NULL);
        assert_int_equal(of_cpu, cases[i].status);
        assert_int_equal(of_cuda, cases[i].status);
    }
}

/* -1: no slot. */
static void test_cuda_sample__knows_the_slots_of_counts(void **state)
{
    const float logits[] = {1.0f, 2.0f};
    const uint32_t counts[] = {1, 0};
    struct sample_params params = plain;
    params.repetition = 1.5f;
    for (params.count_slot = -1; params.count_slot < 2; params.count_slot++) {
        int status = params.count_slot < 1 ? STATUS_OK : STATUS_INTERNAL;
        assert_int_equal(status_of(&cpu, logits, 2, params, counts), status);
        assert_int_equal(status_of(&cuda, logits, 2, params, counts), status);
    }
}

static void test_cuda_sample__has_the_bits_of_the_cpu_for_a_models_vocabulary(void **state)
{
    enum { MODEL = 128256 };
    float *logits = random_floats(MODEL, 3, 6.0f);
    check_logits("medium", logits, MODEL);
    free(logits);
}

int main(void)
{
    const struct CMUnitTest tails[] = {
        cmocka_unit_test(test_cuda_sample__has_the_bits_of_the_cpu_for_every_mix_of_settings),
        cmocka_unit_test(test_cuda_sample__takes_any_vocabulary),
        cmocka_unit_test(test_cuda_sample__takes_a_large_vocabulary),
        cmocka_unit_test(test_cuda_sample__cuts_the_typical_at_their_borders),
        cmocka_unit_test(test_cuda_sample__breaks_ties_by_id),
        cmocka_unit_test(test_cuda_sample__looks_beyond_the_nearest_logits),
        cmocka_unit_test(test_cuda_sample__never_draws_what_is_banned),
        cmocka_unit_test(test_cuda_sample__adds_every_bias),
        cmocka_unit_test(test_cuda_sample__draws_what_a_mask_leaves),
        cmocka_unit_test(test_cuda_sample__a_row_does_not_depend_on_the_others),
        cmocka_unit_test(test_cuda_sample__fails_where_the_cpu_does),
        cmocka_unit_test(test_cuda_sample__knows_the_slots_of_counts),
    };
    const struct CMUnitTest medium[] = {
        cmocka_unit_test(test_cuda_sample__has_the_bits_of_the_cpu_for_a_models_vocabulary),
    };
    return twin_has_cuda() ? matrix_run(tails, sizeof tails / sizeof *tails, medium,
                                        sizeof medium / sizeof *medium)
                           : TWIN_SKIPPED;
}
