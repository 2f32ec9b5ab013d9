/* The engine end to end over a tiny random model, with a real step thread. */
#include "base/clock.h"
#include "base/hash.h"
#include "base/status.h"
#include "door_fixture.h"
#include "engine/engine_state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void assert_same_ids(const struct run *a, const struct run *b)
{
    assert_true(a->is_finished && b->is_finished);
    assert_int_equal(a->n_ids, b->n_ids);
    assert_memory_equal(a->ids, b->ids, a->n_ids * sizeof *a->ids);
    assert_int_equal(a->n_text, b->n_text);
    assert_memory_equal(a->text, b->text, a->n_text);
}

static void test_engine__a_run_gives_the_same_tokens_alone_and_beside_others(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct run *alone = door_run_alone(door, 1, 700, 60), *beside[8];

    for (uint32_t i = 0; i < 8; i++)
        beside[i] =
            door_send(door, door_submit(i == 3 ? 1 : 10 + i, i == 3 ? 700 : 40 + 90 * i, 60));
    for (uint32_t i = 0; i < 8; i++)
        door_until_over(door, beside[i]);

    assert_int_equal(alone->finished.n_prompt, 700);
    assert_int_equal(alone->finished.n_completion, alone->n_ids);
    assert_same_ids(alone, beside[3]);
    door_close(door);
}

static void test_engine__steps_of_any_length_give_the_same_tokens(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct run *first = door_run_alone(door, 2, 300, 40);
    options.max_step_ns = 1; /* chunks of PREFILL_CHUNK_MIN rows */
    options.n_threads = 1;
    struct door *slow = door_open(&options);

    struct run *second = door_run_alone(slow, 2, 300, 40);

    assert_same_ids(first, second);
    assert_true(door_stats(slow)->n_steps >= 300 / PREFILL_CHUNK_MIN + second->n_ids - 1);
    door_close(door);
    door_close(slow);
}

static void test_engine__random_cancels_leave_the_others_alone_and_no_page_behind(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct run *alone[64], *runs[64];
    uint64_t dice = 7;
    for (uint32_t i = 0; i < 64; i++)
        alone[i] = door_run_alone(door, i, 5 + i * 9, 10 + i % 40);

    for (uint32_t i = 0; i < 64; i++)
        runs[i] = door_send(door, door_submit(i, 5 + i * 9, 10 + i % 40));
    bool is_cancelled[64] = {false};
    for (uint32_t i = 0; i < 64; i += 3) {
        dice = dice * 6364136223846793005u + 1442695040888963407u;
        for (uint32_t turns = (uint32_t)(dice >> 60); turns > 0; turns--)
            door_turn(door, 1);
        door_cancel(door, runs[i]);
        is_cancelled[i] = true;
    }

    for (uint32_t i = 0; i < 64; i++) {
        if (is_cancelled[i])
            continue;
        door_until_over(door, runs[i]);
        assert_same_ids(alone[i], runs[i]);
    }
    const struct engine_stats *stats = door_stats(door);
    while (stats->n_decode + stats->n_prefill + stats->n_queued + stats->n_paused > 0)
        stats = door_stats(door); /* the last cancel is on its way */
    assert_int_equal(stats->n_pages_used, 0);
    assert_int_equal(stats->n_pages_reserved, 0);
    assert_int_equal(stats->n_admitted, 128);
    door_close(door);
}

static void test_engine__a_cancel_ends_a_prompt_between_two_of_its_chunks(void **state)
{
    struct engine_options options = door_options();
    options.max_step_ns = 1; /* 16 rows a step: 2000 steps for all */
    struct door *door = door_open(&options);
    struct run *runs[16];
    for (uint32_t i = 0; i < 16; i++)
        runs[i] = door_send(door, door_submit(i, 2000, 20));
    while (door_stats(door)->n_prompt_tokens == 0)
        ;

    for (uint32_t i = 0; i < 16; i++)
        door_cancel(door, runs[i]);
    const struct engine_stats *stats = door_stats(door);
    while (stats->n_pages_used + stats->n_pages_reserved > 0)
        stats = door_stats(door);

    assert_true(stats->n_prompt_tokens < 16 * 2000);
    assert_int_equal(stats->n_generated_tokens, 0);
    assert_int_equal(stats->n_cancelled, 16);
    door_close(door);
}

