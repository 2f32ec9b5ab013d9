/* Several answers to one prompt: what each says, whose pages they read, and how they end. */
#include "base/status.h"
#include "door_fixture.h"
#include "engine/engine_state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct submit *drawn(uint32_t n_prompt, uint32_t max_tokens)
{
    struct submit *submit = door_submit(3, n_prompt, max_tokens);
    submit->sampling.temperature = 6;
    submit->sampling.has_seed = true;
    submit->sampling.seed = 41;
    submit->ignore_eos = true;
    return submit;
}

static struct submit *with_choices(struct submit *submit, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++)
        assert_non_null(submit_add_choice(submit));
    return submit;
}

static void until_all_over(struct door *door, const struct run *first, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        door_until_over(door, door_choice(door, first, i));
}

static void assert_same(const struct run *a, const struct run *b)
{
    assert_true(a->is_finished && b->is_finished);
    assert_int_equal(a->n_ids, b->n_ids);
    assert_memory_equal(a->ids, b->ids, a->n_ids * sizeof *a->ids);
    assert_int_equal(a->n_text, b->n_text);
    assert_memory_equal(a->text, b->text, a->n_text);
}

/* Of prompts around the borders of pages and of a step; with counts that forks take over. */
static void test_choices__the_first_is_what_it_is_alone_and_each_its_own(void **state)
{
    static const uint32_t n_prompts[] = {1, 2, 63, 64, 65, 129, 700};
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    for (uint32_t i = 0; i < 2 * sizeof n_prompts / sizeof *n_prompts; i++) {
        struct run *calls[3];
        static const uint32_t n_choices[] = {1, 2, 5};
        for (uint32_t c = 0; c < 3; c++) {
            struct submit *submit = drawn(n_prompts[i / 2], 12);
            submit->sampling.repetition = i % 2 ? 1.3f : 1;
            submit->sampling.frequency = i % 2 ? 0.5f : 0;
            calls[c] = door_send(door, with_choices(submit, n_choices[c]));
        }
        for (uint32_t c = 0; c < 3; c++)
            until_all_over(door, calls[c], n_choices[c]);
        assert_same(calls[0], calls[1]);
        assert_same(calls[0], calls[2]);
        assert_same(door_choice(door, calls[1], 1), door_choice(door, calls[2], 1));
        for (uint32_t a = 0; a < 5; a++)
            for (uint32_t b = a + 1; b < 5; b++)
                assert_memory_not_equal(door_choice(door, calls[2], a)->ids,
                                        door_choice(door, calls[2], b)->ids,
                                        12 * sizeof(uint32_t));
        assert_int_equal(calls[2]->accepted.n_choices, 5);
        assert_int_equal(calls[2]->finished.n_prompt, n_prompts[i / 2]);
    }
    assert_int_equal(door_stats(door)->n_pages_used, 0);
    assert_int_equal(door_stats(door)->n_pages_reserved, 0);
    door_close(door);
}

/* A choice that reads its prompt by itself gives the same: nothing of another leaks into it. */
static void test_choices__a_grammar_each(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct submit *alone = drawn(70, 40), *three = with_choices(drawn(70, 40), 3);
    struct why why = {.text = ""};
    alone->ignore_eos = false;
    assert_int_equal(engine_compile_grammar(door->engine, ENGINE_GRAMMAR_GBNF,
                                            slice_from("root ::= [a-f]{5,9} \".\""),
                                            &alone->grammar, &why),
                     STATUS_OK);
    for (struct submit *choice = three; choice != NULL; choice = choice->next_choice) {
        choice->ignore_eos = false;
        assert_int_equal(engine_compile_grammar(door->engine, ENGINE_GRAMMAR_GBNF,
                                                slice_from("root ::= [a-f]{5,9} \".\""),
                                                &choice->grammar, &why),
                         STATUS_OK);
    }
    struct run *one = door_send(door, alone), *first = door_send(door, three);
    door_until_over(door, one);
    until_all_over(door, first, 3);
    assert_same(one, first);
    for (uint32_t i = 0; i < 3; i++) {
        const struct run *run = door_choice(door, first, i);
        assert_int_equal(run->finished.reason, FINISH_STOP);
        assert_int_equal(run->text[run->n_text - 1], '.');
    }
    door_close(door);
}

