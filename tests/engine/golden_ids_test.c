/* The golden greedy ids of the real model (models.md 10.2), through the step thread. */
#include "base/clock.h"
#include "door_fixture.h"
#include "tests/under_tsan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MODEL SOURCE_DIR "/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define N_MAX 48

struct golden {
    uint32_t prompt[40], ids[N_MAX];
};

#define END UINT32_MAX /* of either list */
#define END_OF_ANSWER 2

static const struct golden goldens[] = {
    {{504, 3575, 282, 4649, 314, END},
     {7042, 30, 198, 198, 504, 2988, 314, 42, 216, 34, 32, 33, 40, 29, 32, 33,
      29,   34, 34,  216, 33,  34,   42,  33, 34,  42, 37, 35, 30, 2,  END}},
    {{1,   9690, 198, 2683, 359,   253,  5356, 5646, 11173, 3365, 3511, 308,  34519,
      28,  7018, 411, 407,  19712, 8182, 2,    198,  1,     4093, 198,  1780, 314,
      260, 3575, 282, 4649, 47,    2,    198,  1,    520,   9531, 198,  END},
     {504, 3575, 282, 4649, 314, 7042, 30, 2, END}},
    {{1604, 3987, 46477, 24, 94, 727, 198, END},
     {198, 1604, 3987, 46477, 24,  94,   727,  472,   585,   304,  10204, 216,
      33,  42,   448,  1003,  304, 472,  1745, 42,    448,   1003, 3987,  46477,
      24,  94,   731,  216,   33,  25,   1232, 3987,  46477, 24,   94,    731,
      216, 34,   25,   198,   198, 3272, 24,   38572, 46477, 24,   33,    32}},
};

static uint32_t length_of(const uint32_t *list, uint32_t max)
{
    uint32_t n = 0;
    while (n < max && list[n] != END)
        n++;
    return n;
}

static struct run *send_golden(struct door *door, const struct golden *golden)
{
    uint32_t n = length_of(golden->prompt, 40);
    struct submit *submit = door_submit(0, n, N_MAX);
    memcpy(submit->ids, golden->prompt, n * sizeof *submit->ids);
    return door_send(door, submit);
}

static void assert_goldens(const char *kv_dtype)
{
    if (UNDER_TSAN) { /* which takes most of a minute and a half */
        print_message("skipped: a real model under TSan, whose release build answers too\n");
        skip();
    }
    if (access(MODEL, R_OK) != 0) {
        print_message("skipped: %s is not there (scripts/fetch-model)\n", MODEL);
        skip();
    }
    struct engine_options options = door_options();
    options.model_path = MODEL;
    options.kv_dtype = kv_dtype;
    options.kv_memory_bytes = 256u << 20;
    struct door *door = door_open(&options);
    struct run *runs[3];
    for (int i = 0; i < 3; i++)
        runs[i] = send_golden(door, &goldens[i]); /* all three in the same steps */
    for (int i = 0; i < 3; i++) {
        uint32_t n = length_of(goldens[i].ids, N_MAX);
        bool is_cut = n == N_MAX && goldens[i].ids[n - 1] != END_OF_ANSWER;
        door_until_over(door, runs[i]);
        assert_true(runs[i]->is_finished);
        assert_int_equal(runs[i]->n_ids, n);
        assert_memory_equal(runs[i]->ids, goldens[i].ids, n * sizeof *runs[i]->ids);
        assert_int_equal(runs[i]->finished.reason, is_cut ? FINISH_LENGTH : FINISH_STOP);
    }
    const char *answer = "The capital of France is Paris.";
    assert_int_equal(runs[1]->n_text, strlen(answer));
    assert_memory_equal(runs[1]->text, answer, strlen(answer));
    door_close(door);
}

static void test_golden_ids__with_pages_of_f16(void **state)
{
    assert_goldens("f16");
}

static void test_golden_ids__with_pages_of_f32(void **state)
{
#ifdef __SANITIZE_ADDRESS__ /* it sees the pages of f32 of small models */
    print_message("skipped: f32 pages of a large model, which the build without ASan reads\n");
    skip();
#endif
    assert_goldens("f32");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_ids__with_pages_of_f16),
        cmocka_unit_test(test_golden_ids__with_pages_of_f32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
