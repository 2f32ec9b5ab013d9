#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/status.h"
#include "base/threads.h"

#define THREADS_MOST 20 /* more than one group of the tree, and not a multiple of eight */

static struct team *team_of(int n_threads, bool pin)
{
    struct team *team;
    struct why why;
    assert_int_equal(team_create(n_threads, pin, &team, &why), STATUS_OK);
    assert_int_equal(team_size(team), n_threads);
    return team;
}

struct visits {
    struct team *team;
    int n_threads, n_barriers;
    int count[THREADS_MOST]; /* plain: the team alone must order them */
    int sum[THREADS_MOST];
    int wrong[THREADS_MOST];
};

static void visit(void *arg, int worker_idx)
{
    struct visits *visits = arg;
    visits->count[worker_idx]++;
}

static void test_team__run_visits_every_worker_once_and_waits_for_all(void **state)
{
    static const int sizes[] = {1, 2, 3, 8, 9, THREADS_MOST};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        struct visits visits = {.n_threads = sizes[s]};
        struct team *team = team_of(sizes[s], false);
        for (int run = 1; run <= 30; run++) {
            team_run(team, visit, &visits);
            for (int i = 0; i < sizes[s]; i++)
                assert_int_equal(visits.count[i], run);
        }
        team_free(team);
    }
}

/* Before each barrier a worker counts up; behind it everyone must see the counts of all. A second
 * barrier keeps the next round out until all have looked. */
static void meet(void *arg, int worker_idx)
{
    struct visits *visits = arg;
    for (int round = 1; round <= visits->n_barriers; round++) {
        visits->count[worker_idx]++;
        team_barrier(visits->team, worker_idx);
        for (int i = 0; i < visits->n_threads; i++)
            visits->wrong[worker_idx] += visits->count[i] != visits->count[worker_idx];
        visits->sum[worker_idx]++;
        team_barrier(visits->team, worker_idx);
    }
}

static void test_team__a_barrier_shows_everyone_what_all_did_before_it(void **state)
{
    static const int sizes[] = {1, 2, 3, 8, 9, 17, THREADS_MOST};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        struct visits visits = {.n_threads = sizes[s], .n_barriers = 100};
        visits.team = team_of(sizes[s], false);
        for (int run = 0; run < 3; run++)
            team_run(visits.team, meet, &visits);
        for (int i = 0; i < sizes[s]; i++) {
            assert_int_equal(visits.wrong[i], 0);
            assert_int_equal(visits.sum[i], 300);
        }
        team_free(visits.team);
    }
}

static void test_team__wakes_workers_that_have_parked(void **state)
{
    struct visits visits = {.n_threads = 4};
    struct team *team = team_of(4, false);
    for (int run = 1; run <= 20; run++) {
        usleep(run % 2 == 0 ? 2000 : 90 + (useconds_t)run); /* long parked, and about to park */
        team_run(team, visit, &visits);
        for (int i = 0; i < 4; i++)
            assert_int_equal(visits.count[i], run);
    }
    team_free(team);
}

static double cpu_seconds(clockid_t clock)
{
    struct timespec spent;
    clock_gettime(clock, &spent);
    return (double)spent.tv_sec + (double)spent.tv_nsec * 1e-9;
}

static void test_team__parks_between_runs(void **state)
{
    struct visits visits = {.n_threads = 4};
    struct team *team = team_of(4, false);
    team_run(team, visit, &visits);
    double before = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
    usleep(200000);
    assert_true(cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - before < 0.05);
    team_free(team);
}

struct wait_for_late {
    struct team *team;
    double seconds; /* of processor time that worker 0 spent in the barrier */
};

static void be_late(void *arg, int worker_idx)
{
    struct wait_for_late *late = arg;
    if (worker_idx == 1)
        usleep(200000);
    double before = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
    team_barrier(late->team, worker_idx);
    if (worker_idx == 0)
        late->seconds = cpu_seconds(CLOCK_THREAD_CPUTIME_ID) - before;
}

/* So that the late one gets the core, should another program hold its own. */
static void test_team__a_long_wait_at_a_barrier_leaves_the_core_to_others(void **state)
{
    struct wait_for_late late = {.team = team_of(2, false), .seconds = -1};
    team_run(late.team, be_late, &late);
    assert_true(late.seconds >= 0 && late.seconds < 0.05);
    team_free(late.team);
}

static void test_team__is_freed_before_any_run(void **state)
{
    for (int n = 1; n <= 9; n++)
        team_free(team_of(n, n % 2 == 0));
    team_free(NULL);
}

struct placement {
    cpu_set_t masks[THREADS_MOST];
    sigset_t signals[THREADS_MOST];
};

static void note_placement(void *arg, int worker_idx)
{
    struct placement *placement = arg;
    sched_getaffinity(0, sizeof placement->masks[0], &placement->masks[worker_idx]);
    pthread_sigmask(SIG_SETMASK, NULL, &placement->signals[worker_idx]);
}

