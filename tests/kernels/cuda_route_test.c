/* The CUDA op: the bits of the CPU's. */
#include "tests/kernels/matrix_fixture.h"
#include "tests/kernels/route_fixture.h"
#include "tests/kernels/twin_fixture.h"
#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

static struct routed run(enum backend backend, const struct route_rule *rule, const float *logits,
                         const float *bias, uint32_t n_rows)
{
    struct twin twin = twin_open(backend);
    struct routed routed = route_run(twin.device, rule, logits, bias, n_rows);
    twin_close(&twin);
    return routed;
}

static void assert_as_the_cpu(const struct route_rule *rule, const float *logits, const float *bias,
                              uint32_t n_rows, int status, const char *shapes)
{
    size_t n = (size_t)n_rows * rule->n_used;
    struct routed want = run(BACKEND_CPU, rule, logits, bias, n_rows);
    struct routed got = run(BACKEND_CUDA, rule, logits, bias, n_rows);
    assert_int_equal(want.status, status);
    assert_int_equal(got.status, status);
    assert_memory_equal(want.experts, got.experts, n * sizeof *want.experts);
    assert_memory_equal(want.weights, got.weights, n * sizeof *want.weights);
    routed_free(&want);
    routed_free(&got);
    matrix_passed("route", rule->score == ROUTE_SOFTMAX ? "soft" : "sigm", shapes);
}

static void check_rules(uint32_t n_rows, const char *shapes)
{
    for (int i = 0; i < ROUTE_RULES; i++) {
        struct route_rule rule = route_rule_of(i);
        float *logits = route_logits(&rule, n_rows, 11 + (uint64_t)i);
        float *bias = route_logits(&rule, 1, 23);
        assert_as_the_cpu(&rule, logits, NULL, n_rows, STATUS_OK, shapes);
        if (n_rows <= 3)
            assert_as_the_cpu(&rule, logits, bias, n_rows, STATUS_OK, shapes);
        free(logits);
        free(bias);
    }
}

static void test_cuda_route__chooses_and_weighs_as_the_cpu(void **state)
{
    check_rules(3, "1-3 rows");
}

static void test_cuda_route__of_a_models_rows_chooses_as_the_cpu(void **state)
{
    check_rules(128, "medium");
}

static void test_cuda_route__the_last_expert_may_be_the_best(void **state)
{
    for (int i = 0; i < ROUTE_RULES; i++) {
        struct route_rule rule = route_rule_of(i);
        float *logits = route_logits(&rule, 1, 3);
        for (uint32_t e = 0; e < rule.n_experts; e++)
            logits[e] = 0.01f * (float)e;
        assert_as_the_cpu(&rule, logits, NULL, 1, STATUS_OK, "ascending");
        free(logits);
    }
}

/* Zeros of both signs are equal; infinities are numbers to a sigmoid. */
static void test_cuda_route__ends_of_the_numbers_are_those_of_the_cpu(void **state)
{
    float logits[16] = {-0.0f, 0.0f, -0.0f, 0.0f, -1, -2, -3};
    struct route_rule rule = route_rule_of(3);
    assert_as_the_cpu(&rule, logits, NULL, 1, STATUS_OK, "ends of numbers");
    rule.n_used = 5;
    rule.chooses_by_logit = false;
    assert_as_the_cpu(&rule, logits, NULL, 1, STATUS_OK, "ends of numbers");
    logits[9] = INFINITY;
    logits[11] = -INFINITY;
    logits[12] = 200;
    rule.chooses_by_logit = true;
    assert_as_the_cpu(&rule, logits, NULL, 1, STATUS_OK, "ends of numbers");
    for (int i = 0; i < 16; i++)
        logits[i] = -INFINITY; /* no softmax of that */
    rule.score = ROUTE_SOFTMAX;
    rule.chooses_by_logit = false;
    assert_as_the_cpu(&rule, logits, NULL, 1, STATUS_INTERNAL, "ends of numbers");
}

static void test_cuda_route__a_nan_sticks_and_names_experts_that_are_there(void **state)
{
    for (int i = 0; i < ROUTE_RULES; i++) {
        struct route_rule rule = route_rule_of(i);
        float *logits = route_logits(&rule, 2, 4);
        logits[rule.n_experts + rule.n_experts / 2] = NAN;
        struct routed got = run(BACKEND_CUDA, &rule, logits, NULL, 2);
        assert_int_equal(got.status, STATUS_INTERNAL);
        for (uint32_t slot = 0; slot < rule.n_used; slot++) {
            assert_int_equal(got.experts[rule.n_used + slot], slot);
            assert_true(got.weights[rule.n_used + slot] == 0);
        }
        routed_free(&got);
        free(logits);
        matrix_passed("route", rule.score == ROUTE_SOFTMAX ? "soft" : "sigm", "NaN");
    }
}

int main(void)
{
    const struct CMUnitTest tails[] = {
        cmocka_unit_test(test_cuda_route__chooses_and_weighs_as_the_cpu),
        cmocka_unit_test(test_cuda_route__the_last_expert_may_be_the_best),
        cmocka_unit_test(test_cuda_route__ends_of_the_numbers_are_those_of_the_cpu),
        cmocka_unit_test(test_cuda_route__a_nan_sticks_and_names_experts_that_are_there),
    };
    const struct CMUnitTest medium[] = {
        cmocka_unit_test(test_cuda_route__of_a_models_rows_chooses_as_the_cpu),
    };
    return twin_has_cuda() ? matrix_run(tails, sizeof tails / sizeof *tails, medium,
                                        sizeof medium / sizeof *medium)
                           : TWIN_SKIPPED;
}
