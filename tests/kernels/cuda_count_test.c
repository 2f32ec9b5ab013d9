/* CUDA's counting of tokens against the CPU's, to the bit. */
#include "tests/kernels/matrix_fixture.h"
#include "tests/kernels/twin_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/status.h"

#define VOCABULARY 19
#define SLOTS 5
#define SAMPLED 7
#define ROWS_MAX 700

struct rows {
    struct row_input inputs[ROWS_MAX];
    uint32_t slots[ROWS_MAX];
    uint32_t n;
};

/* All kinds of rows in all slots and in none; so few tokens that many rows name the same. */
static struct rows random_rows(uint32_t n)
{
    struct rows rows = {.n = n};
    uint64_t dice = n + 1;
    for (uint32_t r = 0; r < n; r++) {
        dice = dice * 6364136223846793005u + 1442695040888963407u;
        uint32_t toss = (uint32_t)(dice >> 40), kind = toss % 3;
        rows.inputs[r] = (struct row_input){
            kind == 0 ? ROW_SAMPLED : kind == 1 && toss % 5 == 0 ? ROW_VECTOR : ROW_TOKEN,
            toss / 16 % (kind == 0 ? SAMPLED : VOCABULARY)};
        rows.slots[r] = toss / 1024 % (SLOTS + 1);
        if (rows.slots[r] == SLOTS)
            rows.slots[r] = COUNT_NONE;
        else if (toss / 8192 % 2 == 0)
            rows.slots[r] |= COUNT_OUTPUT;
    }
    return rows;
}

/* The counts, malloc'd, all of which but those of slot `zeroed` began at 3; one more slot has those
 * of another in the end. */
static uint32_t *count(enum backend backend, const struct rows *rows, uint32_t zeroed, int *status)
{
    struct twin twin = twin_open(backend);
    struct sample_result sampled[SAMPLED] = {{.id = 3}, {.id = 18}, {.id = 0}, {.id = 3},
                                             {.id = 7}, {.id = 7},  {.id = 1}};
    uint32_t counts[SLOTS * VOCABULARY];
    for (uint32_t i = 0; i < SLOTS * VOCABULARY; i++)
        counts[i] = 3;
    struct count_args args = {
        .counts = twin_upload(&twin, counts, sizeof counts),
        .vocabulary = VOCABULARY,
        .n_slots = SLOTS,
        .inputs = twin_upload(&twin, rows->inputs, sizeof rows->inputs),
        .sampled = twin_upload(&twin, sampled, sizeof sampled),
        .slots = twin_upload(&twin, rows->slots, sizeof rows->slots),
        .n_rows = rows->n,
    };
    twin.ops->count_zero(twin.stream, &(struct count_zero_args){args.counts, VOCABULARY, zeroed});
    twin.ops->count(twin.stream, &args);
    uint32_t from = (zeroed + 1) % SLOTS, to = (zeroed + 3) % SLOTS;
    twin.ops->count_copy(twin.stream,
                         &(struct count_copy_args){args.counts, VOCABULARY, from, to});
    *status = twin_run(&twin);
    uint32_t *found = twin_download(&twin, args.counts, sizeof counts);
    twin_close(&twin);
    return found;
}

static void test_cuda_count__has_the_numbers_of_the_cpu(void **state)
{
    static const uint32_t n_rows[] = {0, 1, 2, 31, 255, 256, 257, ROWS_MAX};
    for (size_t i = 0; i < sizeof n_rows / sizeof *n_rows; i++) {
        struct rows rows = random_rows(n_rows[i]);
        int status;
        uint32_t *want = count(BACKEND_CPU, &rows, i % SLOTS, &status);
        assert_int_equal(status, STATUS_OK);
        uint32_t *got = count(BACKEND_CUDA, &rows, i % SLOTS, &status);
        assert_int_equal(status, STATUS_OK);
        assert_memory_equal(got, want, SLOTS * VOCABULARY * sizeof *got);
        free(want);
        free(got);
        matrix_passed("count", "u32", "rows");
        matrix_passed("count_zero", "u32", "rows");
        matrix_passed("count_copy", "u32", "rows");
    }
}

static int status_of(struct row_input input, uint32_t slot)
{
    struct rows rows = random_rows(300);
    int status;
    rows.inputs[299] = input;
    rows.slots[299] = slot;
    free(count(BACKEND_CUDA, &rows, 0, &status));
    return status;
}

static void test_cuda_count__what_has_no_place_sticks(void **state)
{
    assert_int_equal(status_of((struct row_input){ROW_TOKEN, VOCABULARY}, 1), STATUS_OUT_OF_RANGE);
    assert_int_equal(status_of((struct row_input){ROW_TOKEN, 1}, SLOTS), STATUS_INTERNAL);
    assert_int_equal(status_of((struct row_input){77, 1}, 1), STATUS_INTERNAL);
    assert_int_equal(status_of((struct row_input){77, 1}, COUNT_NONE), STATUS_OK);
    assert_int_equal(status_of((struct row_input){ROW_TOKEN, VOCABULARY - 1}, 1), STATUS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_count__has_the_numbers_of_the_cpu),
        cmocka_unit_test(test_cuda_count__what_has_no_place_sticks),
    };
    return twin_has_cuda() ? matrix_run(tests, sizeof tests / sizeof *tests, NULL, 0)
                           : TWIN_SKIPPED;
}
