/* Prompts that begin alike: the same answers cold and warm, and what is computed of them. */
#include "base/clock.h"
#include "door_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct door *known_door(const struct engine_options *options)
{
    struct door *door = door_open(options);
    while (door->weights[0] == 0)
        door_turn(door, 1000);
    return door;
}

static struct submit *salted(struct submit *submit, const char *salt)
{
    submit->salt.n = (uint32_t)strlen(salt);
    memcpy(submit->salt.bytes, salt, submit->salt.n);
    return submit;
}

static struct run *answer(struct door *door, struct submit *submit)
{
    struct run *run = door_send(door, submit);
    door_until_over(door, run);
    assert_true(run->is_finished);
    return run;
}

static void assert_same_answer(const struct run *a, const struct run *b)
{
    assert_int_equal(a->n_ids, b->n_ids);
    assert_memory_equal(a->ids, b->ids, a->n_ids * sizeof *a->ids);
    assert_memory_equal(a->logprobs, b->logprobs, a->n_ids * sizeof *a->logprobs);
    assert_string_equal(a->text, b->text);
}

static struct submit *asked(uint32_t which, uint32_t n_prompt, uint32_t max_tokens)
{
    struct submit *submit = door_submit(which, n_prompt, max_tokens);
    submit->ignore_eos = submit->want_logprobs = true;
    return submit;
}

static void test_prompt_prefix__answers_are_the_same_cold_and_warm(void **state)
{
    struct engine_options options = door_options(), cold_options = door_options();
    cold_options.no_prefix_cache = true;
    struct door *door = known_door(&options), *cold_door = known_door(&cold_options);

    const uint32_t lengths[] = {64, 65, 128, 300, 700};
    for (int i = 0; i < 5; i++) {
        uint32_t n = lengths[i];
        struct run *cold = answer(cold_door, asked(1, n, 20));
        struct run *first = answer(door, asked(1, n, 20)), *again = answer(door, asked(1, n, 20));
        assert_same_answer(cold, first);
        assert_same_answer(cold, again);
        assert_int_equal(cold->finished.n_cached, 0);
        assert_int_equal(cold->finished.cache_end, CACHE_END_UNNAMED);
        assert_int_equal(again->accepted.n_cached, (n - 1) / 64 * 64);
        assert_int_equal(again->finished.n_cached, (n - 1) / 64 * 64);
        assert_int_equal(again->finished.cache_end, CACHE_END_WHOLE);
    }
    door_close(door);
    door_close(cold_door);
}

static void test_prompt_prefix__penalties_see_tokens_that_came_out_of_the_cache(void **state)
{
    struct engine_options options = door_options();
    struct door *door = known_door(&options);
    struct run *runs[3];

    for (int i = 0; i < 3; i++) {
        struct submit *submit = asked(1, 200, 40);
        submit->sampling.repetition = 1.8f;
        submit->sampling.presence = 0.5f;
        runs[i] = answer(door, salted(submit, i == 2 ? "another" : ""));
    }

    assert_int_equal(runs[1]->finished.n_cached, 192);
    assert_int_equal(runs[2]->finished.n_cached, 0);
    assert_same_answer(runs[0], runs[1]);
    assert_same_answer(runs[0], runs[2]);
    door_close(door);
}

static void test_prompt_prefix__a_foreign_salt_computes_what_a_cold_one_does(void **state)
{
    struct engine_options options = door_options();
    struct door *door = known_door(&options);
    uint64_t computed[4] = {0};

    const char *const salts[] = {"a", "b", "a"};
    for (int i = 0; i < 3; i++) {
        struct run *run = answer(door, salted(asked(1, 300, 5), salts[i]));
        assert_int_equal(run->finished.n_cached, i == 2 ? 256 : 0);
        computed[i + 1] = door_stats(door)->n_prompt_tokens;
    }

    assert_int_equal(computed[1] - computed[0], 300);
    assert_int_equal(computed[2] - computed[1], 300);
    assert_int_equal(computed[3] - computed[2], 300 - 256);
    door_close(door);
}

/* By whoever prepares it: as the step thread names it, or it would find nothing. */
static void test_prompt_prefix__a_prompt_that_came_with_its_names_finds_the_same(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_create(&options);
    struct submit *early = asked(1, 700, 5);
    engine_name_prompt(door->engine, early);
    assert_false(early->has_page_keys); /* the digest is not known */
    door_start(door);
    while (door->weights[0] == 0)
        door_turn(door, 1000);
    struct run *first = answer(door, early);

    struct submit *named = asked(1, 700, 5), *foreign = salted(asked(1, 700, 5), "a");
    assert_non_null(submit_add_choice(named));
    engine_name_prompt(door->engine, named);
    engine_name_prompt(door->engine, foreign);
    assert_true(named->has_page_keys && named->next_choice->has_page_keys);
    assert_true(foreign->has_page_keys);
    struct run *again = answer(door, named), *apart = answer(door, foreign);
    assert_int_equal(again->finished.n_cached, 640);
    assert_int_equal(apart->finished.n_cached, 0);
    assert_same_answer(first, again);
    assert_int_equal(answer(door, salted(asked(1, 700, 5), "a"))->finished.n_cached, 640);

    struct submit *beyond = asked(1, TINY_CONTEXT + 1, 5);
    engine_name_prompt(door->engine, beyond);
    assert_false(beyond->has_page_keys); /* it is refused */
    submit_free(beyond);
    door_close(door);
}

