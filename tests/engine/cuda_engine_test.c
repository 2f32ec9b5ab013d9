/* The engine on a GPU, or on the emulated one: two steps under way and a decode as a graph give
 * what one step at a time gives, op by op; and a step waits for nothing. */
#include "base/status.h"
#include "door_fixture.h"
#include "engine/engine_state.h"
#include "tests/cuda_on_cpu/emu_control.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SKIPPED 77 /* what ctest takes for skipped */

#if defined(__SANITIZE_THREAD__) /* a step takes most of a second: the whole is the others' */
#define N_RUNS 3
#define N_TOKENS 5
#define CONTEXT 64
#define N_LONG_RUNS 1
#define N_STEPS 10 /* that decode, of each long run */
#define N_FILLED_IDS 6
#elif defined(__SANITIZE_ADDRESS__)
#define N_RUNS 12
#define N_TOKENS 12
#define CONTEXT 256
#define N_LONG_RUNS 1
#define N_STEPS 250
#define N_FILLED_IDS 12
#else
#define N_RUNS 12
#define N_TOKENS 12
#define CONTEXT 256
#define N_LONG_RUNS 4
#define N_STEPS 250
#define N_FILLED_IDS 24
#endif

#pragma weak emu_counted /* a GPU counts nothing */

static struct engine_options cuda_options(bool no_overlap)
{
    struct engine_options options = door_options();
    options.backend = "cuda";
    options.no_overlap = no_overlap;
    options.max_sequences = 6;
    options.max_context = CONTEXT;
    return options;
}

static bool has_cuda(void)
{
    struct device_options options = {.backend = BACKEND_CUDA};
    struct device *device;
    struct why why;
    if (device_open(&options, &device, &why) < 0) {
        print_message("skipped: %s\n", why.text);
        return false;
    }
    device_close(device);
    return true;
}

/* --- the same answers --- */

#define PAUSED_RUN 3 /* nobody reads it until all others are over */

static bool is_cancelled(uint32_t i)
{
    return i % 5 == 0;
}

/* Its mask waits for the token before: every second step that overlaps is another's. */
static bool has_grammar(uint32_t i)
{
    return i == 4 || i == 7;
}

/* Greedy and drawn, with and without penalties, until an end, a stop string or enough tokens. */
static struct submit *submit_of(uint32_t i)
{
    uint32_t n_tokens = is_cancelled(i) ? CONTEXT / 2 : N_TOKENS + i;
    struct submit *submit = door_submit(i, 3 + 9 * i, n_tokens);
    submit->sampling.has_seed = true;
    submit->sampling.seed = 16;
    submit->sampling.temperature = i % 3 == 0 ? 0.0f : 0.7f + 0.2f * (float)i;
    submit->sampling.top_p = i % 4 == 1 ? 0.9f : 1.0f;
    submit->sampling.typical_p = i % 5 == 2 ? 0.7f : 1.0f;
    submit->sampling.repetition = i % 4 == 2 ? 1.3f : 1.0f;
    if (i % 6 == 2) { /* any of 40: these come upon an end */
        submit->sampling.temperature = 100;
        submit->sampling.top_k = 40;
    }
    submit->want_logprobs = i % 3 != 1;
    submit->n_top = i % 3 == 2 ? 3 : 0;
    submit->ignore_eos = is_cancelled(i) || i == PAUSED_RUN;
    for (uint32_t s = 0; i % 3 == 1 && s < STOP_STRINGS_MAX; s++) {
        submit->stop.len[s] = 1;
        submit->stop.bytes[s][0] = (uint8_t)('a' + s);
        submit->stop.n = s + 1;
    }
    return submit;
}