static void test_engine__a_reader_without_credit_pauses_its_own_run_only(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct submit *submit = door_submit(4, 30, 100);
    submit->ignore_eos = true;
    struct run *alone = door_send(door, submit);
    door_until_over(door, alone);

    submit = door_submit(4, 30, 100);
    submit->ignore_eos = true;
    struct run *slow = door_send(door, submit);
    slow->keeps_credit = true;
    while (slow->n_deltas < CALL_CREDIT_EVENTS || door_stats(door)->n_paused == 0)
        door_turn(door, 10);
    uint64_t n_generated = door_stats(door)->n_generated_tokens;
    struct run *other = door_run_alone(door, 5, 30, 20);

    const struct engine_stats *stats = door_stats(door);
    assert_int_equal(slow->n_deltas, CALL_CREDIT_EVENTS);
    assert_int_equal(stats->n_paused, 1);
    assert_int_equal(stats->n_generated_tokens, n_generated + other->n_ids);
    assert_true(stats->n_pages_used > 0);
    slow->keeps_credit = false;
    door_credit(door, slow, CALL_CREDIT_EVENTS);
    door_until_over(door, slow);
    assert_same_ids(alone, slow);
    assert_int_equal(slow->n_ids, 100);
    door_close(door);
}

/* As many paused runs as can be named, and one more. */
static void test_engine__a_look_names_who_holds_pages_up_to_its_limit(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct run *runs[STATS_HOLDERS_MAX + 1];

    for (uint32_t i = 0; i <= STATS_HOLDERS_MAX; i++) {
        struct submit *submit = door_submit(i, 70 + i, 100);
        submit->ignore_eos = true;
        runs[i] = door_send(door, submit);
        runs[i]->keeps_credit = true;
        while (door_stats(door)->n_paused <= i)
            door_turn(door, 10);
        assert_int_equal(door_stats(door)->n_holders,
                         i < STATS_HOLDERS_MAX ? i + 1 : STATS_HOLDERS_MAX);
    }
    const struct engine_stats *stats = door_stats(door);
    assert_int_equal(stats->n_groups, 1);
    assert_int_equal(stats->groups[0].n_open + stats->groups[0].n_full, stats->n_pages_used);
    for (uint32_t i = 0; i < stats->n_holders; i++) {
        assert_string_equal(stats->holders[i].state, "PAUSED");
        assert_true(stats->holders[i].n_promised >= 170);
        for (uint32_t k = 0; k < i; k++)
            assert_int_not_equal(stats->holders[i].id, stats->holders[k].id);
    }
    for (uint32_t i = 0; i <= STATS_HOLDERS_MAX; i++)
        door_cancel(door, runs[i]);
    door_close(door);
}

static void test_engine__the_tables_of_a_run_hold_its_tokens_and_end_with_it(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct submit *submit = door_submit(4, 150, 100);
    submit->ignore_eos = true;
    struct run *run = door_send(door, submit);
    run->keeps_credit = true;
    while (door_stats(door)->n_paused == 0)
        door_turn(door, 10);

    uint32_t id = door_stats(door)->holders[0].id, n = 0;
    const struct event_tables *tables = door_tables(door, id);
    assert_true(tables->is_there);
    assert_int_equal(tables->holder.id, id);
    assert_int_equal(tables->n_committed, 150 + CALL_CREDIT_EVENTS - 1);
    assert_int_equal(tables->n_groups, 1);
    assert_int_equal(tables->tables[0].n_pages, 3);
    for (uint32_t i = 0; i < tables->tables[0].n_stretches; i++)
        n += tables->stretches[i].n;
    assert_int_equal(n, 3);
    assert_true(tables->stretches[tables->tables[0].n_stretches - 1].is_open);
    assert_false(door_tables(door, id + 1)->is_there);

    run->keeps_credit = false;
    door_credit(door, run, CALL_CREDIT_EVENTS);
    door_until_over(door, run);
    assert_false(door_tables(door, id)->is_there);
    door_close(door);
}

static void test_engine__a_deadline_that_cannot_be_met_is_refused_with_both_numbers(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_create(&options);
    door->engine->estimate.cost = (struct step_cost){.decode_row_ns = 20e6, .prefill_row_ns = 1e6};
    door->engine->estimate.rested = door->engine->estimate.cost;
    door_start(door);
    struct submit *submit = door_submit(1, 100, 1000);
    submit->deadline_ns = clock_now(&clock_monotonic) + NS_PER_S;

    struct run *run = door_send(door, submit);
    door_until_over(door, run);

    assert_true(run->is_refused && !run->is_accepted);
    assert_int_equal(run->refused.status, STATUS_DEADLINE);
    assert_string_equal(run->refused.unit, "seconds");
    assert_true(run->refused.numbers[1] > 0 && run->refused.numbers[1] <= 1);
    assert_true(run->refused.numbers[0] > 19 && run->refused.numbers[0] < 21);
    assert_non_null(strstr(run->refused.text, "20.10 seconds"));
    door_close(door);
}

