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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequence__only_the_arrows_of_the_table_are_legal),
        cmocka_unit_test(test_sequence__counts_and_times_hang_on_the_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