static void test_prompt_prefix__the_next_turn_begins_with_the_last_answer(void **state)
{
    struct engine_options options = door_options();
    struct door *door = known_door(&options);
    struct run *first = answer(door, asked(1, 100, 200));

    struct submit *next = asked(1, 400, 5);
    memcpy(next->ids + 100, first->ids, 200 * sizeof *next->ids);
    struct run *second = answer(door, next);

    /* the last token drawn was never read: 299 tokens are 4 pages */
    assert_int_equal(second->finished.n_cached, 256);
    assert_int_equal(second->finished.cache_end, CACHE_END_ABSENT);
    door_close(door);
}

static void test_prompt_prefix__prompts_that_come_together_are_computed_once(void **state)
{
    struct engine_options options = door_options();
    struct door *door = known_door(&options);
    struct run *runs[6], *alone = answer(door, salted(asked(2, 1500, 5), "alone"));
    uint64_t before = door_stats(door)->n_prompt_tokens;

    for (int i = 0; i < 6; i++)
        runs[i] = door_send(door, asked(2, 1500, 5));
    for (int i = 0; i < 6; i++)
        door_until_over(door, runs[i]);

    for (int i = 0; i < 6; i++) {
        assert_same_answer(alone, runs[i]);
        assert_int_equal(runs[i]->finished.n_cached, i == 0 ? 0 : 1472);
    }
    assert_int_equal(door_stats(door)->n_prompt_tokens - before, 1500 + 5 * (1500 - 1472));
    door_close(door);
}

static void test_prompt_prefix__a_cancelled_reader_leaves_its_pages_to_who_waited(void **state)
{
    struct engine_options options = door_options();
    options.max_step_ns = NS_PER_MS; /* small chunks: it is cancelled in the middle */
    struct door *door = known_door(&options);
    struct run *alone = answer(door, salted(asked(2, 1900, 5), "alone"));

    struct run *first = door_send(door, asked(2, 1900, 5));
    struct run *second = door_send(door, asked(2, 1900, 5));
    while (first->n_progress == 0 && !first->is_finished)
        door_turn(door, 1000);
    door_cancel(door, first);
    door_until_over(door, second);

    assert_same_answer(alone, second);
    door_close(door);
}

static void test_prompt_prefix__several_answers_begin_behind_a_match(void **state)
{
    struct engine_options options = door_options();
    struct door *door = known_door(&options);
    struct run *runs[2][3];

    for (int i = 0; i < 2; i++) {
        struct submit *submit = asked(3, 257, 30);
        submit->sampling.temperature = 1;
        submit->sampling.has_seed = true;
        submit->sampling.seed = 7;
        submit->sampling.repetition = 1.3f;
        for (int c = 1; c < 3; c++)
            assert_non_null(submit_add_choice(submit));
        runs[i][0] = door_send(door, submit);
        for (uint32_t c = 0; c < 3; c++) {
            runs[i][c] = door_choice(door, runs[i][0], c);
            door_until_over(door, runs[i][c]);
        }
    }

    assert_int_equal(runs[1][0]->finished.n_cached, 256); /* all but the last: they fork at once */
    for (int c = 0; c < 3; c++)
        assert_same_answer(runs[0][c], runs[1][c]);
    door_close(door);
}

static void test_prompt_prefix__runs_under_way_are_shared_once_the_digest_is_known(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct run *first = door_send(door, asked(4, 1800, 5)); /* it may begin before or after */
    while (door->weights[0] == 0)
        door_turn(door, 1000);
    door_until_over(door, first);

    struct run *second = answer(door, asked(4, 1800, 5));
    assert_int_equal(second->finished.n_cached, 1792);
    assert_same_answer(first, second);
    door_close(door);
}

static void test_prompt_prefix__a_cache_too_small_for_all_goes_on_and_gives_way(void **state)
{
    struct engine_options options = door_options();
    options.kv_memory_bytes = 32 * 64 * TINY_TOKEN_BYTES; /* one full context */
    struct door *door = known_door(&options);
    struct run *runs[3][4];

    for (int round = 0; round < 3; round++)
        for (uint32_t which = 0; which < 4; which++)
            runs[round][which] = door_send(door, asked(which, 900, 20));
    for (int round = 0; round < 3; round++)
        for (uint32_t which = 0; which < 4; which++) {
            door_until_over(door, runs[round][which]);
            assert_same_answer(runs[0][which], runs[round][which]);
        }

    assert_true(door_stats(door)->n_evicted_pages > 0);
    assert_int_equal(door_stats(door)->n_pages_used, 0);
    door_close(door);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompt_prefix__answers_are_the_same_cold_and_warm),
        cmocka_unit_test(test_prompt_prefix__penalties_see_tokens_that_came_out_of_the_cache),
        cmocka_unit_test(test_prompt_prefix__a_foreign_salt_computes_what_a_cold_one_does),
        cmocka_unit_test(test_prompt_prefix__a_prompt_that_came_with_its_names_finds_the_same),
        cmocka_unit_test(test_prompt_prefix__the_next_turn_begins_with_the_last_answer),
        cmocka_unit_test(test_prompt_prefix__prompts_that_come_together_are_computed_once),
        cmocka_unit_test(test_prompt_prefix__a_cancelled_reader_leaves_its_pages_to_who_waited),
        cmocka_unit_test(test_prompt_prefix__several_answers_begin_behind_a_match),
        cmocka_unit_test(test_prompt_prefix__runs_under_way_are_shared_once_the_digest_is_known),
        cmocka_unit_test(test_prompt_prefix__a_cache_too_small_for_all_goes_on_and_gives_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
