/* The scheduler alone: over thousands of random histories of arrivals, prompts, answers, pauses,
 * cancels and pages, and in the corners that chance seldom meets. */
#include "engine/scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_HISTORIES 3000
#define N_STEPS 120
#define N_PAGES 400
#define RUNS_MAX 48

enum stage { READING, ANSWERING, PAUSED }; /* PAUSED: its reader takes nothing */

struct plain_run { /* a sequence as simple as can be */
    enum stage stage;
    int32_t priority;
    uint32_t n_read, n_prompt, n_answered, n_answer, n_pages;
    uint32_t n_pause;  /* steps of the pause that are left */
    uint32_t n_waited; /* steps in which it could have had rows and had none */
    int64_t mask_ns;   /* of its grammar; 0: none */
};

struct world {
    struct scheduler scheduler;
    struct step_cost cost;
    struct plain_run runs[RUNS_MAX];
    uint32_t n_runs, max_runs, n_free;
    bool has_priorities, has_grammars;
    uint64_t dice, n_finished;
    struct candidate candidates[RUNS_MAX];
    uint32_t idx[RUNS_MAX]; /* of candidates: their runs */
    struct schedule plan;
    uint32_t n_candidates;
};

static uint32_t roll(struct world *world, uint32_t n)
{
    world->dice = world->dice * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(world->dice >> 33) % n;
}

/* --- what happens to the world --- */

static void arrive(struct world *world)
{
    uint32_t n_prompt = 1 + roll(world, roll(world, 4) == 0 ? 2000 : 60);
    uint32_t n_answer = 1 + roll(world, 30);
    uint32_t n_pages = (n_prompt + n_answer + PAGE_TOKENS - 1) / PAGE_TOKENS;
    if (world->n_runs == world->max_runs || n_pages > world->n_free)
        return;
    world->n_free -= n_pages;
    world->runs[world->n_runs++] = (struct plain_run){
        .priority = world->has_priorities ? (int32_t)roll(world, 3) - 1 : 0,
        .n_prompt = n_prompt,
        .n_answer = n_answer,
        .n_pages = n_pages,
        .mask_ns = world->has_grammars && roll(world, 2) ? 1 + roll(world, 3000000) : 0,
    };
}

static uint32_t n_context(const struct plain_run *run)
{
    return run->n_read + run->n_answered - (run->n_answered > 0);
}

static void plan(struct world *world)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < world->n_runs; i++) {
        const struct plain_run *run = &world->runs[i];
        if (run->stage == PAUSED)
            continue;
        world->idx[n] = i;
        world->candidates[n++] = (struct candidate){
            .is_prefill = run->stage == READING,
            .priority = run->priority,
            .n_wanted = run->stage == READING ? run->n_prompt - run->n_read : 1,
            .n_context = n_context(run),
            .mask_ns = run->mask_ns,
        };
    }
    world->n_candidates = n;
    scheduler_plan(&world->scheduler, world->candidates, n, &world->cost, &world->plan);
}

static void take_rows(struct world *world, struct plain_run *run, uint32_t n_rows)
{
    if (run->stage == READING)
        run->n_read += n_rows;
    if (run->n_read < run->n_prompt)
        return;
    run->stage = ANSWERING;
    run->n_answered++; /* the last row of a prompt draws the first token */
    if (roll(world, 10) == 0) {
        run->stage = PAUSED;
        run->n_pause = 1 + roll(world, 5);
    }
}

/* Those that were served go to the end of the line, in their order. */
static void move_back(struct world *world, const bool *served)
{
    struct plain_run line[RUNS_MAX];
    uint32_t n = 0;
    for (uint32_t pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < world->n_runs; i++)
            if (served[i] == (pass == 1))
                line[n++] = world->runs[i];
    memcpy(world->runs, line, n * sizeof *line);
}

