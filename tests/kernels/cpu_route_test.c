#include "tests/kernels/isa_fixture.h"
#include "tests/kernels/linear_fixture.h"
#include "tests/kernels/route_fixture.h"
#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define N_ROWS 24

static struct routed run(enum isa isa, int n_threads, const struct route_rule *rule,
                         const float *logits, const float *bias, uint32_t n_rows)
{
    struct rig rig = rig_open(isa, ACTIVATIONS_16, n_threads);
    struct routed routed = route_run(rig.device, rule, logits, bias, n_rows);
    rig_close(&rig);
    return routed;
}

/* --- the rules in doubles, by counting who is better --- */

static uint32_t rank_of(const double *values, const bool *is_in, uint32_t n, uint32_t idx)
{
    uint32_t rank = 0;
    for (uint32_t i = 0; i < n; i++)
        if (is_in[i] && (values[i] > values[idx] || (values[i] == values[idx] && i < idx)))
            rank++;
    return rank;
}

static double group_worth(const double *choice, uint32_t n, uint32_t n_best)
{
    double best = -INFINITY, pair = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        best = fmax(best, choice[i]);
        for (uint32_t j = 0; j < i; j++)
            pair = fmax(pair, choice[i] + choice[j]);
    }
    return n_best == 2 && n > 1 ? pair : best;
}

struct expected {
    uint32_t experts[64];
    double weights[64];
    double margin; /* how much the choice of an expert or group is decided by, at least */
};

/* The least part by which one that is chosen differs from another that is not equal to it. */
static double margin_of(const double *values, const bool *is_chosen, uint32_t n, double size)
{
    double margin = INFINITY;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n && is_chosen[i]; j++)
            if (values[i] != values[j])
                margin = fmin(margin, fabs(values[i] - values[j]) /
                                          (fmax(fabs(values[i]), fabs(values[j])) + size));
    return margin;
}

static struct expected expected_of(const struct route_rule *rule, const float *z, const float *bias)
{
    static double scores[MODEL_EXPERTS_MAX], choice[MODEL_EXPERTS_MAX], groups[MODEL_EXPERTS_MAX];
    bool is_in[MODEL_EXPERTS_MAX], is_chosen[MODEL_EXPERTS_MAX], is_group[MODEL_EXPERTS_MAX];
    uint32_t n = rule->n_experts, size = n / rule->n_groups;
    double total = 0, sum = 0, bias_size = bias != NULL ? 4 : 0;
    struct expected want;

    for (uint32_t e = 0; e < n; e++)
        total += exp(z[e]);
    for (uint32_t e = 0; e < n; e++) {
        scores[e] = rule->score == ROUTE_SOFTMAX ? exp(z[e]) / total : 1 / (1 + exp(-z[e]));
        choice[e] = (rule->chooses_by_logit ? z[e] : scores[e]) + (bias != NULL ? bias[e] : 0);
    }
    for (uint32_t g = 0; g < rule->n_groups; g++) {
        groups[g] = group_worth(choice + g * size, size, rule->group_best);
        is_group[g] = true;
    }
    for (uint32_t e = 0; e < n; e++)
        is_in[e] = rank_of(groups, is_group, rule->n_groups, e / size) < rule->n_groups_used;
    for (uint32_t e = 0; e < n; e++) {
        uint32_t rank = is_in[e] ? rank_of(choice, is_in, n, e) : n;
        is_chosen[e] = rank < rule->n_used;
        if (is_chosen[e]) {
            want.experts[rank] = e;
            want.weights[rank] = scores[e];
            sum += scores[e];
        }
    }
    for (uint32_t i = 0; i < rule->n_used; i++)
        want.weights[i] *= (rule->normalise ? 1 / fmax(sum, 0x1p-14) : 1) * rule->scale;
    want.margin = margin_of(choice, is_chosen, n, bias_size);
    for (uint32_t g = 0; g < rule->n_groups; g++)
        is_group[g] = is_in[g * size];
    want.margin = fmin(want.margin, margin_of(groups, is_group, rule->n_groups, bias_size));
    return want;
}

/* Where doubles and floats could choose differently, a row is passed over: few are. */
static uint32_t check_rows(const struct route_rule *rule, const float *logits, const float *bias,
                           const struct routed *got)
{
    uint32_t n_checked = 0;
    for (uint32_t r = 0; r < N_ROWS; r++) {
        struct expected want = expected_of(rule, logits + r * rule->n_experts, bias);
        if (want.margin < 1e-6)
            continue;
        n_checked++;
        for (uint32_t i = 0; i < rule->n_used; i++) {
            float weight = got->weights[r * rule->n_used + i];
            assert_int_equal(got->experts[r * rule->n_used + i], want.experts[i]);
            assert_true(fabs(weight - want.weights[i]) <= 2e-6 * fabs(want.weights[i]) + 1e-9);
        }
    }
    return n_checked;
}

static void test_cpu_route__chooses_and_weighs_as_the_rule_says(void **state)
{
    uint32_t n_checked = 0;
    for (int i = 0; i < ROUTE_RULES; i++)
        for (int has_bias = 0; has_bias < 2; has_bias++) {
            struct route_rule rule = route_rule_of(i);
            float *logits = route_logits(&rule, N_ROWS, 5 + (uint64_t)i);
            float *bias = has_bias ? route_logits(&rule, 1, 77) : NULL;
            struct routed got = run(ISA_SCALAR, 1, &rule, logits, bias, N_ROWS);
            assert_int_equal(got.status, STATUS_OK);
            n_checked += check_rows(&rule, logits, bias, &got);
            routed_free(&got);
            free(logits);
            free(bias);
        }
    assert_true(n_checked > ROUTE_RULES * 2 * N_ROWS / 2);
}

