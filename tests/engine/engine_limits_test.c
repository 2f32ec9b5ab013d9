/* What the engine takes at most: each limit, and one more, with the numbers that it is told. */
#include "base/clock.h"
#include "base/status.h"
#include "door_fixture.h"
#include "engine/engine_state.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void assert_refused(struct door *door, struct submit *submit, int status,
                           const char *setting, const char *number)
{
    struct run *run = door_send(door, submit);
    door_until_over(door, run);
    assert_true(run->is_refused && !run->is_accepted);
    assert_int_equal(run->refused.status, status);
    assert_string_equal(run->refused.setting, setting);
    if (strstr(run->refused.text, number) == NULL)
        fail_msg("%s lacks %s", run->refused.text, number);
}

static void test_engine_limits__what_cannot_fit_is_refused_with_numbers_and_setting(void **state)
{
    struct engine_options options = door_options();
    options.kv_memory_bytes = 16 * PAGE_TOKENS * TINY_TOKEN_BYTES; /* 1024 tokens */
    struct door *door = door_open(&options);

    assert_refused(door, door_submit(1, TINY_CONTEXT, 0), STATUS_INVALID, "", "2049");
    assert_refused(door, door_submit(1, 1000, 1049), STATUS_INVALID, "", "2049");
    assert_refused(door, door_submit(1, 1000, 25), STATUS_TOO_LARGE, "--kv-memory",
                   "1025 tokens, 17 pages (272.0 KiB of keys and values); the cache holds 1024 "
                   "tokens, 16 pages (256.0 KiB), of which 16 are free");
    struct submit *submit = door_submit(1, 10, 10);
    submit->ids[3] = TINY_VOCABULARY;
    assert_refused(door, submit, STATUS_INVALID, "", "position 3");
    submit = door_submit(1, 10, 10);
    submit->sampling.temperature = (float)(0.0 / 0.0);
    assert_refused(door, submit, STATUS_INVALID, "", "temperature");
    submit = door_submit(1, 10, 0);
    submit->has_max_tokens = true;
    assert_refused(door, submit, STATUS_INVALID, "", "max_tokens");
    submit = door_submit(1, 10, 10);
    submit->n_ids = 0;
    assert_refused(door, submit, STATUS_INVALID, "", "prompt");

    struct run *fits = door_run_alone(door, 1, 1000, 24);
    assert_true(fits->is_finished);
    struct run *open_ended = door_run_alone(door, 1, 1000, 0);
    assert_int_equal(open_ended->accepted.max_tokens, 24);
    door_close(door);

    options = door_options();
    options.max_context = 1024; /* less than the model was trained for: the setting helps */
    door = door_open(&options);
    assert_refused(door, door_submit(1, 1000, 25), STATUS_INVALID, "--max-context", "1025");
    door_close(door);
}

static void
test_engine_limits__runs_wait_for_pages_in_order_and_more_than_the_queue_are_refused(void **state)
{
    struct engine_options options = door_options();
    options.kv_memory_bytes = 4 * PAGE_TOKENS * TINY_TOKEN_BYTES;
    options.max_queued = 2;
    struct door *door = door_open(&options);
    struct submit *submit = door_submit(1, 100, 150);
    submit->ignore_eos = true;
    struct run *first = door_send(door, submit), *waiting[2], *refused;
    first->keeps_credit = true;
    while (first->n_deltas < CALL_CREDIT_EVENTS)
        door_turn(door, 10);

    for (int i = 0; i < 2; i++)
        waiting[i] = door_send(door, door_submit(2 + (uint32_t)i, 100, 20));
    refused = door_send(door, door_submit(4, 10, 10));
    door_until_over(door, refused);

    assert_int_equal(refused->refused.status, STATUS_EXHAUSTED);
    assert_string_equal(refused->refused.setting, "--max-queued");
    assert_true(refused->refused.numbers[0] == 3 && refused->refused.numbers[1] == 2);
    assert_non_null(strstr(refused->refused.text,
                           "needs 1 pages (16.0 KiB), and 0 of 4 are free; 1 of 16 sequences have "
                           "pages, 2 wait for theirs, and 1 more may not (--max-queued 2)"));
    assert_true(waiting[0]->is_accepted && waiting[1]->is_accepted);
    assert_int_equal(waiting[0]->accepted.n_ahead, 0);
    assert_int_equal(waiting[1]->accepted.n_ahead, 1);
    assert_int_equal(door_stats(door)->n_waiting_pages, 2);
    door_cancel(door, first);
    door_until_over(door, waiting[0]);
    door_until_over(door, waiting[1]);
    assert_true(waiting[0]->is_finished && waiting[1]->is_finished);
    door_close(door);
}