static void run_all(struct door *door, struct run *runs[N_RUNS])
{
    for (uint32_t i = 0; i < N_RUNS; i++) {
        struct submit *submit = submit_of(i);
        if (has_grammar(i))
            assert_int_equal(engine_compile_grammar(door->engine, ENGINE_GRAMMAR_GBNF,
                                                    slice_from("root ::= [a-z ]{8,30} \".\""),
                                                    &submit->grammar, NULL),
                             STATUS_OK);
        runs[i] = door_send(door, submit);
    }
    if (PAUSED_RUN < N_RUNS)
        runs[PAUSED_RUN]->keeps_credit = true;
    for (uint32_t i = 0; i < N_RUNS; i++) {
        if (is_cancelled(i)) {
            while (runs[i]->n_deltas < 2)
                door_turn(door, 100);
            door_cancel(door, runs[i]);
        } else if (i != PAUSED_RUN) {
            door_until_over(door, runs[i]);
        }
    }
    if (PAUSED_RUN < N_RUNS) {
        assert_int_equal(runs[PAUSED_RUN]->n_deltas, CALL_CREDIT_EVENTS);
        runs[PAUSED_RUN]->keeps_credit = false;
        door_credit(door, runs[PAUSED_RUN], CALL_CREDIT_EVENTS);
        door_until_over(door, runs[PAUSED_RUN]);
    }
    const struct engine_stats *stats = door_stats(door);
    while (stats->n_decode + stats->n_prefill > 0)
        stats = door_stats(door); /* the last cancel is on its way */
    assert_int_equal(stats->n_pages_used, 0);
    assert_int_equal(stats->n_pages_reserved, 0);
}

static void test_cuda_engine__overlap_and_graphs_change_no_answer(void **state)
{
    struct engine_options options = cuda_options(true);
    struct door *one_by_one = door_open(&options);
    options = cuda_options(false);
    struct door *overlapped = door_open(&options);
    struct run *want[N_RUNS], *got[N_RUNS];
    uint32_t n_stopped = 0, n_ended = 0, n_long = 0;
    assert_null(one_by_one->engine->flight->graphs);
    assert_non_null(overlapped->engine->flight->graphs);
    assert_int_equal(overlapped->engine->flight->depth, 2);

    run_all(one_by_one, want);
    run_all(overlapped, got);

    for (uint32_t i = 0; i < N_RUNS; i++) {
        if (is_cancelled(i))
            continue;
        assert_true(want[i]->is_finished && got[i]->is_finished);
        assert_int_equal(got[i]->n_ids, want[i]->n_ids);
        assert_memory_equal(got[i]->ids, want[i]->ids, want[i]->n_ids * sizeof *want[i]->ids);
        assert_memory_equal(got[i]->logprobs, want[i]->logprobs,
                            want[i]->n_ids * sizeof *want[i]->logprobs);
        assert_int_equal(got[i]->n_text, want[i]->n_text);
        assert_memory_equal(got[i]->text, want[i]->text, want[i]->n_text);
        assert_int_equal(got[i]->finished.reason, want[i]->finished.reason);
        assert_int_equal(got[i]->finished.stop_idx, want[i]->finished.stop_idx);
        assert_int_equal(got[i]->finished.n_completion, got[i]->n_ids);
        n_stopped += got[i]->finished.stop_idx >= 0;
        n_ended += got[i]->finished.reason == FINISH_STOP && got[i]->finished.stop_idx < 0;
        n_long += got[i]->finished.reason == FINISH_LENGTH;
    }
    if (N_RUNS == 12) /* every kind of end was there */
        assert_true(n_stopped > 0 && n_ended > 0 && n_long > 0);
    door_close(one_by_one);
    door_close(overlapped);
}

/* Three answers to one prompt, whose counts are taken over on the device, beside a run alone. */
static void run_choices(struct door *door, struct run *runs[4])
{
    for (uint32_t c = 0; c < 2; c++) {
        struct submit *submit = door_submit(5, 40, N_TOKENS);
        submit->sampling.temperature = 4;
        submit->sampling.repetition = 1.3f;
        submit->sampling.has_seed = true;
        submit->sampling.seed = 9;
        submit->ignore_eos = true;
        for (uint32_t i = 0; i < 2 * c; i++)
            assert_non_null(submit_add_choice(submit));
        runs[c] = door_send(door, submit);
    }
    runs[2] = door_choice(door, runs[1], 1);
    runs[3] = door_choice(door, runs[1], 2);
    for (uint32_t i = 0; i < 4; i++)
        door_until_over(door, runs[i]);
    assert_memory_equal(runs[1]->ids, runs[0]->ids, N_TOKENS * sizeof(uint32_t));
    assert_memory_not_equal(runs[2]->ids, runs[1]->ids, N_TOKENS * sizeof(uint32_t));
    assert_int_equal(door_stats(door)->n_pages_used, 0);
}