static void test_choices__the_pages_of_the_prompt_are_there_once(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct run *first = door_send(door, with_choices(drawn(640, 60), 4));
    for (uint32_t i = 0; i < 4; i++)
        door_choice(door, first, i)->keeps_credit = true;
    for (uint32_t i = 0; i < 4; i++)
        while (door_choice(door, first, i)->n_deltas < submit_credit(4))
            door_turn(door, 10);
    const struct engine_stats *stats = door_stats(door);
    assert_int_equal(stats->n_pages_used, 9 + 4 * 2); /* 639 shared; each its tenth and more */
    assert_int_equal(stats->n_paused, 4);
    assert_int_equal(stats->n_pages_used + stats->n_pages_reserved, 9 + 4 * 2);
    assert_int_equal(submit_credit(4), CHOICE_CREDIT_EVENTS);
    struct run *other = door_run_alone(door, 7, 30, 20); /* nobody else waits for their readers */
    assert_true(other->is_finished);
    for (uint32_t i = 0; i < 4; i++) {
        struct run *run = door_choice(door, first, i);
        assert_int_equal(run->n_deltas, submit_credit(4));
        run->keeps_credit = false;
        door_credit(door, run, run->n_deltas);
    }
    until_all_over(door, first, 4);
    assert_int_equal(door_stats(door)->n_pages_used, 0);
    door_close(door);
}

enum moment { AT_ONCE, WAITING, READING, ANSWERING, PAUSED_ALL, MOMENTS };

static void wait_for(struct door *door, struct run *first, enum moment moment)
{
    struct run *last = door_choice(door, first, 2);
    while (moment == WAITING && first->n_waiting_progress == 0)
        door_turn(door, 10);
    while (moment == READING && door_stats(door)->n_prefill == 0 && last->n_deltas == 0)
        door_turn(door, 10);
    while ((moment == ANSWERING && last->n_deltas == 0) ||
           (moment == PAUSED_ALL && door_stats(door)->n_paused < 3))
        door_turn(door, 10);
}

static void test_choices__all_are_cancelled_together_in_any_state(void **state)
{
    struct engine_options options = door_options();
    options.kv_memory_bytes = 40 * PAGE_TOKENS * TINY_TOKEN_BYTES;
    struct door *door = door_open(&options);
    for (enum moment moment = AT_ONCE; moment < MOMENTS; moment++) {
        struct run *before = NULL;
        if (moment == WAITING) {
            before = door_send(door, drawn(1000, 900));
            before->keeps_credit = true;
        }
        struct run *first = door_send(door, with_choices(drawn(1200, 400), 3));
        for (uint32_t i = 0; i < 3 && moment == PAUSED_ALL; i++)
            door_choice(door, first, i)->keeps_credit = true;
        wait_for(door, first, moment);
        door_cancel(door, first);
        if (before != NULL)
            door_cancel(door, before);
        while (door_stats(door)->n_pages_used + door_stats(door)->n_pages_reserved > 0)
            door_turn(door, 10);
        for (uint32_t i = 0; i < 3; i++)
            assert_false(door_choice(door, first, i)->is_finished ||
                         door_choice(door, first, i)->is_refused);
    }
    assert_true(door_run_alone(door, 1, 100, 10)->is_finished);
    door_close(door);
}

static void assert_refused(struct door *door, struct submit *submit, int status,
                           const char *setting, double asked, double there)
{
    struct run *run = door_send(door, submit);
    door_until_over(door, run);
    assert_true(run->is_refused && !run->is_accepted);
    assert_int_equal(run->refused.status, status);
    assert_string_equal(run->refused.setting, setting);
    assert_true(run->refused.numbers[0] == asked && run->refused.numbers[1] == there);
}

static void test_choices__what_cannot_fit_together_is_refused_with_numbers(void **state)
{
    struct engine_options options = door_options();
    options.kv_memory_bytes = 20 * PAGE_TOKENS * TINY_TOKEN_BYTES;
    options.max_sequences = 6;
    struct door *door = door_open(&options);

    assert_refused(door, with_choices(drawn(10, 10), 7), STATUS_TOO_LARGE, "--max-sequences", 7, 6);
    /* 640 and 64 tokens are 11 pages; each beyond the first has two of its own, the first three */
    assert_refused(door, with_choices(drawn(640, 64), 6), STATUS_TOO_LARGE, "--kv-memory", 22, 20);
    struct run *refused = door_send(door, with_choices(drawn(640, 64), 6));
    door_until_over(door, refused);
    assert_non_null(strstr(refused->refused.text, "22 pages (352.0 KiB of keys and values); the "
                                                  "cache holds 20 (320.0 KiB), of which 20 are "
                                                  "free"));
    struct run *fits = door_send(door, with_choices(drawn(640, 64), 5));
    until_all_over(door, fits, 5);
    assert_true(fits->is_finished);
    struct run *open_ended = door_send(door, with_choices(drawn(640, 0), 5));
    until_all_over(door, open_ended, 5);
    assert_int_equal(open_ended->accepted.max_tokens, 64);
    door_close(door);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choices__the_first_is_what_it_is_alone_and_each_its_own),
        cmocka_unit_test(test_choices__a_grammar_each),
        cmocka_unit_test(test_choices__the_pages_of_the_prompt_are_there_once),
        cmocka_unit_test(test_choices__all_are_cancelled_together_in_any_state),
        cmocka_unit_test(test_choices__what_cannot_fit_together_is_refused_with_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
