/* Counting tokens for penalties, on the CPU. */
#include "tests/kernels/twin_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/status.h"

#define VOCABULARY 10
#define SLOTS 3

static struct count_args args_of(struct twin *twin, const struct row_input *inputs,
                                 const uint32_t *slots, uint32_t n_rows)
{
    struct sample_result sampled[2] = {{.id = 4}, {.id = 9}};
    uint32_t counts[SLOTS * VOCABULARY];
    for (uint32_t i = 0; i < SLOTS * VOCABULARY; i++)
        counts[i] = 4;
    return (struct count_args){
        .counts = twin_upload(twin, counts, sizeof counts),
        .vocabulary = VOCABULARY,
        .n_slots = SLOTS,
        .inputs = twin_upload(twin, inputs, n_rows * sizeof *inputs),
        .sampled = twin_upload(twin, sampled, sizeof sampled),
        .slots = twin_upload(twin, slots, n_rows * sizeof *slots),
        .n_rows = n_rows,
    };
}

static void test_count__adds_up_the_tokens_of_its_slot(void **state)
{
    static const struct row_input inputs[] = {{ROW_TOKEN, 1},   {ROW_TOKEN, 9},   {ROW_TOKEN, 1},
                                              {ROW_SAMPLED, 0}, {ROW_SAMPLED, 1}, {ROW_VECTOR, 7},
                                              {ROW_TOKEN, 0},   {ROW_TOKEN, 99}};
    static const uint32_t slots[] = {1, 1 | COUNT_OUTPUT, 1, 1 | COUNT_OUTPUT,
                                     1 | COUNT_OUTPUT, 1, 2, COUNT_NONE};
    /* the prompt has 1; the output has 9 once, and what was sampled */
    static const uint32_t wanted[VOCABULARY] = {4, 5, 4, 4, 6, 4, 4, 4, 4, 8};
    struct twin twin = twin_open(BACKEND_CPU);
    struct count_args args = args_of(&twin, inputs, slots, 8);

    twin.ops->count(twin.stream, &args);

    assert_int_equal(twin_run(&twin), STATUS_OK);
    uint32_t *counts = twin_download(&twin, args.counts, SLOTS * VOCABULARY * sizeof *counts);
    for (uint32_t i = 0; i < VOCABULARY; i++) {
        assert_int_equal(counts[i], 4);
        assert_int_equal(counts[VOCABULARY + i], wanted[i]);
        assert_int_equal(counts[2 * VOCABULARY + i], i == 0 ? 5 : 4);
    }
    free(counts);
    twin_close(&twin);
}

static void test_count__begins_again_at_zero_in_one_slot(void **state)
{
    static const struct row_input input = {ROW_TOKEN, 3};
    static const uint32_t slot = 1;
    struct twin twin = twin_open(BACKEND_CPU);
    struct count_args args = args_of(&twin, &input, &slot, 1);

    twin.ops->count_zero(twin.stream, &(struct count_zero_args){args.counts, VOCABULARY, slot});
    twin.ops->count(twin.stream, &args);

    assert_int_equal(twin_run(&twin), STATUS_OK);
    uint32_t *counts = twin_download(&twin, args.counts, SLOTS * VOCABULARY * sizeof *counts);
    for (uint32_t i = 0; i < VOCABULARY; i++) {
        assert_int_equal(counts[i], 4);
        assert_int_equal(counts[VOCABULARY + i], i == 3);
        assert_int_equal(counts[2 * VOCABULARY + i], 4);
    }
    free(counts);
    twin_close(&twin);
}

static void test_count__a_slot_takes_the_counts_of_another(void **state)
{
    static const struct row_input input = {ROW_TOKEN, 3};
    static const uint32_t slot = 1;
    struct twin twin = twin_open(BACKEND_CPU);
    struct count_args args = args_of(&twin, &input, &slot, 1);

    twin.ops->count_zero(twin.stream, &(struct count_zero_args){args.counts, VOCABULARY, slot});
    twin.ops->count(twin.stream, &args);
    twin.ops->count_copy(twin.stream, &(struct count_copy_args){args.counts, VOCABULARY, 1, 2});

    assert_int_equal(twin_run(&twin), STATUS_OK);
    uint32_t *counts = twin_download(&twin, args.counts, SLOTS * VOCABULARY * sizeof *counts);
    for (uint32_t i = 0; i < VOCABULARY; i++) {
        assert_int_equal(counts[i], 4);
        assert_int_equal(counts[VOCABULARY + i], i == 3);
        assert_int_equal(counts[2 * VOCABULARY + i], i == 3);
    }
    free(counts);
    twin_close(&twin);
}

static int status_of(struct row_input input, uint32_t slot)
{
    struct twin twin = twin_open(BACKEND_CPU);
    struct count_args args = args_of(&twin, &input, &slot, 1);
    twin.ops->count(twin.stream, &args);
    int status = twin_run(&twin);
    twin_close(&twin);
    return status;
}

static void test_count__what_has_no_place_sticks(void **state)
{
    assert_int_equal(status_of((struct row_input){ROW_TOKEN, VOCABULARY}, 1), STATUS_OUT_OF_RANGE);
    assert_int_equal(status_of((struct row_input){ROW_TOKEN, VOCABULARY - 1}, 1), STATUS_OK);
    assert_int_equal(status_of((struct row_input){ROW_TOKEN, 1}, SLOTS), STATUS_INTERNAL);
    assert_int_equal(status_of((struct row_input){77, 1}, 1), STATUS_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_count__adds_up_the_tokens_of_its_slot),
        cmocka_unit_test(test_count__begins_again_at_zero_in_one_slot),
        cmocka_unit_test(test_count__a_slot_takes_the_counts_of_another),
        cmocka_unit_test(test_count__what_has_no_place_sticks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