static void test_cuda_engine__choices_fork_beside_steps_that_overlap(void **state)
{
    struct run *want[4], *got[4];
    struct engine_options options = cuda_options(true);
    struct door *one_by_one = door_open(&options);
    run_choices(one_by_one, want);
    options = cuda_options(false);
    struct door *overlapped = door_open(&options);
    run_choices(overlapped, got);
    for (uint32_t i = 0; i < 4; i++)
        assert_memory_equal(got[i]->ids, want[i]->ids, N_TOKENS * sizeof(uint32_t));
    door_close(one_by_one);
    door_close(overlapped);
}

/* Two prompts of whole pages, whose next page is packed while they answer; the first one again, out
 * of the cache. */
static struct door *run_packed(const char *dtype, bool no_overlap, struct run *runs[3])
{
    struct engine_options options = cuda_options(no_overlap);
    options.kv_dtype = dtype;
    struct door *door = door_open(&options);
    for (uint32_t i = 0; i < 3; i++) {
        struct submit *submit = door_submit(i % 2, i % 2 == 0 ? 120 : 185, N_TOKENS);
        submit->ignore_eos = true;
        submit->want_logprobs = true;
        runs[i] = door_send(door, submit);
        if (i > 0)
            door_until_over(door, runs[i]);
        if (i == 1)
            door_until_over(door, runs[0]);
    }
    assert_int_equal(runs[0]->finished.n_cached, 0);
    assert_int_equal(runs[2]->finished.n_cached, PAGE_TOKENS);
    return door;
}

static void assert_same_answer(const struct run *got, const struct run *want)
{
    assert_int_equal(want->n_ids, N_TOKENS);
    assert_memory_equal(got->ids, want->ids, N_TOKENS * sizeof *want->ids);
    assert_memory_equal(got->logprobs, want->logprobs, N_TOKENS * sizeof *want->logprobs);
}

static void test_cuda_engine__packed_pages_give_one_answer_cold_cached_and_overlapped(void **state)
{
#ifdef __SANITIZE_THREAD__ /* contexts are of one page there */
    print_message("skipped: packed pages, under TSan; the other builds run them\n");
    skip();
#endif
    static const char *const dtypes[] = {"q8", "q4"};
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        struct run *want[3], *got[3];
        struct door *one_by_one = run_packed(dtypes[i], true, want);
        struct door *overlapped = run_packed(dtypes[i], false, got);
        for (uint32_t r = 0; r < 3; r++)
            assert_same_answer(got[r], want[r]);
        assert_same_answer(want[2], want[0]);
        door_close(one_by_one);
        door_close(overlapped);
    }
}

static double seconds_of_answer(struct door *door, struct submit *submit)
{
    struct event_accepted accepted = {0};
    struct event_refused refused = {0};
    uint32_t n_output;
    assert_int_equal(judge_submit(door->engine, submit, &n_output, &accepted, &refused),
                     STATUS_OK);
    return accepted.total_s - accepted.first_token_s;
}

/* Under a grammar every second step is another's. */
static void test_cuda_engine__admission_knows_what_steps_that_overlap_do(void **state)
{
    struct engine_options options = cuda_options(false);
    struct door *door = door_create(&options);
    struct submit *submit = door_submit(1, 10, 50);
    double plain_s = seconds_of_answer(door, submit);
    assert_int_equal(engine_compile_grammar(door->engine, ENGINE_GRAMMAR_GBNF,
                                            slice_from("root ::= [a-z]*"), &submit->grammar, NULL),
                     STATUS_OK);
    double steered_s = seconds_of_answer(door, submit);
    assert_true(steered_s > 1.999 * plain_s && steered_s < 2.001 * plain_s);
    submit_free(submit);
    door_close(door);
}

/* Nine sequences are run as twelve: the three others read what they write themselves, the last one
 * what all three wrote in the same step. */
#define N_FILLED 9

static void run_filled(const struct engine_options *options, struct run *runs[N_FILLED],
                       struct door **out)
{
    struct door *door = door_open(options);
    uint32_t most = 0;
    for (uint32_t i = 0; i < N_FILLED; i++) {
        struct submit *submit = door_submit(i, 2 + i, N_FILLED_IDS);
        submit->ignore_eos = true;
        submit->want_logprobs = true;
        runs[i] = door_send(door, submit);
    }
    while (!runs[0]->is_finished) {
        const struct engine_stats *stats = door_stats(door);
        most = stats->n_decode > most ? stats->n_decode : most;
    }
    for (uint32_t i = 0; i < N_FILLED; i++)
        door_until_over(door, runs[i]);
    assert_int_equal(most, N_FILLED); /* all of them were in one step */
    *out = door;
}