/* Prompts share alike, so a short one need not wait for the end of a long one: it would be wrong
 * to refuse it by what the long one still takes. */
static void test_engine__a_short_prompt_beside_a_long_one_is_promised_its_share(void **state)
{
    struct engine_options options = door_options();
    options.max_step_ns = 1; /* 16 rows a step: the long one is under way for a while */
    struct door *door = door_create(&options);
    door->engine->estimate.cost = (struct step_cost){.decode_row_ns = 1, .prefill_row_ns = 20e6};
    door->engine->estimate.rested = door->engine->estimate.cost;
    door->engine->estimate.max_step_ns = 50 * NS_PER_MS;
    door_start(door);
    struct run *slow = door_send(door, door_submit(1, 2000, 10));
    struct submit *submit = door_submit(2, 20, 1);
    submit->deadline_ns = clock_now(&clock_monotonic) + 20 * NS_PER_S;

    struct run *quick = door_send(door, submit);
    door_until_over(door, quick);

    assert_true(slow->accepted.first_token_s > 39); /* 2000 rows of 20 ms */
    assert_true(quick->is_accepted && quick->accepted.first_token_s < 1);
    assert_true(quick->is_finished && !slow->is_finished);
    door_close(door);
}

static void test_engine__estimates_of_prompts_grow_with_what_they_look_back_on(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_create(&options);
    struct estimate estimate = door->engine->estimate; /* as the warm-up measured it */
    struct work_ahead none = {.n_decode = 0};
    door_start(door);

    struct run *run = door_run_alone(door, 1, 2000, 1);

    assert_true(estimate.cost.prefill_token_ns > 0);
    assert_true(run->accepted.first_token_s > 2 * estimate_first_token_s(&estimate, &none, 1000));
    assert_true(run->accepted.first_token_s == estimate_first_token_s(&estimate, &none, 2000));
    door_close(door);
}

static void test_engine__a_deadline_that_passes_ends_the_run(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct submit *submit = door_submit(1, 100, 0); /* whose reader takes nothing */
    submit->ignore_eos = true;
    submit->deadline_ns = clock_now(&clock_monotonic) + 2 * NS_PER_S;

    struct run *run = door_send(door, submit);
    run->keeps_credit = true;
    door_until_over(door, run);

    assert_true(run->is_accepted && run->is_refused);
    assert_int_equal(run->refused.status, STATUS_DEADLINE);
    assert_int_equal(door_stats(door)->n_pages_used, 0);
    door_close(door);
}

static void test_engine__a_stop_string_ends_the_text_before_it(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct run *whole = door_run_alone(door, 6, 50, 60);
    size_t at = whole->n_text / 2, len = 1;
    while (at > 0 && ((uint8_t)whole->text[at] & 0xc0) == 0x80)
        at--;
    while (at + len < whole->n_text && ((uint8_t)whole->text[at + len] & 0xc0) == 0x80)
        len++;
    struct submit *submit = door_submit(6, 50, 60);
    submit->stop.n = 2;
    submit->stop.len[0] = 3;
    memcpy(submit->stop.bytes[0], "\x01\x02\x03", 3);
    submit->stop.len[1] = (uint16_t)len;
    memcpy(submit->stop.bytes[1], whole->text + at, len);

    struct run *run = door_send(door, submit);
    door_until_over(door, run);

    const char *first = memmem(whole->text, whole->n_text, whole->text + at, len);
    assert_int_equal(run->finished.reason, FINISH_STOP);
    assert_int_equal(run->finished.stop_idx, 1);
    assert_int_equal(run->n_text, first - whole->text);
    assert_memory_equal(run->text, whole->text, run->n_text);
    door_close(door);
}