static void serve(struct world *world)
{
    bool served[RUNS_MAX] = {false};
    for (uint32_t i = 0; i < world->plan.n_items; i++) {
        uint32_t run_idx = world->idx[world->plan.items[i].candidate_idx];
        take_rows(world, &world->runs[run_idx], world->plan.items[i].n_rows);
        served[run_idx] = true;
    }
    move_back(world, served);
    uint32_t n_kept = 0, n_held = 0;
    for (uint32_t i = 0; i < world->n_runs; i++) {
        struct plain_run *run = &world->runs[i];
        if (run->stage == PAUSED && run->n_pause-- == 0)
            run->stage = ANSWERING;
        bool is_over = run->n_answered == run->n_answer;
        world->n_finished += is_over;
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

/* --- what must hold --- */

/* Masks of one kind take their part of the step and no more, or there is one alone. */
static void assert_masks(const struct world *world)
{
    int64_t most_ns = world->scheduler.max_step_ns / MASK_SHARE, answering_ns = 0, reading_ns = 0;
    uint32_t n_answering = 0, n_reading = 0;
    for (uint32_t i = 0; i < world->plan.n_items; i++) {
        const struct schedule_item *item = &world->plan.items[i];
        const struct candidate *candidate = &world->candidates[item->candidate_idx];
        bool draws = item->n_rows == candidate->n_wanted && candidate->mask_ns > 0;
        n_answering += draws && !candidate->is_prefill;
        n_reading += draws && candidate->is_prefill;
        answering_ns += draws && !candidate->is_prefill ? candidate->mask_ns : 0;
        reading_ns += draws && candidate->is_prefill ? candidate->mask_ns : 0;
    }
    assert_true(n_answering <= 1 || answering_ns <= most_ns);
    assert_true(n_reading <= 1 || answering_ns + reading_ns <= most_ns);
}

static void assert_items(const struct world *world, struct step_work *work)
{
    const struct schedule *schedule = &world->plan;
    uint32_t n_rows = 0;
    for (uint32_t i = 0; i < schedule->n_items; i++) {
        const struct schedule_item *item = &schedule->items[i];
        assert_true(item->candidate_idx < world->n_candidates);
        assert_true(i == 0 || schedule->items[i - 1].candidate_idx < item->candidate_idx);
        const struct candidate *candidate = &world->candidates[item->candidate_idx];
        assert_in_range(item->n_rows, 1, candidate->n_wanted);
        n_rows += item->n_rows;
        if (!candidate->is_prefill) {
            step_work_add_decode(work, candidate->n_context);
            continue;
        }
        step_work_add_prefill(work, candidate->n_context, item->n_rows);
        assert_true(item->n_rows >= PREFILL_CHUNK_MIN || item->n_rows == candidate->n_wanted);
    }
    assert_int_equal(n_rows, schedule->n_rows);
    assert_in_range(n_rows, world->n_candidates > 0, world->scheduler.max_rows);
}

static void assert_bounds(const struct world *world)
{
    struct step_work work = {.n_decode = 0};
    uint32_t n_reading = 0, n_answering = 0, n_masks = 0;
    assert_items(world, &work);
    for (uint32_t i = 0; i < world->n_candidates; i++) {
        n_reading += world->candidates[i].is_prefill;
        n_answering += !world->candidates[i].is_prefill;
        n_masks += !world->candidates[i].is_prefill && world->candidates[i].mask_ns > 0;
    }
    assert_masks(world);
    assert_true((n_reading > 0) == (work.n_prefill > 0));
    if (n_answering <= world->scheduler.max_rows - PREFILL_CHUNK_MIN)
        assert_in_range(work.n_decode, /* a token each step while rows and time for masks suffice */
                        n_answering - n_masks + (n_masks > 0), n_answering);
    else if (n_masks == 0)
        assert_true(work.n_decode >= world->scheduler.max_rows - PREFILL_CHUNK_MIN);
    if (work.n_prefill > PREFILL_CHUNK_MIN) /* beyond one chunk time is kept */
        assert_true(step_cost_of(&world->cost, &work) <=
                    (double)world->scheduler.max_step_ns * (1 + 1e-9));
}

/* Whoever reads waits at most until all that stand before it had a chunk, one a step; whoever
 * answers until all others had a row, under a grammar one a step. Of the reading ones the highest
 * priority is promised that. */
static void assert_nobody_starves(struct world *world)
{
    uint32_t n_rows_kept = world->scheduler.max_rows - PREFILL_CHUNK_MIN;
    uint32_t most_answering = (world->max_runs + n_rows_kept - 1) / n_rows_kept;
    int32_t highest = INT32_MIN;
    bool served[RUNS_MAX] = {false};
    for (uint32_t i = 0; i < world->plan.n_items; i++)
        served[world->plan.items[i].candidate_idx] = true;
    for (uint32_t i = 0; i < world->n_candidates; i++)
        if (world->candidates[i].is_prefill && world->candidates[i].priority > highest)
            highest = world->candidates[i].priority;
    for (uint32_t i = 0; i < world->n_candidates; i++) {
        struct plain_run *run = &world->runs[world->idx[i]];
        bool is_outranked = run->stage == READING && run->priority < highest;
        run->n_waited = served[i] || is_outranked ? 0 : run->n_waited + 1;
        bool may_be_alone = run->stage == READING || run->mask_ns > 0;
        uint32_t most = may_be_alone ? world->max_runs : most_answering;
        if (run->n_waited >= most)
            fail_msg("one of %u waited for %u steps, %u are allowed", world->n_candidates,
                     run->n_waited, most - 1);
    }
}

/* Nobody of a kind and priority is served while one that stands before it is not. */
static void assert_line(const struct world *world)
{
    bool served[RUNS_MAX] = {false};
    for (uint32_t i = 0; i < world->plan.n_items; i++)
        served[world->plan.items[i].candidate_idx] = true;
    for (uint32_t i = 0; i < world->n_candidates; i++)
        for (uint32_t j = i + 1; j < world->n_candidates; j++) {
            const struct candidate *a = &world->candidates[i], *b = &world->candidates[j];
            bool is_alike = a->is_prefill == b->is_prefill &&
                            (!a->is_prefill || a->priority == b->priority) &&
                            (a->mask_ns == 0 || (!a->is_prefill && b->mask_ns > 0));
            assert_false(is_alike && !served[i] && served[j]);
        }
}

static void run_history(struct world *world, uint64_t seed)
{
    memset(world, 0, sizeof *world);
    world->dice = seed;
    world->max_runs = 1 + roll(world, RUNS_MAX);
    world->n_free = N_PAGES;
    world->has_priorities = roll(world, 4) == 0;
    world->has_grammars = roll(world, 2) == 0;
    uint32_t max_rows = 2 * PREFILL_CHUNK_MIN + roll(world, roll(world, 2) ? 20 : 481);
    scheduler_init(&world->scheduler, max_rows, 1 + roll(world, 50000000));
    world->cost = (struct step_cost){
        .step_ns = roll(world, 20000000),
        .decode_row_ns = roll(world, 500000),
        .decode_token_ns = roll(world, 1000),
        .prefill_row_ns = roll(world, 500000),
        .prefill_token_ns = roll(world, 1000),
    };
    uint32_t bustle = 1 + roll(world, 8);
    for (uint32_t step = 0; step < N_STEPS; step++) {
        while (roll(world, bustle) > 0)
            arrive(world);
        plan(world);
        assert_bounds(world);
        assert_line(world);
        assert_nobody_starves(world);
        serve(world);
    }
    for (uint32_t step = 0; world->n_runs > 0; step++) { /* nobody comes any more: all get done */
        assert_true(step < 200000);
        plan(world);
        assert_bounds(world);
        assert_nobody_starves(world);
        serve(world);
    }
    assert_int_equal(world->n_free, N_PAGES);
}

static void test_scheduler__random_histories_keep_bounds_and_pages_and_starve_nobody(void **state)
{
    struct world *world = malloc(sizeof *world);
    uint64_t n_finished = 0;
    for (uint64_t seed = 1; seed <= N_HISTORIES; seed++) {
        run_history(world, seed);
        n_finished += world->n_finished;
    }
    assert_true(n_finished > 20 * N_HISTORIES); /* the histories were about something */
    free(world);
}

/* --- corners --- */

static void
test_scheduler__decoding_rows_come_first_and_a_prompt_gets_a_chunk_all_the_same(void **state)
{
    struct scheduler scheduler;
    struct candidate candidates[601];
    struct step_cost slow = {.step_ns = 1e9, .decode_row_ns = 1e9, .prefill_row_ns = 1e9};
    static struct schedule schedule;
    scheduler_init(&scheduler, 512, 1000000);
    for (uint32_t i = 0; i < 601; i++)
        candidates[i] = (struct candidate){.n_wanted = 1};
    candidates[600].is_prefill = true;
    candidates[600].n_wanted = 5000;

    scheduler_plan(&scheduler, candidates, 601, &slow, &schedule);

    assert_int_equal(schedule.n_items, 512 - PREFILL_CHUNK_MIN + 1);
    assert_int_equal(schedule.items[schedule.n_items - 1].candidate_idx, 600);
    assert_int_equal(schedule.items[schedule.n_items - 1].n_rows, PREFILL_CHUNK_MIN);
}

static void test_scheduler__more_decoders_than_rows_take_turns(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    scheduler_init(&world->scheduler, 32, 1000000);
    for (uint32_t i = 0; i < 40; i++)
        world->runs[world->n_runs++] = (struct plain_run){
            .stage = ANSWERING, .n_prompt = 1, .n_read = 1, .n_answered = 1, .n_pages = i};

    uint32_t n_served[40] = {0}; /* by n_pages, which serves as a name */
    for (int step = 0; step < 50; step++) {
        bool served[RUNS_MAX] = {false};
        plan(world);
        for (uint32_t i = 0; i < world->plan.n_items; i++) {
            uint32_t run_idx = world->idx[world->plan.items[i].candidate_idx];
            n_served[world->runs[run_idx].n_pages]++;
            served[run_idx] = true;
        }
        move_back(world, served);
    }

    for (uint32_t i = 0; i < 40; i++)
        assert_int_equal(n_served[i], 50 * 32 / 40);
    free(world);
}

/* Twenty grammars whose masks take a quarter of a millisecond, or one that takes ten, in a step of
 * four: that of the masks is one. */
static void test_scheduler__masks_take_their_part_of_a_step_and_every_grammar_its_turn(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    scheduler_init(&world->scheduler, 128, 4000000);
    for (uint32_t i = 0; i < 22; i++)
        world->runs[world->n_runs++] = (struct plain_run){
            .stage = ANSWERING, .n_prompt = 1, .n_read = 1, .n_answered = 1, .n_pages = i,
            .mask_ns = i == 0 ? 10000000 : i < 21 ? 250000 : 0};

    uint32_t n_served[22] = {0};
    for (int step = 0; step < 60; step++) {
        bool served[RUNS_MAX] = {false};
        uint32_t n_masks = 0;
        bool has_dear = false;
        plan(world);
        for (uint32_t i = 0; i < world->plan.n_items; i++) {
            uint32_t run_idx = world->idx[world->plan.items[i].candidate_idx];
            const struct plain_run *run = &world->runs[run_idx];
            n_served[run->n_pages]++;
            n_masks += run->mask_ns > 0;
            has_dear |= run->n_pages == 0;
            served[run_idx] = true;
        }
        assert_in_range(n_masks, 1, has_dear ? 1 : 4);
        move_back(world, served);
    }

    assert_int_equal(n_served[21], 60);
    for (uint32_t i = 0; i < 21; i++) /* five steps of four and one of the dear one: six a round */
        assert_int_equal(n_served[i], 10);
    free(world);
}

/* One that reads the last of its prompt draws: its mask is counted too, and one is always taken. */
static void test_scheduler__a_prompt_that_ends_takes_its_mask_and_waits_for_no_decode(void **state)
{
    struct scheduler scheduler;
    struct step_cost cost = {.step_ns = 1};
    struct candidate candidates[12];
    static struct schedule schedule;
    scheduler_init(&scheduler, 512, 4000000);
    for (uint32_t i = 0; i < 12; i++)
        candidates[i] =
            (struct candidate){.is_prefill = i >= 6, .n_wanted = i >= 6 ? 8 : 1, .mask_ns = 400000};
    candidates[11].n_wanted = 5000; /* does not end */

    scheduler_plan(&scheduler, candidates, 12, &cost, &schedule);

    assert_int_equal(schedule.n_items, 2 + 1 + 1);
    assert_int_equal(schedule.items[2].candidate_idx, 6);
    assert_int_equal(schedule.items[3].candidate_idx, 11);
}

/* One long prompt; in every step as many short ones arrive as a step has time for, and are read
 * and gone. */
static void test_scheduler__newcomers_that_leave_soon_hold_up_nobody(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    world->cost = (struct step_cost){.prefill_row_ns = 1e6};
    scheduler_init(&world->scheduler, 512, 3 * PREFILL_CHUNK_MIN * 1000000);
    world->runs[world->n_runs++] = (struct plain_run){.n_prompt = 100000};

    uint32_t n_rows = 0;
    for (int step = 0; step < 100; step++) {
        bool served[RUNS_MAX] = {false};
        for (int i = 0; i < 3; i++)
            world->runs[world->n_runs++] = (struct plain_run){.n_prompt = PREFILL_CHUNK_MIN};
        plan(world);
        for (uint32_t i = 0; i < world->plan.n_items; i++) {
            uint32_t run_idx = world->idx[world->plan.items[i].candidate_idx];
            world->runs[run_idx].n_read += world->plan.items[i].n_rows;
            served[run_idx] = true;
        }
        move_back(world, served);
        uint32_t n_kept = 0;
        for (uint32_t i = 0; i < world->n_runs; i++) {
            struct plain_run run = world->runs[i];
            n_rows = run.n_prompt == 100000 ? run.n_read : n_rows;
            if (run.n_read < run.n_prompt && (run.n_prompt == 100000 || n_kept < 8))
                world->runs[n_kept++] = run;
        }
        world->n_runs = n_kept;
    }

    assert_true(n_rows >= 25 * PREFILL_CHUNK_MIN);
    free(world);
}

static void test_scheduler__prompts_share_a_step_and_short_ones_leave_their_rest(void **state)
{
    struct scheduler scheduler;
    struct candidate candidates[3] = {
        {.is_prefill = true, .n_wanted = 3000},
        {.is_prefill = true, .n_wanted = 20},
        {.is_prefill = true, .n_wanted = 3000},
    };
    struct step_cost cost = {.prefill_row_ns = 1e5};
    static struct schedule schedule;
    scheduler_init(&scheduler, 512, 30000000); /* 300 rows */

    scheduler_plan(&scheduler, candidates, 3, &cost, &schedule);

    assert_int_equal(schedule.n_rows, 300);
    assert_int_equal(schedule.n_items, 3);
    assert_int_equal(schedule.items[0].n_rows, 100);
    assert_int_equal(schedule.items[1].n_rows, 20);
    assert_int_equal(schedule.items[2].n_rows, 180);
}

static void test_scheduler__deep_prompts_get_fewer_rows_in_the_same_time(void **state)
{
    struct scheduler scheduler;
    struct step_cost cost = {.prefill_row_ns = 1e5, .prefill_token_ns = 100};
    static struct schedule schedule;
    uint32_t n_before = UINT32_MAX;
    scheduler_init(&scheduler, 512, 30000000);

    for (uint32_t n_context = 0; n_context <= 8000; n_context += 1000) {
        struct candidate candidate = {
            .is_prefill = true, .n_wanted = 3000, .n_context = n_context};
        struct step_work work = {.n_decode = 0};
        scheduler_plan(&scheduler, &candidate, 1, &cost, &schedule);
        step_work_add_prefill(&work, n_context, schedule.n_rows);
        assert_true(schedule.n_rows < n_before && schedule.n_rows > PREFILL_CHUNK_MIN);
        assert_true(step_cost_of(&cost, &work) <= 30e6);
        assert_true(step_cost_of(&cost, &work) > 25e6); /* and the time is used */
        n_before = schedule.n_rows;
    }
}

static void test_scheduler__a_higher_priority_reads_first(void **state)
{
    struct scheduler scheduler;
    struct candidate candidates[2] = {
        {.is_prefill = true, .n_wanted = 3000},
        {.is_prefill = true, .n_wanted = 3000, .priority = 1},
    };
    struct step_cost cost = {.prefill_row_ns = 1e5};
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
        cmocka_unit_test(
            test_scheduler__masks_take_their_part_of_a_step_and_every_grammar_its_turn),
        cmocka_unit_test(test_scheduler__a_prompt_that_ends_takes_its_mask_and_waits_for_no_decode),
        cmocka_unit_test(test_scheduler__more_decoders_than_rows_take_turns),
        cmocka_unit_test(test_scheduler__newcomers_that_leave_soon_hold_up_nobody),
        cmocka_unit_test(test_scheduler__prompts_share_a_step_and_short_ones_leave_their_rest),
        cmocka_unit_test(test_scheduler__deep_prompts_get_fewer_rows_in_the_same_time),
        cmocka_unit_test(test_scheduler__a_higher_priority_reads_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
