/* The scheduler alone, over thousands of random histories of arrivals, prompts, answers, pages. */
#include "engine/scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_HISTORIES 2000
#define N_STEPS 120
#define N_PAGES 400

struct plain_run { /* a sequence as simple as can be */
    uint64_t order;
    uint32_t n_left, n_answer, n_pages, n_paused;
    uint32_t n_passed_over; /* steps in which it could have had rows and had none */
};

struct world {
    struct scheduler scheduler;
    struct step_cost cost;
    struct plain_run runs[SEQUENCES_MAX];
    uint32_t n_runs, max_runs, n_free;
    uint64_t n_orders, dice;
    struct candidate candidates[SEQUENCES_MAX];
    uint32_t idx[SEQUENCES_MAX];
    struct schedule plan;
    uint32_t n_candidates, n_prefills;
};

static uint32_t roll(struct world *world, uint32_t n)
{
    world->dice = world->dice * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(world->dice >> 33) % n;
}

static void arrive(struct world *world)
{
    uint32_t n_prompt = 1 + roll(world, roll(world, 4) == 0 ? 2000 : 60);
    uint32_t n_answer = 1 + roll(world, 30);
    uint32_t n_pages = (n_prompt + n_answer + PAGE_TOKENS - 1) / PAGE_TOKENS;
    if (world->n_runs == world->max_runs || n_pages > world->n_free)
        return;
    world->n_free -= n_pages;
    world->runs[world->n_runs++] = (struct plain_run){
        .order = ++world->n_orders,
        .n_left = n_prompt,
        .n_answer = n_answer,
        .n_pages = n_pages,
    };
}

static void plan(struct world *world)
{
    uint32_t n = 0;
    world->n_prefills = 0;
    for (uint32_t i = 0; i < world->n_runs; i++) {
        struct plain_run *run = &world->runs[i];
        if (run->n_paused > 0) {
            run->n_paused--;
            run->n_passed_over = 0; /* its own doing */
            continue;
        }
        world->idx[n] = i;
        world->n_prefills += run->n_left > 0;
        world->candidates[n++] = (struct candidate){
            .order = run->order,
            .is_prefill = run->n_left > 0,
            .n_wanted = run->n_left > 0 ? run->n_left : 1,
        };
    }
    world->n_candidates = n;
    scheduler_plan(&world->scheduler, world->candidates, n, &world->cost, &world->plan);
}

static void assert_bounds(const struct world *world)
{
    const struct schedule *schedule = &world->plan;
    uint32_t n_rows = 0, n_prefill_rows = 0, n_decode = 0;
    for (uint32_t i = 0; i < schedule->n_items; i++) {
        const struct schedule_item *item = &schedule->items[i];
        const struct candidate *candidate = &world->candidates[item->candidate_idx];
        assert_true(item->candidate_idx < world->n_candidates);
        assert_true(i == 0 || schedule->items[i - 1].candidate_idx < item->candidate_idx);
        assert_true(item->n_rows >= 1 && item->n_rows <= candidate->n_wanted);
        if (candidate->is_prefill)
            assert_true(item->n_rows >= PREFILL_CHUNK_MIN || item->n_rows == candidate->n_wanted ||
                        item->n_rows == world->scheduler.max_rows);
        n_rows += item->n_rows;
        n_prefill_rows += candidate->is_prefill ? item->n_rows : 0;
        n_decode += !candidate->is_prefill;
    }
    assert_int_equal(n_rows, schedule->n_rows);
    assert_true(n_rows <= world->scheduler.max_rows);
    assert_true(world->n_candidates == 0 || n_rows > 0);
    assert_true(world->n_prefills == 0 || n_prefill_rows > 0);
    if (n_prefill_rows > PREFILL_CHUNK_MIN) { /* beyond one chunk time is kept */
        double expected_ns =
            (n_decode > 0 ? world->cost.fixed_ns : 0) + n_prefill_rows * world->cost.row_ns;
        assert_true(expected_ns <= (double)world->scheduler.max_step_ns);
    }
}

/* With n sharing, a turn comes after at most so many steps, however small the steps are. */
static void assert_nobody_starves(struct world *world)
{
    bool served[SEQUENCES_MAX] = {false};
    for (uint32_t i = 0; i < world->plan.n_items; i++)
        served[world->plan.items[i].candidate_idx] = true;
    for (uint32_t i = 0; i < world->n_candidates; i++) {
        struct plain_run *run = &world->runs[world->idx[i]];
        run->n_passed_over = served[i] ? 0 : run->n_passed_over + 1;
        if (run->n_passed_over > 2 * world->max_runs)
            fail_msg("run %llu of %u got no row in %u steps", (unsigned long long)run->order,
                     world->n_candidates, run->n_passed_over);
    }
}

static void serve(struct world *world)
{
    for (uint32_t i = 0; i < world->plan.n_items; i++) {
        struct plain_run *run = &world->runs[world->idx[world->plan.items[i].candidate_idx]];
        if (run->n_left > 0)
            run->n_left -= world->plan.items[i].n_rows;
        if (run->n_left == 0)
            run->n_answer--; /* the last row of a prompt draws the first token */
        if (roll(world, 10) == 0)
            run->n_paused = roll(world, 5);
    }
    uint32_t n_kept = 0, n_held = 0;
    for (uint32_t i = 0; i < world->n_runs; i++) {
        struct plain_run *run = &world->runs[i];
        bool is_over = run->n_left == 0 && run->n_answer == 0;
        if (is_over || roll(world, 300) == 0) { /* or cancelled */
            world->n_free += run->n_pages;
            continue;
        }
        n_held += run->n_pages;
        world->runs[n_kept++] = *run;
    }
    world->n_runs = n_kept;
    assert_int_equal(n_held + world->n_free, N_PAGES);
}

