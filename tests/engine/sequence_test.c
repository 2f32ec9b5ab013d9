#include "engine/sequence.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* In a child, since an illegal change ends the process. */
static bool may_change(enum sequence_state from, enum sequence_state to)
{
    pid_t child = fork();
    if (child == 0) {
        struct rlimit none = {0, 0};
        struct sequence sequence = {.state = from};
        struct sequence_counts counts = {.n = {0}};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        (void)!freopen("/dev/null", "w", stderr);
        counts.n[from] = 1;
        sequence_set_state(&sequence, to, &counts, 1);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void test_sequence__only_the_arrows_of_the_table_are_legal(void **state)
{
    static const char *const legal[SEQUENCE_STATES] = {
        /* QUEUED WAITING_PAGES PREFILL DECODE PAUSED SPILLED FINISHED */
        [SEQUENCE_QUEUED] = "0110001",   [SEQUENCE_WAITING_PAGES] = "0010001",
        [SEQUENCE_PREFILL] = "0001111",  [SEQUENCE_DECODE] = "0000111",
        [SEQUENCE_PAUSED] = "0001011",   [SEQUENCE_SPILLED] = "0011101",
        [SEQUENCE_FINISHED] = "0000000",
    };
    for (int from = 0; from < SEQUENCE_STATES; from++)
        for (int to = 0; to < SEQUENCE_STATES; to++)
            if (may_change((enum sequence_state)from, (enum sequence_state)to) !=
                (legal[from][to] == '1'))
                fail_msg("%s to %s", sequence_state_name((enum sequence_state)from),
                         sequence_state_name((enum sequence_state)to));
}

static void test_sequence__counts_and_times_hang_on_the_state(void **state)
{
    struct sequence sequence = {.state = SEQUENCE_QUEUED};
    struct sequence_counts counts = {.n = {[SEQUENCE_QUEUED] = 1}};

    sequence_set_state(&sequence, SEQUENCE_PREFILL, &counts, 100);
    sequence_set_state(&sequence, SEQUENCE_DECODE, &counts, 150);
    sequence_set_state(&sequence, SEQUENCE_PAUSED, &counts, 200);
    assert_int_equal(counts.n[SEQUENCE_PAUSED], 1);
    sequence_set_state(&sequence, SEQUENCE_DECODE, &counts, 260);
    sequence_set_state(&sequence, SEQUENCE_PAUSED, &counts, 300);
    sequence_set_state(&sequence, SEQUENCE_FINISHED, &counts, 307);

    assert_int_equal(sequence.started_ns, 100);
    assert_int_equal(sequence.decode_ns, 150);
    assert_int_equal(sequence.paused_ns, 67);
    for (int i = 0; i < SEQUENCE_STATES; i++)
        assert_int_equal(counts.n[i], 0);
}

static void test_sequence__wants_its_prompt_and_then_a_row_at_a_time(void **state)
{
    struct submit submit = {.n_ids = 5};
    struct sequence sequence = {.state = SEQUENCE_PREFILL,
                                .submit = &submit,
                                .promised_output = 3,
                                .n_credit = CALL_CREDIT_EVENTS};

    assert_int_equal(sequence_n_wanted(&sequence), 5);
    sequence.n_launched = 4; /* of which nothing is over */
    assert_true(sequence_is_reading(&sequence));
    assert_int_equal(sequence_n_wanted(&sequence), 1);
    assert_int_equal(sequence_n_drawn(&sequence), 0);
    sequence.n_launched = 5;
    assert_false(sequence_is_reading(&sequence));
    assert_int_equal(sequence_n_drawn(&sequence), 1);
    assert_int_equal(sequence_n_wanted(&sequence), 1); /* the row of a token on the device */
    sequence.n_generated = 1;
    assert_int_equal(sequence_n_drawn(&sequence), 0);
    assert_int_equal(sequence_n_wanted(&sequence), 1);
}

static void test_sequence__wants_nothing_behind_its_known_end_nor_without_a_reader(void **state)
{
    struct submit submit = {.n_ids = 5};
    struct sequence sequence = {.state = SEQUENCE_DECODE,
                                .submit = &submit,
                                .promised_output = 3,
                                .n_launched = 6, /* the second token is under way */
                                .n_generated = 1,
                                .n_credit = 2};

    assert_int_equal(sequence_n_wanted(&sequence), 1);
    sequence.n_credit = 1; /* which the token under way may take */
    assert_int_equal(sequence_n_wanted(&sequence), 0);
    sequence.n_credit = 2;
    sequence.n_launched = 7;
    sequence.n_generated = 2; /* the third, and last, is under way */
    assert_int_equal(sequence_n_drawn(&sequence), 1);
    assert_int_equal(sequence_n_wanted(&sequence), 0);
    sequence.n_launched = 6;
    assert_int_equal(sequence_n_wanted(&sequence), 1);
    static const enum sequence_state idle[] = {SEQUENCE_QUEUED, SEQUENCE_WAITING_PAGES,
                                               SEQUENCE_PAUSED, SEQUENCE_SPILLED,
                                               SEQUENCE_FINISHED};
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++) {
        sequence.state = idle[i];
        assert_int_equal(sequence_n_wanted(&sequence), 0);
    }
}

static void test_sequence__the_estimate_of_a_mask_rises_at_once_and_falls_slowly(void **state)
{
    struct sequence sequence = {.mask_ns = MASK_NS_FIRST};

    sequence_learn_mask(&sequence, MASK_NS_FIRST + 800);
    assert_int_equal(sequence.mask_ns, MASK_NS_FIRST + 800);
    sequence_learn_mask(&sequence, MASK_NS_FIRST);
    assert_int_equal(sequence.mask_ns, MASK_NS_FIRST + 700);
    for (int i = 0; i < 200; i++)
        sequence_learn_mask(&sequence, 0);
    assert_in_range(sequence.mask_ns, 0, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequence__only_the_arrows_of_the_table_are_legal),
        cmocka_unit_test(test_sequence__counts_and_times_hang_on_the_state),
        cmocka_unit_test(test_sequence__wants_its_prompt_and_then_a_row_at_a_time),
        cmocka_unit_test(test_sequence__wants_nothing_behind_its_known_end_nor_without_a_reader),
        cmocka_unit_test(test_sequence__the_estimate_of_a_mask_rises_at_once_and_falls_slowly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
