#include "service/timers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct bell {
    struct timer timer;
    struct timers *timers;
    int n_rung;
    int64_t again_ns;     /* arms itself for this when it rings */
    struct bell *silence; /* disarmed when it rings */
};

static int64_t last_due_ns;

static void ring_bell(struct timer *timer)
{
    struct bell *bell = (struct bell *)timer; /* timer is its first field */
    assert_false(timer->armed);
    assert_true(timer->due_ns >= last_due_ns);
    last_due_ns = timer->due_ns;
    bell->n_rung++;
    if (bell->silence != NULL)
        timers_disarm(bell->timers, &bell->silence->timer);
    if (bell->again_ns != 0)
        timers_arm(bell->timers, timer, bell->again_ns);
}

static struct bell bell_of(struct timers *timers)
{
    last_due_ns = 0;
    return (struct bell){.timer = {.fire = ring_bell}, .timers = timers};
}

static void test_timers__fire_when_due_and_not_before(void **state)
{
    struct timers timers = {0};
    struct bell bell = bell_of(&timers);
    assert_int_equal(timers_next_ns(&timers), INT64_MAX);
    timers_arm(&timers, &bell.timer, 100);
    assert_int_equal(timers_next_ns(&timers), 100);
    assert_int_equal(timers_run(&timers, 99), 0);
    assert_int_equal(timers_run(&timers, 100), 1);
    assert_int_equal(timers_run(&timers, 1000), 0);
    assert_int_equal(bell.n_rung, 1);
}

static void test_timers__arming_again_moves_the_timer(void **state)
{
    struct timers timers = {0};
    struct bell a = bell_of(&timers), b = bell_of(&timers);
    timers_arm(&timers, &a.timer, 10);
    timers_arm(&timers, &b.timer, 20);
    timers_arm(&timers, &a.timer, 30);
    assert_int_equal(timers_next_ns(&timers), 20);
    timers_arm(&timers, &a.timer, 5);
    assert_int_equal(timers_next_ns(&timers), 5);
    assert_int_equal(timers_run(&timers, 30), 2);
    assert_int_equal(a.n_rung, 1);
}

static void test_timers__one_that_arms_itself_for_now_waits_for_the_next_run(void **state)
{
    struct timers timers = {0};
    struct bell bell = bell_of(&timers);
    bell.again_ns = 1;
    timers_arm(&timers, &bell.timer, 10);
    assert_int_equal(timers_run(&timers, 50), 1);
    assert_true(bell.timer.armed);
    assert_int_equal(timers_run(&timers, 51), 1);
    timers_disarm(&timers, &bell.timer);
    timers_disarm(&timers, &bell.timer); /* harmless */
}

static void test_timers__a_timer_may_disarm_another_that_is_due(void **state)
{
    struct timers timers = {0};
    struct bell a = bell_of(&timers), b = bell_of(&timers);
    a.silence = &b;
    timers_arm(&timers, &a.timer, 10);
    timers_arm(&timers, &b.timer, 20);
    assert_int_equal(timers_run(&timers, 30), 1);
    assert_int_equal(b.n_rung, 0);
}

static void test_timers__agree_with_a_plain_list_over_random_histories(void **state)
{
    enum { N = 200 };
    static struct bell bells[N];
    struct timers timers = {0};
    int64_t now_ns = 0, due_ns[N];
    srand(5);
    for (int i = 0; i < N; i++) {
        bells[i] = bell_of(&timers);
        due_ns[i] = -1;
    }
    for (int step = 0; step < 20000; step++) {
        int i = rand() % N;
        if (rand() % 4 == 0) {
            timers_disarm(&timers, &bells[i].timer);
            due_ns[i] = -1;
        } else {
            due_ns[i] = now_ns + 1 + rand() % 1000;
            timers_arm(&timers, &bells[i].timer, due_ns[i]);
        }
        int64_t first_ns = INT64_MAX;
        for (int k = 0; k < N; k++)
            if (due_ns[k] >= 0 && due_ns[k] < first_ns)
                first_ns = due_ns[k];
        assert_int_equal(timers_next_ns(&timers), first_ns);
        if (rand() % 8 != 0)
            continue;
        now_ns += rand() % 100;
        int n_due = 0;
        for (int k = 0; k < N; k++)
            if (due_ns[k] >= 0 && due_ns[k] <= now_ns) {
                due_ns[k] = -1;
                n_due++;
            }
        assert_int_equal(timers_run(&timers, now_ns), n_due);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers__fire_when_due_and_not_before),
        cmocka_unit_test(test_timers__arming_again_moves_the_timer),
        cmocka_unit_test(test_timers__one_that_arms_itself_for_now_waits_for_the_next_run),
        cmocka_unit_test(test_timers__a_timer_may_disarm_another_that_is_due),
        cmocka_unit_test(test_timers__agree_with_a_plain_list_over_random_histories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