static void run_history(struct world *world, uint64_t seed)
{
    memset(world, 0, sizeof *world);
    world->dice = seed;
    world->max_runs = 1 + roll(world, 40);
    world->n_free = N_PAGES;
    uint32_t max_rows = 2 * PREFILL_CHUNK_MIN + roll(world, roll(world, 2) ? 20 : 481);
    scheduler_init(&world->scheduler, max_rows, 1 + roll(world, 50000000));
    world->cost =
        (struct step_cost){.fixed_ns = roll(world, 20000000), .row_ns = roll(world, 500000)};
    uint32_t bustle = 1 + roll(world, 8);
    for (uint32_t step = 0; step < N_STEPS; step++) {
        while (roll(world, bustle) > 0)
            arrive(world);
        plan(world);
        assert_bounds(world);
        assert_nobody_starves(world);
        serve(world);
    }
}

static void test_scheduler__random_histories_keep_bounds_and_pages_and_starve_nobody(void **state)
{
    struct world *world = malloc(sizeof *world);
    for (uint64_t seed = 1; seed <= N_HISTORIES; seed++)
        run_history(world, seed);
    free(world);
}

static void
test_scheduler__decoding_rows_come_first_and_a_prompt_gets_a_chunk_all_the_same(void **state)
{
    struct scheduler scheduler;
    struct candidate candidates[601];
    struct step_cost slow = {.fixed_ns = 1e9, .row_ns = 1e9};
    static struct schedule schedule;
    scheduler_init(&scheduler, 512, 1000000);
    for (uint32_t i = 0; i < 600; i++)
        candidates[i] = (struct candidate){.order = i + 1, .n_wanted = 1};
    candidates[600] = (struct candidate){.order = 601, .is_prefill = true, .n_wanted = 5000};

    scheduler_plan(&scheduler, candidates, 601, &slow, &schedule);

    assert_int_equal(schedule.n_items, 512 - PREFILL_CHUNK_MIN + 1);
    assert_int_equal(schedule.items[schedule.n_items - 1].candidate_idx, 600);
    assert_int_equal(schedule.items[schedule.n_items - 1].n_rows, PREFILL_CHUNK_MIN);
}

static void test_scheduler__more_decoders_than_rows_take_turns(void **state)
{
    struct scheduler scheduler;
    struct candidate candidates[40];
    struct step_cost cost = {.fixed_ns = 1, .row_ns = 1};
    static struct schedule schedule;
    uint32_t n_served[40] = {0};
    scheduler_init(&scheduler, 32, 1000000);
    for (uint32_t i = 0; i < 40; i++)
        candidates[i] = (struct candidate){.order = i + 1, .n_wanted = 1};

    for (int step = 0; step < 50; step++) {
        scheduler_plan(&scheduler, candidates, 40, &cost, &schedule);
        for (uint32_t i = 0; i < schedule.n_items; i++)
            n_served[schedule.items[i].candidate_idx]++;
    }

    for (uint32_t i = 0; i < 40; i++)
        assert_in_range(n_served[i], 39, 41); /* 50 * 32 / 40 */
}

static void test_scheduler__prompts_share_a_step_and_short_ones_leave_their_rest(void **state)
{
    struct scheduler scheduler;
    struct candidate candidates[3] = {
        {.order = 1, .is_prefill = true, .n_wanted = 3000},
        {.order = 2, .is_prefill = true, .n_wanted = 20},
        {.order = 3, .is_prefill = true, .n_wanted = 3000},
    };
    struct step_cost cost = {.fixed_ns = 1e6, .row_ns = 1e5};
    static struct schedule schedule;
    scheduler_init(&scheduler, 512, 30000000); /* 300 rows */

    scheduler_plan(&scheduler, candidates, 3, &cost, &schedule);

    assert_int_equal(schedule.n_rows, 300);
    assert_int_equal(schedule.n_items, 3);
    assert_int_equal(schedule.items[0].n_rows, 100);
    assert_int_equal(schedule.items[1].n_rows, 20);
    assert_int_equal(schedule.items[2].n_rows, 180);
}

static void test_scheduler__a_higher_priority_reads_first(void **state)
{
    struct scheduler scheduler;
    struct candidate candidates[2] = {
        {.order = 1, .is_prefill = true, .n_wanted = 3000},
        {.order = 2, .is_prefill = true, .n_wanted = 3000, .priority = 1},
    };
    struct step_cost cost = {.fixed_ns = 1e6, .row_ns = 1e5};
    static struct schedule schedule;
    scheduler_init(&scheduler, 512, 30000000);

    scheduler_plan(&scheduler, candidates, 2, &cost, &schedule);

    assert_int_equal(schedule.n_items, 1);
    assert_int_equal(schedule.items[0].candidate_idx, 1);
    assert_int_equal(schedule.items[0].n_rows, 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scheduler__random_histories_keep_bounds_and_pages_and_starve_nobody),
        cmocka_unit_test(
            test_scheduler__decoding_rows_come_first_and_a_prompt_gets_a_chunk_all_the_same),
        cmocka_unit_test(test_scheduler__more_decoders_than_rows_take_turns),
        cmocka_unit_test(test_scheduler__prompts_share_a_step_and_short_ones_leave_their_rest),
        cmocka_unit_test(test_scheduler__a_higher_priority_reads_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