static void test_engine_limits__without_a_queue_a_run_that_fits_is_let_in(void **state)
{
    struct engine_options options = door_options();
    options.kv_memory_bytes = 4 * PAGE_TOKENS * TINY_TOKEN_BYTES;
    options.max_queued = 0;
    struct door *door = door_open(&options);
    struct submit *submit = door_submit(1, 100, 100);
    submit->ignore_eos = true;

    struct run *first = door_send(door, submit);
    first->keeps_credit = true;
    struct run *second = door_send(door, door_submit(2, 100, 20));
    door_until_over(door, second);

    assert_true(first->is_accepted);
    assert_int_equal(second->refused.status, STATUS_EXHAUSTED);
    door_close(door);
}

static void test_engine_limits__the_context_told_is_the_one_that_the_cache_holds(void **state)
{
    struct engine_options options = door_options();
    struct engine_model_info info;
    options.kv_memory_bytes = 16 * PAGE_TOKENS * TINY_TOKEN_BYTES;
    struct door *small = door_create(&options);
    engine_model_info(small->engine, &info);
    assert_int_equal(info.max_context, 16 * PAGE_TOKENS);
    assert_int_equal(info.trained_context, TINY_CONTEXT);
    door_close(small);

    options.kv_memory_bytes = 0;
    options.max_context = 500;
    struct door *asked = door_create(&options);
    engine_model_info(asked->engine, &info);
    assert_int_equal(info.max_context, 500);
    door_close(asked);
}

static void test_engine_limits__runs_cancelled_in_the_queue_leave_their_place_at_once(void **state)
{
    struct engine_options options = door_options();
    options.kv_memory_bytes = 30 * PAGE_TOKENS * TINY_TOKEN_BYTES;
    options.max_queued = 2;
    struct door *door = door_open(&options);
    struct submit *submit = door_submit(1, 100, 1800); /* all pages, and steps without a pause */
    submit->ignore_eos = true;
    submit->want_text = submit->want_ids = false;
    struct run *first = door_send(door, submit);
    while (!first->is_accepted)
        door_turn(door, 10);

    for (uint32_t i = 0; i < 70; i++) {
        struct run *waiting[] = {door_send(door, door_submit(2, 100, 20)),
                                 door_send(door, door_submit(3, 100, 20))};
        door_cancel(door, waiting[0]);
        door_cancel(door, waiting[1]);
    }
    const struct engine_stats *stats = door_stats(door);

    assert_false(first->is_finished);
    assert_int_equal(stats->n_refused, 0);
    assert_int_equal(stats->n_cancelled, 140);
    assert_int_equal(stats->n_queued, 0);
    door_close(door);
}

/* Submits that are refused, for as long as the door takes them and far beyond. */
static uint32_t send_refusable(struct door *door, uint32_t n)
{
    uint32_t n_sent = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct submit *submit = door_submit(1, 1, 1);
        submit->max_tokens = 0;
        submit->call_id = 900;
        if (engine_try_send(door->engine,
                            &(struct message){.kind = MESSAGE_SUBMIT, .submit = submit}))
            n_sent++;
        else
            submit_free(submit);
        while (i % 512 == 0 && ring_free_slots(door->engine->messages) <
                                   ring_capacity(door->engine->messages))
            sched_yield(); /* the step thread takes them all in */
    }
    return n_sent;
}

static void read_events(struct door *door, uint64_t call_id, uint32_t n_wanted)
{
    uint32_t n = 0;
    while (n < n_wanted) {
        const struct event *event = engine_peek_event(door->engine);
        if (event == NULL) {
            sched_yield();
            continue;
        }
        n += event->call_id == call_id;
        engine_pop_event(door->engine);
    }
    assert_null(engine_peek_event(door->engine));
}

static void test_engine_limits__a_loop_that_reads_nothing_cannot_fill_ring_b(void **state)
{
    struct engine_options options = door_options();
    options.max_sequences = 1; /* the smallest ring */
    options.max_queued = 0;
    struct door *door = door_open(&options);

    uint32_t n_sent = send_refusable(door, 12 * MESSAGE_RING_SLOTS);

    assert_int_equal(n_sent, MESSAGE_RING_SLOTS);
    read_events(door, 900, n_sent);
    assert_int_equal(send_refusable(door, 10), 10); /* and takes more once it has read */
    read_events(door, 900, 10);
    assert_true(door_run_alone(door, 1, 20, 20)->is_finished);
    door_close(door);
}

