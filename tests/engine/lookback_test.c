#include "engine/lookback.h"

#include "engine/step_cost.h"
#include "model/layer_plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define CHUNK 8
#define WINDOW 5

static void assert_near(double value, double wanted)
{
    if (fabs(value - wanted) > 1e-12 * fabs(wanted))
        fail_msg("%.12g is not %.12g", value, wanted);
}

/* Two layers of a chunk, one of a window, and the last, which sees everything. */
static struct lookback mixed(void)
{
    struct layer_plan layers[] = {
        {.kv_group = 0}, {.kv_group = 1}, {.kv_group = 0}, {.kv_group = 2}};
    struct model_plan plan = {
        .n_layers = 4,
        .layers = layers,
        .n_groups = 3,
        .groups = {{.kind = KV_CHUNKED, .window = CHUNK, .n_layers = 2},
                   {.kind = KV_SLIDING, .window = WINDOW, .n_layers = 1},
                   {.kind = KV_FULL, .n_layers = 1}},
    };
    struct lookback lookback;
    lookback_of_plan(&plan, &lookback);
    return lookback;
}

/* The same by the words of the header. */
static double seen_by(uint64_t position, bool is_prompt)
{
    double window = position + 1 < WINDOW ? (double)position + 1 : WINDOW;
    double all = 2.0 * (double)(position % CHUNK + 1) + window;
    return (is_prompt ? all : all + (double)position + 1) / 4;
}

static void test_lookback__is_what_each_layer_sees_of_each_row(void **state)
{
    struct lookback lookback = mixed();
    for (uint64_t n_context = 0; n_context < 40; n_context++) {
        double sum = 0;
        assert_near(lookback_decode(&lookback, n_context), seen_by(n_context, false));
        for (uint64_t n_rows = 1; n_rows < 40; n_rows++) {
            sum += seen_by(n_context + n_rows - 1, true);
            assert_near(lookback_prefill(&lookback, n_context, n_rows), sum);
        }
    }
}

static void test_lookback__of_no_groups_sees_everything(void **state)
{
    struct lookback everything = {.n_layers = 0};
    assert_near(lookback_decode(&everything, 99), 100);
    assert_near(lookback_prefill(&everything, 10, 2), 11 + 12);
}

/* A million tokens in chunks cost what a million times one of them does, not the square. */
static void test_lookback__a_long_prompt_in_chunks_costs_by_its_length(void **state)
{
    struct step_cost cost = {.prefill_row_ns = 1, .prefill_token_ns = 1, .lookback = mixed()};
    assert_near(step_cost_prefill(&cost, 0, 1000000 * CHUNK) / step_cost_prefill(&cost, 64, CHUNK),
                1000000 - 10.0 / 4 / (8 + 2 * 36.0 / 4 + 40.0 / 4)); /* the window's first rows */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lookback__is_what_each_layer_sees_of_each_row),
        cmocka_unit_test(test_lookback__of_no_groups_sees_everything),
        cmocka_unit_test(test_lookback__a_long_prompt_in_chunks_costs_by_its_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