static void test_cuda_engine__rows_that_fill_a_step_up_change_no_answer(void **state)
{
#ifdef __SANITIZE_THREAD__ /* pages and positions are the same for any threads */
    print_message("skipped: steps filled up, under TSan; the other builds run them\n");
    skip();
#endif
    struct engine_options options = cuda_options(true);
    struct door *plain, *filled;
    struct run *want[N_FILLED], *got[N_FILLED];
    options.max_sequences = 12;
    options.max_context = 64;
    options.max_step_ns = 3600 * NS_PER_S; /* room for all prompts at once */
    run_filled(&options, want, &plain);
    options.no_overlap = false;
    run_filled(&options, got, &filled);
    for (uint32_t i = 0; i < N_FILLED; i++) {
        assert_int_equal(got[i]->n_ids, N_FILLED_IDS);
        assert_memory_equal(got[i]->ids, want[i]->ids, N_FILLED_IDS * sizeof *got[i]->ids);
        assert_memory_equal(got[i]->logprobs, want[i]->logprobs,
                            N_FILLED_IDS * sizeof *got[i]->logprobs);
    }
    door_close(plain);
    door_close(filled);
}

/* --- no stall --- */

struct counted {
    uint64_t of[EMU_COUNTERS];
};

static struct counted count_now(void)
{
    struct counted now;
    for (int i = 0; i < EMU_COUNTERS; i++)
        now.of[i] = emu_counted((enum emu_counter)i);
    return now;
}

static void test_cuda_engine__a_step_neither_waits_nor_allocates_nor_leaves_the_device_idle(
    void **state)
{
    if (emu_counted == NULL) {
        print_message("skipped: a GPU counts nothing\n");
        skip();
    }
    struct engine_options options = cuda_options(false);
    options.max_sequences = 2;
    struct door *door = door_open(&options);
    uint64_t steps = door_stats(door)->n_steps;
    struct counted before = count_now();

    for (uint32_t i = 0; i < N_LONG_RUNS; i++) {
        struct submit *submit = door_submit(i, 5, N_STEPS + 1); /* a step for its prompt */
        submit->ignore_eos = true;
        submit->want_text = submit->want_ids = false; /* no credit: it never pauses */
        submit->sampling.temperature = i % 2 == 0 ? 1.0f : 0.0f;
        submit->sampling.repetition = i % 2 == 0 ? 1.1f : 1.0f;
        struct run *run = door_send(door, submit);
        door_until_over(door, run);
        assert_int_equal(run->finished.n_completion, N_STEPS + 1);
    }

    struct counted after = count_now();
    const uint64_t n = N_LONG_RUNS * N_STEPS;
    assert_int_equal(door_stats(door)->n_steps - steps, n + N_LONG_RUNS);
    assert_int_equal(after.of[EMU_SYNCHRONISATIONS], before.of[EMU_SYNCHRONISATIONS]);
    assert_int_equal(after.of[EMU_ALLOCATIONS], before.of[EMU_ALLOCATIONS]);
    assert_int_equal(after.of[EMU_GRAPH_LAUNCHES] - before.of[EMU_GRAPH_LAUNCHES], n);
    assert_int_equal(after.of[EMU_EVENTS] - before.of[EMU_EVENTS], n + N_LONG_RUNS);
    /* each step but the last of a run was read when the next one stood behind it */
    assert_int_equal(after.of[EMU_EVENTS_AHEAD] - before.of[EMU_EVENTS_AHEAD], n);
    door_close(door);
}

/* --- ends --- */

/* Its last token was drawn when the next row was under way: who asks anew finds the room all the
 * same. */
static void test_cuda_engine__the_end_of_a_run_is_heard_when_its_pages_are_home(void **state)
{
    struct engine_options options = cuda_options(false);
    options.max_sequences = 1;
    options.max_queued = 0;
    struct door *door = door_open(&options);
    uint32_t n_ended = 0;

    for (uint32_t i = 0; i < N_RUNS; i++) {
        struct submit *submit = door_submit(i, 4, 3 * N_TOKENS);
        submit->sampling.temperature = 100; /* nearly every id alike, the end among them */
        submit->sampling.has_seed = true;
        submit->sampling.seed = i;
        for (uint32_t s = 0; s < STOP_STRINGS_MAX; s++) {
            submit->stop.len[s] = 1;
            submit->stop.bytes[s][0] = (uint8_t)('a' + s);
            submit->stop.n = s + 1;
        }
        struct run *run = door_send(door, submit);
        door_until_over(door, run);
        assert_true(run->is_finished);
        n_ended += run->finished.reason == FINISH_STOP;
        assert_int_equal(door_stats(door)->n_pages_used, 0);
    }

    assert_true(n_ended > 0);
    door_close(door);
}