static void test_engine__a_run_that_ends_badly_is_answered_once(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    for (int i = 0; i < 2; i++) {
        struct submit *submit = door_submit(1, 100, 0);
        submit->ignore_eos = true;
        submit->deadline_ns = clock_now(&clock_monotonic) + 2 * NS_PER_S;
        struct run *run = door_send(door, submit);
        run->keeps_credit = true;
        door_until_over(door, run);
        assert_true(run->is_accepted && run->is_refused && run->refused.was_accepted);
    }
    door_stats(door);
    assert_int_equal(door->engine->n_unanswered, 0);
    door_close(door);
}

static void test_engine__a_seed_gives_its_tokens_again_and_is_told(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct run *runs[3];
    for (int i = 0; i < 3; i++) {
        struct submit *submit = door_submit(7, 20, 50);
        submit->sampling.temperature = 1.5f;
        submit->sampling.has_seed = i > 0;
        submit->sampling.seed = i == 0 ? 0 : runs[0]->accepted.seed;
        submit->want_logprobs = true;
        submit->n_top = 5;
        runs[i] = door_send(door, submit);
        door_until_over(door, runs[i]);
    }
    assert_same_ids(runs[0], runs[1]);
    assert_same_ids(runs[0], runs[2]);
    assert_int_equal(runs[0]->n_logprobs, runs[0]->n_ids);
    door_close(door);
}

static void test_engine__ignore_eos_never_draws_an_end(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct submit *submit = door_submit(8, 20, 1500);
    submit->sampling.temperature = 100; /* nearly every id alike */
    submit->sampling.has_seed = true;
    submit->ignore_eos = true;

    struct run *run = door_send(door, submit);
    door_until_over(door, run);

    assert_int_equal(run->n_ids, 1500);
    assert_int_equal(run->finished.reason, FINISH_LENGTH);
    for (uint32_t i = 0; i < run->n_ids; i++)
        assert_int_not_equal(run->ids[i], TINY_END_ID);
    door_close(door);
}

static struct run *run_penalised(struct door *door, uint32_t which)
{
    struct submit *submit = door_submit(which, 40, 40);
    submit->sampling.repetition = 1e6f;
    submit->ignore_eos = true;
    struct run *run = door_send(door, submit);
    door_until_over(door, run);
    assert_int_equal(run->n_ids, 40);
    return run;
}

static void test_engine__a_repetition_penalty_sees_prompt_and_output(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct submit *submit = door_submit(9, 40, 40);
    bool seen[TINY_VOCABULARY] = {false};
    for (uint32_t i = 0; i < submit->n_ids; i++)
        seen[submit->ids[i]] = true;
    submit_free(submit);

    struct run *run = run_penalised(door, 9);

    for (uint32_t i = 0; i < run->n_ids; i++) {
        assert_false(seen[run->ids[i]]);
        seen[run->ids[i]] = true;
    }
    door_close(door);
}

static void test_engine__a_repetition_penalty_sees_nothing_of_the_runs_before(void **state)
{
    struct engine_options options = door_options();
    options.max_sequences = 1; /* all have the same place */
    struct door *door = door_open(&options);
    struct run *first = run_penalised(door, 9);
    run_penalised(door, 10);

    struct run *again = run_penalised(door, 9);

    assert_same_ids(first, again);
    door_close(door);
}

static void test_engine__strict_devices_make_no_difference(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct run *plain = door_run_alone(door, 3, 150, 20);
    setenv("QUIRE_STRICT_DEVICE", "1", 1);
    struct door *strict_door = door_open(&options);
    unsetenv("QUIRE_STRICT_DEVICE");

    struct run *strict = door_run_alone(strict_door, 3, 150, 20);

    assert_same_ids(plain, strict);
    door_close(strict_door);
    door_close(door);
}

static void test_engine__a_failing_device_ends_every_run_and_tells_the_loop(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_create(&options);
    struct submit *bad = door_submit(1, 50, 20);
    bad->ids[40] = TINY_VOCABULARY + 5;
    door->engine->info.vocabulary += 10; /* so that admission lets pass what embed does not */
    door_start(door);
    struct submit *idle = door_submit(2, 50, 20);
    idle->ignore_eos = true;

    struct run *runs[] = {door_send(door, idle), door_send(door, bad)};
    runs[0]->keeps_credit = true;
    for (int i = 0; i < 2; i++)
        door_until_over(door, runs[i]);
    while (!door->is_lost)
        door_turn(door, 100);
    struct run *late = door_send(door, door_submit(3, 10, 10));
    door_until_over(door, late);

    for (int i = 0; i < 2; i++)
        assert_int_equal(runs[i]->refused.status, STATUS_UNAVAILABLE);
    assert_int_equal(late->refused.status, STATUS_UNAVAILABLE);
    door_close(door);
}