static void test_engine_limits__as_many_sequences_run_and_one_more_waits(void **state)
{
    struct engine_options options = door_options();
    options.max_sequences = 2;
    struct door *door = door_open(&options);
    struct run *runs[3];
    for (uint32_t i = 0; i < 3; i++) {
        struct submit *submit = door_submit(i, 20, 100);
        submit->ignore_eos = true;
        runs[i] = door_send(door, submit);
        runs[i]->keeps_credit = true;
    }
    while (runs[1]->n_deltas < CALL_CREDIT_EVENTS || door_stats(door)->n_paused < 2)
        door_turn(door, 10);

    assert_int_equal(door_stats(door)->n_waiting_pages, 1);
    assert_true(runs[2]->is_accepted && runs[2]->n_deltas == 0);
    door_cancel(door, runs[0]);
    while (runs[2]->n_deltas < CALL_CREDIT_EVENTS)
        door_turn(door, 10);
    door_close(door);
}

static void test_engine_limits__who_waits_is_told_at_once_and_then_every_second(void **state)
{
    struct engine_options options = door_options();
    options.max_sequences = 1;
    struct door *door = door_open(&options);
    struct submit *submit = door_submit(1, 20, 100);
    submit->ignore_eos = true;
    struct run *first = door_send(door, submit);
    first->keeps_credit = true;
    while (first->n_deltas < CALL_CREDIT_EVENTS || door_stats(door)->n_paused == 0)
        door_turn(door, 10); /* nothing runs any more */

    int64_t begun_ns = clock_now(&clock_monotonic);
    struct run *waiting[2] = {door_send(door, door_submit(2, 20, 20)),
                              door_send(door, door_submit(3, 20, 20))};
    while (waiting[0]->n_waiting_progress < 3 || waiting[1]->n_waiting_progress < 3) {
        door_turn(door, 100);
        assert_true(clock_now(&clock_monotonic) - begun_ns < 60 * NS_PER_S);
    }
    uint64_t passed_s = (uint64_t)((clock_now(&clock_monotonic) - begun_ns) / NS_PER_S);

    assert_in_range(passed_s, 2, 60);
    for (int i = 0; i < 2; i++) {
        assert_in_range(waiting[i]->n_waiting_progress, 3, passed_s + 2);
        assert_int_equal(waiting[i]->progress.n_total, i); /* calls ahead */
        assert_int_equal(waiting[i]->progress.n_done, 0);
        assert_true(waiting[i]->progress.left_s == 0); /* nobody knows when a reader goes on */
    }
    door_cancel(door, first);
    door_until_over(door, waiting[1]);
    door_close(door);
}

static void test_engine_limits__who_waits_for_a_running_one_is_told_how_long(void **state)
{
    struct engine_options options = door_options();
    options.max_sequences = 1;
    struct door *door = door_create(&options);
    door->engine->estimate.cost = (struct step_cost){.decode_row_ns = 20e6, .prefill_row_ns = 1e6};
    door->engine->estimate.rested = door->engine->estimate.cost;
    struct submit *submit = door_submit(1, 20, 1000);
    submit->ignore_eos = true;
    struct run *first = door_send(door, submit), *second = door_send(door, door_submit(2, 20, 20));
    door_start(door);
    while (second->n_waiting_progress == 0)
        door_turn(door, 10);

    assert_true(second->progress.left_s > 1 && second->progress.left_s < 30);
    door_cancel(door, first);
    door_until_over(door, second);
    door_close(door);
}

static int create_with_context(uint32_t max_context, struct why *why)
{
    struct engine_options options = door_options();
    struct engine *engine = NULL;
    options.max_context = max_context;
    int status = engine_create(&options, &engine, why);
    engine_free(engine);
    return status;
}

static void test_engine_limits__a_context_of_the_least_and_one_less(void **state)
{
    struct engine_options options = door_options();
    struct why why;
    options.max_context = CONTEXT_TOKENS_MIN;
    struct door *door = door_open(&options);
    assert_int_equal(door_run_alone(door, 1, CONTEXT_TOKENS_MIN - 1, 1)->n_ids, 1);
    door_close(door);

    assert_int_equal(create_with_context(CONTEXT_TOKENS_MIN - 1, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "--max-context 15"));
}

static void test_engine_limits__a_context_as_trained_and_one_more(void **state)
{
    struct why why;
    assert_int_equal(create_with_context(TINY_CONTEXT, &why), STATUS_OK);
    assert_int_equal(create_with_context(TINY_CONTEXT + 1, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "--max-context 2049"));
    assert_non_null(strstr(why.text, "2048"));
}