/* The clock stands still until three tokens are there, and then passes the deadline. */
static _Atomic int64_t deadline_test_ns = NS_PER_S;

static int64_t deadline_now(const struct clock *clock)
{
    (void)clock;
    return deadline_test_ns;
}

static void test_cuda_engine__a_deadline_that_passes_ends_a_run_with_rows_under_way(void **state)
{
    static const struct clock clock = {.now_ns = deadline_now};
    struct engine_options options = cuda_options(false);
    struct door *door = door_create(&options);
    door->engine->clock = &clock;
    door_start(door);
    struct submit *submit = door_submit(1, 6, CONTEXT - 10);
    submit->ignore_eos = true;
    submit->arrived_ns = deadline_test_ns;
    submit->deadline_ns = deadline_test_ns + 3600 * NS_PER_S;
    struct run *run = door_send(door, submit);
    while (run->n_deltas < 3)
        door_turn(door, 100);
    deadline_test_ns += 3601 * NS_PER_S;
    door_until_over(door, run);
    assert_true(run->is_refused && run->refused.was_accepted);
    assert_int_equal(run->refused.status, STATUS_DEADLINE);
    uint32_t n_deltas = run->n_deltas;
    assert_int_equal(door_stats(door)->n_pages_used, 0); /* and nothing is heard behind it */
    assert_int_equal(run->n_deltas, n_deltas);
    door_close(door);
}

static void test_cuda_engine__a_failing_device_ends_every_run(void **state)
{
    struct engine_options options = cuda_options(false);
    struct door *door = door_create(&options);
    struct submit *bad = door_submit(1, 30, 20), *good = door_submit(2, 10, CONTEXT / 2);
    bad->ids[20] = TINY_VOCABULARY + 5;
    good->ignore_eos = true;
    door->engine->info.vocabulary += 10; /* so that admission lets pass what embed does not */
    door_start(door);

    struct run *runs[] = {door_send(door, good), NULL};
    while (runs[0]->n_deltas < 3)
        door_turn(door, 100);
    runs[1] = door_send(door, bad);
    for (int i = 0; i < 2; i++) {
        door_until_over(door, runs[i]);
        assert_true(runs[i]->is_refused);
        assert_int_equal(runs[i]->refused.status, STATUS_UNAVAILABLE);
    }
    while (!door->is_lost)
        door_turn(door, 100);
    door_close(door);
}

static void test_cuda_engine__runs_that_are_left_go_with_the_engine(void **state)
{
    struct engine_options options = cuda_options(false);
    struct door *door = door_open(&options);
    struct run *runs[8];
    for (uint32_t i = 0; i < 8; i++)
        runs[i] = door_send(door, door_submit(i, 10, CONTEXT / 2));
    while (runs[0]->n_deltas < 2 && runs[1]->n_deltas < 2)
        door_turn(door, 100);

    door_close(door); /* its asserts and the sanitizers look for what is left */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_engine__overlap_and_graphs_change_no_answer),
        cmocka_unit_test(test_cuda_engine__choices_fork_beside_steps_that_overlap),
        cmocka_unit_test(
            test_cuda_engine__packed_pages_give_one_answer_cold_cached_and_overlapped),
        cmocka_unit_test(test_cuda_engine__admission_knows_what_steps_that_overlap_do),
        cmocka_unit_test(test_cuda_engine__rows_that_fill_a_step_up_change_no_answer),
        cmocka_unit_test(
            test_cuda_engine__a_step_neither_waits_nor_allocates_nor_leaves_the_device_idle),
        cmocka_unit_test(test_cuda_engine__the_end_of_a_run_is_heard_when_its_pages_are_home),
        cmocka_unit_test(
            test_cuda_engine__a_deadline_that_passes_ends_a_run_with_rows_under_way),
        cmocka_unit_test(test_cuda_engine__a_failing_device_ends_every_run),
        cmocka_unit_test(test_cuda_engine__runs_that_are_left_go_with_the_engine),
    };
    return has_cuda() ? cmocka_run_group_tests(tests, NULL, NULL) : SKIPPED;
}