static void test_engine__the_digest_of_the_weights_is_told_once_it_is_known(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    static uint8_t file[1 << 22];
    FILE *model = fopen(tiny_model_path(), "rb");
    size_t n = fread(file, 1, sizeof file, model);
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX_BYTES], known[65];
    fclose(model);
    sha256_of(file, n, digest);
    sha256_hex(digest, hex);

    while (door->weights[0] == 0)
        door_turn(door, 1000);

    assert_string_equal(door->weights, hex);
    assert_true(engine_weights_sha256(door->engine, known));
    assert_string_equal(known, hex);
    door_close(door);
}

static void test_engine__runs_that_are_left_go_with_the_engine(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    for (uint32_t i = 0; i < 30; i++)
        door_send(door, door_submit(i, 200, 500));
    door_turn(door, 1000);

    door_close(door); /* its asserts and the sanitizers look for what is left */
}

static void test_engine__text_goes_to_tokens_and_back(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_create(&options);
    uint32_t *ids;
    struct token_span *spans;
    size_t n, len;
    uint8_t *text;
    struct why why;

    assert_int_equal(
        engine_tokenize(door->engine, slice_from("xab"), -1, false, 10, &ids, &spans, &n, &why),
        STATUS_OK);
    assert_int_equal(n, 2);
    assert_int_equal(ids[1], TINY_VOCABULARY - 1);
    assert_int_equal(spans[1].begin, 1);
    assert_int_equal(spans[1].end, 3);
    assert_int_equal(engine_detokenize(door->engine, ids, n, false, &text, &len, &why), STATUS_OK);
    assert_int_equal(len, 3);
    assert_memory_equal(text, "xab", 3);
    uint32_t beyond = TINY_VOCABULARY;
    uint8_t *none;
    assert_int_equal(engine_detokenize(door->engine, &beyond, 1, false, &none, &len, &why),
                     STATUS_INVALID);
    uint32_t *more;
    assert_int_equal(
        engine_tokenize(door->engine, slice_from("xyz"), -1, false, 2, &more, NULL, &n, &why),
        STATUS_TOO_LARGE);
    free(ids);
    free(spans);
    free(text);
    door_close(door);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine__a_run_gives_the_same_tokens_alone_and_beside_others),
        cmocka_unit_test(test_engine__steps_of_any_length_give_the_same_tokens),
        cmocka_unit_test(test_engine__random_cancels_leave_the_others_alone_and_no_page_behind),
        cmocka_unit_test(test_engine__a_cancel_ends_a_prompt_between_two_of_its_chunks),
        cmocka_unit_test(test_engine__a_reader_without_credit_pauses_its_own_run_only),
        cmocka_unit_test(test_engine__a_look_names_who_holds_pages_up_to_its_limit),
        cmocka_unit_test(test_engine__the_tables_of_a_run_hold_its_tokens_and_end_with_it),
        cmocka_unit_test(test_engine__a_deadline_that_cannot_be_met_is_refused_with_both_numbers),
        cmocka_unit_test(test_engine__a_short_prompt_beside_a_long_one_is_promised_its_share),
        cmocka_unit_test(test_engine__estimates_of_prompts_grow_with_what_they_look_back_on),
        cmocka_unit_test(test_engine__a_deadline_that_passes_ends_the_run),
        cmocka_unit_test(test_engine__a_stop_string_ends_the_text_before_it),
        cmocka_unit_test(test_engine__a_run_that_ends_badly_is_answered_once),
        cmocka_unit_test(test_engine__a_seed_gives_its_tokens_again_and_is_told),
        cmocka_unit_test(test_engine__ignore_eos_never_draws_an_end),
        cmocka_unit_test(test_engine__a_repetition_penalty_sees_prompt_and_output),
        cmocka_unit_test(test_engine__a_repetition_penalty_sees_nothing_of_the_runs_before),
        cmocka_unit_test(test_engine__strict_devices_make_no_difference),
        cmocka_unit_test(test_engine__a_failing_device_ends_every_run_and_tells_the_loop),
        cmocka_unit_test(test_engine__the_digest_of_the_weights_is_told_once_it_is_known),
        cmocka_unit_test(test_engine__runs_that_are_left_go_with_the_engine),
        cmocka_unit_test(test_engine__text_goes_to_tokens_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
