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
#include "kernels/philox.h"
#include "tests/kernels/isa_fixture.h"

/* The first is published with the generator; the others were made by an independent program that
 * gives all published ones, and pin which word is which. */
static void test_philox__gives_the_published_numbers(void **state)
{
    assert_true(philox(0, 0, 0) == 0xe169c58d6627e8d5u);
    assert_true(philox(0x0123456789abcdef, 5, 0x1122334455667788) == 0xfe3a915b937061ccu);
    assert_true(philox(UINT64_MAX, UINT32_MAX, UINT64_MAX) == 0xe4c1e0f1eec03824u);
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
    for (uint32_t i = 0; i < draw->vocabulary; i++)
        all[i] = (struct candidate){.id = i, .logit = (double)changed_logit(draw, r, i)};
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
        (double)philox(params->seed, params->choice_idx, params->position) * 0x1p-64 * sum;
    uint32_t at = 0;
    while (at + 1 < kept && u >= all[at].mass)
        u -= all[at++].mass;
    uint32_t id = all[at].id;
    free(all);
    return id;
}

static void test_draw__is_what_a_naive_form_draws(void **state)
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

/* --- the definition itself: a sort, and integers --- */

struct ranked {
    uint32_t id;
    float x; /* (logit - best) / temperature, after mask and penalty */
    uint64_t mass;
    float near; /* to the mean surprise: a distance */
};

static int by_x_then_id(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->x != y->x)
        return x->x > y->x ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int ranked_by_id(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* All tokens by (x descending, id ascending). */
static void rank(const struct draw *draw, uint32_t r, struct ranked *all)
{
    float best = -INFINITY;
    for (uint32_t i = 0; i < draw->vocabulary; i++) {
        all[i] = (struct ranked){.id = i, .x = changed_logit(draw, r, i)};
        best = fmaxf(best, all[i].x);
    }
    for (uint32_t i = 0; i < draw->vocabulary; i++) {
        all[i].x = (all[i].x - best) / draw->params[r].temperature + 0.0f;
        all[i].mass = (uint64_t)llrint((double)cpu_exp2(all[i].x * LOG2_E) * 0x1p40);
    }
    qsort(all, draw->vocabulary, sizeof *all, by_x_then_id);
}

static uint64_t mass_of(const struct ranked *all, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += all[i].mass;
    return sum;
}

static int by_near_then_id(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->near != y->near)
        return x->near < y->near ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Of the first n those of the most typical surprises, in the order of rank again; how many. */
static uint32_t keep_typical(struct ranked *all, uint32_t n, float typical_p)
{
    unsigned __int128 weighted = 0;
    uint64_t total = mass_of(all, n), sum = 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n && all[i].mass > 0; i++)
        weighted += (unsigned __int128)all[i].mass * (uint64_t)round(-(double)all[i].x * 65536);
    float mean = -(float)((double)weighted / (double)total / 65536);
    for (uint32_t i = 0; i < n; i++)
        all[i].near = fabsf(all[i].x - mean);
    qsort(all, n, sizeof *all, by_near_then_id);
    for (double need = ceil((double)typical_p * (double)total);
         kept < n && (kept == 0 || sum < (uint64_t)need); kept++)
        sum += all[kept].mass;
    qsort(all, kept, sizeof *all, by_x_then_id);
    return kept;
}

static uint32_t exact_draw(const struct draw *draw, uint32_t r)
{
    const struct sample_params *params = &draw->params[r];
    struct ranked *all = malloc(sizeof *all * draw->vocabulary);
    uint32_t n = draw->vocabulary, id;
    rank(draw, r, all);
    while (params->min_p > 0.0f && (double)all[n - 1].x < log((double)params->min_p))
        n--;
    if (params->top_k > 0 && params->top_k < n)
        n = params->top_k;
    if (params->typical_p > 0.0f && params->typical_p < 1.0f)
        n = keep_typical(all, n, params->typical_p);
    if (params->top_p < 1.0f) {
        double need = fmax(1, ceil((double)params->top_p * (double)mass_of(all, n)));
        uint32_t kept = 1;
        for (uint64_t sum = all[0].mass; kept < n && sum < (uint64_t)need; kept++)
            sum += all[kept].mass;
        n = kept;
    }
    qsort(all, n, sizeof *all, ranked_by_id);
    uint64_t u = philox(params->seed, params->choice_idx, params->position);
    uint64_t left = (uint64_t)((unsigned __int128)u * mass_of(all, n) >> 64);
    uint32_t at = 0;
    while (left >= all[at].mass)
        left -= all[at++].mass;
    id = all[at].id;
    free(all);
    return id;
}

/* For half of them. */
static struct crowd *make_typical_crowd(void)
{
    struct crowd *crowd = make_crowd();
    for (uint32_t i = 0; i < N_ROWS; i += 2)
        crowd->params[i].typical_p = 0.15f + 0.02f * (float)(i % 40);
    return crowd;
}

static void test_draw__is_exactly_the_one_by_integer_masses(void **state)
{
    struct crowd *crowd = make_typical_crowd();
    struct sample_result results[N_ROWS];
    for (int again = 0; again < 5; again++) {
        for (uint32_t i = 0; i < N_ROWS; i++)
            crowd->params[i].position += 77777;
        assert_int_equal(sample_on(ISA_AUTO, 2, &crowd->draw, results), STATUS_OK);
        for (uint32_t i = 0; i < N_ROWS; i++)
            if (crowd->params[i].temperature > 0)
                assert_int_equal(results[i].id, exact_draw(&crowd->draw, i));
    }
    free(crowd);
}

static void
test_draw__is_the_same_on_every_instruction_set_and_any_number_of_threads(void **state)
{
    struct crowd *crowd = make_typical_crowd();
    struct sample_result *truth = calloc(N_ROWS, sizeof *truth),
                         *results = calloc(N_ROWS, sizeof *results);
    assert_int_equal(sample_on(ISA_SCALAR, 1, &crowd->draw, truth), STATUS_OK);
    for (int isa = ISA_SCALAR; isa <= ISA_AVX512; isa++) {
        if (isa_is_skipped((enum isa)isa))
            continue;
        for (int n_threads = 1; n_threads <= 4; n_threads *= 2) {
            assert_int_equal(sample_on((enum isa)isa, n_threads, &crowd->draw, results), STATUS_OK);
            assert_memory_equal(results, truth, N_ROWS * sizeof *results);
        }
    }
    free(truth);
    free(results);
    free(crowd);
}

static void test_draw__follows_the_distribution(void **state)
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox__gives_the_published_numbers),
        cmocka_unit_test(test_draw__is_what_a_naive_form_draws),
        cmocka_unit_test(test_draw__is_exactly_the_one_by_integer_masses),
        cmocka_unit_test(test_draw__is_the_same_on_every_instruction_set_and_any_number_of_threads),
        cmocka_unit_test(test_draw__follows_the_distribution),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