static void check_isa(enum isa isa)
{
    for (int i = 0; i < ROUTE_RULES; i++) {
        struct route_rule rule = route_rule_of(i);
        float *logits = route_logits(&rule, N_ROWS, 31), *bias = route_logits(&rule, 1, 32);
        size_t n = (size_t)N_ROWS * rule.n_used;
        struct routed want = run(ISA_SCALAR, 1, &rule, logits, i % 2 == 0 ? bias : NULL, N_ROWS);
        struct routed got = run(isa, 3, &rule, logits, i % 2 == 0 ? bias : NULL, N_ROWS);
        assert_memory_equal(want.experts, got.experts, n * sizeof *want.experts);
        assert_memory_equal(want.weights, got.weights, n * sizeof *want.weights);
        routed_free(&want);
        routed_free(&got);
        free(logits);
        free(bias);
    }
}

static void test_cpu_route__avx2_equals_scalar_to_the_bit(void **state)
{
    if (isa_is_skipped(ISA_AVX2))
        skip();
    check_isa(ISA_AVX2);
}

static void test_cpu_route__avx512_equals_scalar_to_the_bit(void **state)
{
    if (isa_is_skipped(ISA_AVX512))
        skip();
    check_isa(ISA_AVX512);
}

static void test_cpu_route__a_row_is_the_same_alone(void **state)
{
    for (int i = 0; i < ROUTE_RULES; i++) {
        struct route_rule rule = route_rule_of(i);
        float *logits = route_logits(&rule, N_ROWS, 9);
        struct routed all = run(ISA_AUTO, 2, &rule, logits, NULL, N_ROWS);
        for (uint32_t r = 0; r < N_ROWS; r += 7) {
            struct routed one = run(ISA_AUTO, 1, &rule, logits + r * rule.n_experts, NULL, 1);
            size_t bytes = rule.n_used * sizeof(float);
            assert_memory_equal(one.experts, all.experts + r * rule.n_used, bytes);
            assert_memory_equal(one.weights, all.weights + r * rule.n_used, bytes);
            routed_free(&one);
        }
        routed_free(&all);
        free(logits);
    }
}

static void test_cpu_route__of_equal_ones_the_lower_index_comes_first(void **state)
{
    float equal[160] = {0};
    for (int i = 0; i < ROUTE_RULES; i++) {
        struct route_rule rule = route_rule_of(i);
        if (rule.n_experts > 160)
            continue;
        struct routed got = run(ISA_AUTO, 1, &rule, equal, NULL, 1);
        for (uint32_t slot = 0; slot < rule.n_used; slot++)
            assert_int_equal(got.experts[slot], slot);
        routed_free(&got);
    }
}

/* The scores of both are 1; the logits are not equal. */
static void test_cpu_route__by_logit_where_scores_end(void **state)
{
    struct route_rule rule = route_rule_of(3);
    float logits[16] = {30, 2, 90, 60};
    struct routed got = run(ISA_AUTO, 1, &rule, logits, NULL, 1);
    assert_int_equal(got.experts[0], 2);
    assert_true(got.weights[0] == 1);
    routed_free(&got);
    rule.chooses_by_logit = false;
    got = run(ISA_AUTO, 1, &rule, logits, NULL, 1);
    assert_int_equal(got.experts[0], 0);
    routed_free(&got);
}

/* Group 0 has the best expert, group 1 the two that are better together. */
static void test_cpu_route__a_group_is_worth_its_best_or_its_two_best(void **state)
{
    struct route_rule rule = {6, 1, 2, 1, 2, ROUTE_SIGMOID, false, false, 1};
    float logits[6] = {3, -3, -3, 2, 2, -9};
    struct routed got = run(ISA_AUTO, 1, &rule, logits, NULL, 1);
    assert_int_equal(got.experts[0], 3);
    routed_free(&got);
    rule.group_best = 1;
    got = run(ISA_AUTO, 1, &rule, logits, NULL, 1);
    assert_int_equal(got.experts[0], 0);
    routed_free(&got);
}

static void test_cpu_route__a_nan_sticks_and_names_experts_that_are_there(void **state)
{
    static const enum isa isas[] = {ISA_SCALAR, ISA_AVX2, ISA_AVX512};
    for (size_t i = 0; i < 3 * ROUTE_RULES; i++) {
        struct route_rule rule = route_rule_of((int)(i / 3));
        if (!isa_is_available(isas[i % 3]))
            continue;
        float *logits = route_logits(&rule, 3, 4);
        logits[rule.n_experts + rule.n_experts / 2] = NAN;
        struct routed got = run(isas[i % 3], 2, &rule, logits, NULL, 3);
        assert_int_equal(got.status, STATUS_INTERNAL);
        for (uint32_t slot = 0; slot < rule.n_used; slot++) {
            assert_int_equal(got.experts[rule.n_used + slot], slot);
            assert_true(got.weights[rule.n_used + slot] == 0);
        }
        routed_free(&got);
        free(logits);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_route__chooses_and_weighs_as_the_rule_says),
        cmocka_unit_test(test_cpu_route__avx2_equals_scalar_to_the_bit),
        cmocka_unit_test(test_cpu_route__avx512_equals_scalar_to_the_bit),
        cmocka_unit_test(test_cpu_route__a_row_is_the_same_alone),
        cmocka_unit_test(test_cpu_route__of_equal_ones_the_lower_index_comes_first),
        cmocka_unit_test(test_cpu_route__by_logit_where_scores_end),
        cmocka_unit_test(test_cpu_route__a_group_is_worth_its_best_or_its_two_best),
        cmocka_unit_test(test_cpu_route__a_nan_sticks_and_names_experts_that_are_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