/* A context that nobody asked for is cut to what the cache holds; one that was must fit. */
static void test_engine_limits__a_context_that_was_asked_for_fits_or_is_refused(void **state)
{
    struct engine_options options = door_options();
    struct engine *engine = NULL;
    struct why why;
    options.kv_memory_bytes = 16 * PAGE_TOKENS * TINY_TOKEN_BYTES;
    options.max_context = 16 * PAGE_TOKENS;
    assert_int_equal(engine_create(&options, &engine, &why), STATUS_OK);
    engine_free(engine);

    options.max_context++;
    assert_int_equal(engine_create(&options, &engine, &why), STATUS_TOO_LARGE);
    assert_non_null(strstr(why.text, "--max-context 1,025"));
    assert_non_null(strstr(why.text, "holds 1,024 tokens"));
    assert_string_equal(why.numbers.setting, "--kv-memory");
}

static void test_engine_limits__a_backend_that_is_not_there_is_refused(void **state)
{
    struct engine_options options = door_options();
    struct engine *engine = NULL;
    struct why why;
    options.backend = "cuda";
    assert_int_equal(engine_create(&options, &engine, &why), STATUS_UNSUPPORTED);
    assert_non_null(strstr(why.text, "built without CUDA"));
    options.backend = "tpu";
    assert_int_equal(engine_create(&options, &engine, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "\"tpu\""));
}

static void add_grammar(const struct door *door, struct submit *submit)
{
    struct why why = {.text = ""};
    assert_int_equal(engine_compile_grammar(door->engine, ENGINE_GRAMMAR_GBNF,
                                            slice_from("root ::= [a-z]{4000}"), &submit->grammar,
                                            &why),
                     STATUS_OK);
}

static void test_engine_limits__grammars_of_the_limit_are_held_and_one_more_is_refused(void **state)
{
    struct engine_options options = door_options();
    struct run *runs[GRAMMARS_MAX];
    options.max_sequences = 2;
    options.max_queued = GRAMMARS_MAX + 1;
    struct door *door = door_open(&options);
    for (uint32_t i = 0; i < GRAMMARS_MAX; i++) {
        struct submit *submit = door_submit(1, 10, 500);
        add_grammar(door, submit);
        runs[i] = door_send(door, submit);
        runs[i]->keeps_credit = true;
    }

    struct submit *submit = door_submit(1, 10, 10);
    add_grammar(door, submit);
    struct run *beyond = door_send(door, submit);
    door_until_over(door, beyond);
    assert_int_equal(beyond->refused.status, STATUS_EXHAUSTED);
    assert_true(beyond->refused.numbers[0] == GRAMMARS_MAX + 1 &&
                beyond->refused.numbers[1] == GRAMMARS_MAX);
    struct run *plain = door_send(door, door_submit(1, 10, 10)); /* waits, and is let in */
    while (!plain->is_accepted)
        door_turn(door, 10);

    for (uint32_t i = 0; i < GRAMMARS_MAX; i++) {
        assert_true(runs[i]->is_accepted);
        door_cancel(door, runs[i]);
    }
    door_until_over(door, plain);
    submit = door_submit(1, 10, 10);
    add_grammar(door, submit);
    struct run *after = door_send(door, submit);
    door_until_over(door, after);
    assert_true(after->is_finished);
    door_close(door);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine_limits__what_cannot_fit_is_refused_with_numbers_and_setting),
        cmocka_unit_test(
            test_engine_limits__runs_wait_for_pages_in_order_and_more_than_the_queue_are_refused),
        cmocka_unit_test(test_engine_limits__without_a_queue_a_run_that_fits_is_let_in),
        cmocka_unit_test(test_engine_limits__the_context_told_is_the_one_that_the_cache_holds),
        cmocka_unit_test(test_engine_limits__runs_cancelled_in_the_queue_leave_their_place_at_once),
        cmocka_unit_test(test_engine_limits__a_loop_that_reads_nothing_cannot_fill_ring_b),
        cmocka_unit_test(test_engine_limits__as_many_sequences_run_and_one_more_waits),
        cmocka_unit_test(test_engine_limits__who_waits_is_told_at_once_and_then_every_second),
        cmocka_unit_test(test_engine_limits__who_waits_for_a_running_one_is_told_how_long),
        cmocka_unit_test(test_engine_limits__a_context_of_the_least_and_one_less),
        cmocka_unit_test(test_engine_limits__a_context_as_trained_and_one_more),
        cmocka_unit_test(test_engine_limits__a_context_that_was_asked_for_fits_or_is_refused),
        cmocka_unit_test(
            test_engine_limits__grammars_of_the_limit_are_held_and_one_more_is_refused),
        cmocka_unit_test(test_engine_limits__a_backend_that_is_not_there_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