static void test_team__pins_its_workers_and_leaves_the_caller_alone(void **state)
{
    cpu_set_t before;
    int cores[CPU_SETSIZE], n_cores = 0;
    sched_getaffinity(0, sizeof before, &before);
    for (int core = 0; core < CPU_SETSIZE; core++) {
        if (CPU_ISSET(core, &before))
            cores[n_cores++] = core;
    }
    static struct placement placement;
    struct team *team = team_of(5, true);
    team_run(team, note_placement, &placement);
    team_free(team);
    assert_true(CPU_EQUAL(&placement.masks[0], &before));
    for (int i = 1; i < 5; i++) {
        assert_int_equal(CPU_COUNT(&placement.masks[i]), 1);
        assert_true(CPU_ISSET(cores[i % n_cores], &placement.masks[i]));
    }
}

static void test_team__workers_leave_signals_to_others(void **state)
{
    static struct placement placement;
    struct team *team = team_of(3, false);
    team_run(team, note_placement, &placement);
    team_free(team);
    assert_false(sigismember(&placement.signals[0], SIGTERM));
    assert_true(sigismember(&placement.signals[1], SIGTERM));
    assert_true(sigismember(&placement.signals[2], SIGINT));
}

struct shares {
    struct team_counter counter;
    uint8_t taken[10007];
};

static void take_shares(void *arg, int worker_idx)
{
    struct shares *shares = arg;
    for (;;) {
        uint32_t first = team_counter_take(&shares->counter, 16);
        if (first >= sizeof shares->taken)
            return;
        for (uint32_t i = first; i < first + 16 && i < sizeof shares->taken; i++)
            shares->taken[i]++;
    }
}

static void test_team_counter__every_piece_is_taken_once(void **state)
{
    static struct shares shares;
    struct team *team = team_of(4, false);
    for (int run = 1; run <= 5; run++) {
        team_counter_reset(&shares.counter);
        team_run(team, take_shares, &shares);
        for (size_t i = 0; i < sizeof shares.taken; i++)
            assert_int_equal(shares.taken[i], run);
    }
    team_free(team);
}

static void test_team__refuses_impossible_sizes(void **state)
{
    struct team *team = NULL;
    struct why why;
    assert_int_equal(team_create(0, false, &team, &why), STATUS_INVALID);
    assert_int_equal(team_create(-1, false, &team, &why), STATUS_INVALID);
    assert_int_equal(team_create(TEAM_THREADS_MAX + 1, false, &team, &why), STATUS_INVALID);
    assert_string_equal(why.text, "a team has 1 to 256 threads, not 257");
    assert_null(team);
}

static void mark(void *arg, int worker_idx)
{
    uint8_t *marks = arg;
    marks[worker_idx]++;
}

static void test_team__takes_as_many_threads_as_it_promises(void **state)
{
    static uint8_t marks[TEAM_THREADS_MAX];
    struct team *team = team_of(TEAM_THREADS_MAX, true);
    team_run(team, mark, marks);
    team_free(team);
    for (int i = 0; i < TEAM_THREADS_MAX; i++)
        assert_int_equal(marks[i], 1);
}

static void test_cores_allowed__follows_the_affinity_mask(void **state)
{
    cpu_set_t before, one;
    int all = cores_allowed();
    assert_true(all >= 1);
    sched_getaffinity(0, sizeof before, &before);
    assert_true(all <= CPU_COUNT(&before));
    int core = 0;
    while (!CPU_ISSET(core, &before))
        core++;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    int with_one = cores_allowed();
    sched_setaffinity(0, sizeof before, &before);
    assert_int_equal(with_one, 1);
}

static void *give_way_to_others(void *arg)
{
    int *nice_after = arg;
    thread_let_others_first();
    errno = 0;
    *nice_after = getpriority(PRIO_PROCESS, (id_t)gettid());
    return NULL;
}

static void test_thread__lets_others_first_and_nobody_else_with_it(void **state)
{
    int before = getpriority(PRIO_PROCESS, (id_t)gettid()), after = 0;
    if (before > 19 - NICE_OF_WORKERS) {
        print_message("skipped: at nice %d nothing is left to give\n", before);
        skip();
    }
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, give_way_to_others, &after), 0);
    pthread_join(thread, NULL);
    assert_int_equal(after, before + NICE_OF_WORKERS);
    assert_int_equal(getpriority(PRIO_PROCESS, (id_t)gettid()), before);
}

static void test_memory_allowed__is_at_most_what_is_built_in(void **state)
{
    uint64_t physical = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    assert_true(memory_allowed() > 0);
    assert_true(memory_allowed() <= physical);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_team__run_visits_every_worker_once_and_waits_for_all),
        cmocka_unit_test(test_team__a_barrier_shows_everyone_what_all_did_before_it),
        cmocka_unit_test(test_team__wakes_workers_that_have_parked),
        cmocka_unit_test(test_team__parks_between_runs),
        cmocka_unit_test(test_team__a_long_wait_at_a_barrier_leaves_the_core_to_others),
        cmocka_unit_test(test_team__is_freed_before_any_run),
        cmocka_unit_test(test_team__pins_its_workers_and_leaves_the_caller_alone),
        cmocka_unit_test(test_team__workers_leave_signals_to_others),
        cmocka_unit_test(test_team_counter__every_piece_is_taken_once),
        cmocka_unit_test(test_team__refuses_impossible_sizes),
        cmocka_unit_test(test_team__takes_as_many_threads_as_it_promises),
        cmocka_unit_test(test_cores_allowed__follows_the_affinity_mask),
        cmocka_unit_test(test_thread__lets_others_first_and_nobody_else_with_it),
        cmocka_unit_test(test_memory_allowed__is_at_most_what_is_built_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
