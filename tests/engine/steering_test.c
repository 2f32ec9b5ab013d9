/* What requests steer a draw by: grammars, biases, penalties of the output, ends of their own. */
#include "base/status.h"
#include "door_fixture.h"
#include "engine/engine_state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct submit *drawn(uint32_t which, uint32_t max_tokens)
{
    struct submit *submit = door_submit(which, 20 + which, max_tokens);
    submit->sampling.temperature = 1.5f;
    submit->sampling.has_seed = true;
    submit->sampling.seed = 7 + which;
    return submit;
}

static struct submit *with_grammar(const struct door *door, struct submit *submit, const char *text)
{
    struct why why = {.text = ""};
    if (engine_compile_grammar(door->engine, ENGINE_GRAMMAR_GBNF, slice_from(text),
                               &submit->grammar, &why) < 0)
        fail_msg("%s", why.text);
    return submit;
}

static struct run *run_to_end(struct door *door, struct submit *submit)
{
    struct run *run = door_send(door, submit);
    door_until_over(door, run);
    return run;
}

static const char words[] = "root ::= [a-z]{2,6} (\" \" [a-z]{2,6}){3,9} \".\"";

static void assert_same(const struct run *a, const struct run *b)
{
    assert_true(a->is_finished && b->is_finished);
    assert_int_equal(a->n_ids, b->n_ids);
    assert_memory_equal(a->ids, b->ids, a->n_ids * sizeof *a->ids);
}

static void test_steering__a_grammar_holds_alone_and_beside_others(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct run *alone[3], *plain = run_to_end(door, drawn(9, 40)), *beside[7];
    for (uint32_t i = 0; i < 3; i++)
        alone[i] = run_to_end(door, with_grammar(door, drawn(i, 200), words));
    for (uint32_t i = 0; i < 7; i++)
        beside[i] = door_send(door, i % 2 == 0 ? drawn(9, 40)
                                               : with_grammar(door, drawn(i / 2, 200), words));
    for (uint32_t i = 0; i < 7; i++) {
        door_until_over(door, beside[i]);
        assert_same(beside[i], i % 2 == 0 ? plain : alone[i / 2]);
    }
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t n_blanks = 0;
        for (size_t c = 0; c + 1 < alone[i]->n_text; c++) {
            assert_true(alone[i]->text[c] == ' ' ||
                        (alone[i]->text[c] >= 'a' && alone[i]->text[c] <= 'z'));
            n_blanks += alone[i]->text[c] == ' ';
        }
        assert_in_range(n_blanks, 3, 9);
        assert_int_equal(alone[i]->text[alone[i]->n_text - 1], '.');
        assert_int_equal(alone[i]->finished.reason, FINISH_STOP);
        assert_true(alone[i]->ids[alone[i]->n_ids - 1] != TINY_END_ID); /* it ends without one */
    }
    door_close(door);
}

static void test_steering__a_grammar_is_cut_by_max_tokens_and_may_be_cancelled(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct run *cut = run_to_end(door, with_grammar(door, drawn(1, 5), "root ::= [a-z]{4000}"));
    assert_int_equal(cut->n_ids, 5);
    assert_int_equal(cut->finished.reason, FINISH_LENGTH);
    struct run *left =
        door_send(door, with_grammar(door, drawn(2, 900), "root ::= [a-z]{4000}"));
    while (left->n_deltas < 2)
        door_turn(door, 100);
    door_cancel(door, left);
    struct submit *both = with_grammar(door, drawn(3, 9), words);
    both->ignore_eos = true;
    struct run *refused = run_to_end(door, both);
    assert_true(refused->is_refused);
    assert_non_null(strstr(refused->refused.text, "ignore_eos"));
    door_close(door);
}

/* Of ever more ways to read the same letters there are too many in the end. */
static void test_steering__a_grammar_that_cannot_go_on_is_told(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct submit *submit =
        with_grammar(door, drawn(1, 1500), "root ::= s \"!\"\ns ::= \"a\" s s | \"a\"");
    for (uint32_t id = 0; id < TINY_VOCABULARY; id++) { /* the one that writes "a" */
        struct slice bytes = engine_token_bytes(door->engine, id);
        if (bytes.len == 1 && bytes.bytes[0] == 'a')
            submit->sampling.biases[submit->sampling.n_biases++] = (struct logit_bias){id, 100};
    }
    assert_int_equal(submit->sampling.n_biases, 1);
    submit->sampling.temperature = 0;
    struct run *run = run_to_end(door, submit);
    assert_true(run->is_accepted && run->is_refused && run->refused.was_accepted);
    assert_int_equal(run->refused.status, STATUS_PRECONDITION);
    assert_non_null(strstr(run->refused.text, "more ways"));
    assert_int_equal(door_stats(door)->n_pages_used, 0);
    door_close(door);
}

static void test_steering__biases_forbid_and_force(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct run *free_run = door_run_alone(door, 4, 30, 20);
    uint32_t favourite = free_run->ids[0];
    struct submit *submit = door_submit(4, 30, 20);
    submit->sampling.n_biases = 1;
    submit->sampling.biases[0] = (struct logit_bias){favourite, -100};
    struct run *without = run_to_end(door, submit);
    for (uint32_t i = 0; i < without->n_ids; i++)
        assert_int_not_equal(without->ids[i], favourite);
    submit = door_submit(4, 30, 20);
    submit->sampling.n_biases = 2;
    submit->sampling.biases[0] = (struct logit_bias){favourite, 1};
    submit->sampling.biases[1] = (struct logit_bias){77, 100};
    struct run *forced = run_to_end(door, submit);
    assert_int_equal(forced->n_ids, 20);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(forced->ids[i], 77);
    submit = door_submit(4, 30, 20);
    submit->sampling.n_biases = 1;
    submit->sampling.biases[0] = (struct logit_bias){TINY_VOCABULARY, 1};
    assert_non_null(strstr(run_to_end(door, submit)->refused.text, "beyond the vocabulary"));
    door_close(door);
}

/* A forced token, until its penalty outgrows the bias: 40 of logit a time, once for presence. */
static void test_steering__penalties_count_the_output_alone(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    for (int which = 0; which < 2; which++) {
        struct submit *submit = door_submit(4, 30, 12);
        submit->ids[3] = submit->ids[4] = 77; /* the prompt's do not count */
        submit->sampling.n_biases = 1;
        submit->sampling.biases[0] = (struct logit_bias){77, 100};
        submit->sampling.frequency = which == 0 ? 40 : 0;
        submit->sampling.presence = which == 0 ? 0 : 200;
        struct run *run = run_to_end(door, submit);
        uint32_t n = 0;
        while (n < run->n_ids && run->ids[n] == 77)
            n++;
        if (which == 0)
            assert_in_range(n, 2, 4);
        else
            assert_int_equal(n, 1);
        for (uint32_t i = n; i < run->n_ids && which == 1; i++)
            assert_int_not_equal(run->ids[i], 77);
    }
    door_close(door);
}

/* The last place of an id that did not come before. */
static uint32_t last_new(const struct run *run)
{
    for (uint32_t at = run->n_ids - 2; at > 0; at--) {
        bool is_new = true;
        for (uint32_t i = 0; i < at; i++)
            is_new &= run->ids[i] != run->ids[at];
        if (is_new)
            return at;
    }
    return 0;
}

static void test_steering__ends_of_its_own_and_a_least_number_of_tokens(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct run *free_run = door_run_alone(door, 5, 30, 20);
    assert_int_equal(free_run->n_ids, 20);
    uint32_t at = last_new(free_run);
    for (uint32_t least = 0; least <= at + 1; least += at + 1) {
        struct submit *submit = door_submit(5, 30, 20);
        submit->n_stop_tokens = 1;
        submit->stop_tokens[0] = free_run->ids[at];
        submit->min_tokens = least;
        struct run *run = run_to_end(door, submit);
        assert_int_equal(run->finished.reason == FINISH_STOP && run->n_ids == at + 1, least == 0);
        assert_memory_equal(run->ids, free_run->ids, (at + 1) * sizeof *run->ids);
    }
    struct submit *submit = door_submit(5, 30, 20); /* an end that would come at once */
    submit->sampling.n_biases = 1;
    submit->sampling.biases[0] = (struct logit_bias){TINY_END_ID, 100};
    submit->min_tokens = 6;
    struct run *run = run_to_end(door, submit);
    assert_int_equal(run->n_ids, 7);
    assert_int_equal(run->finished.reason, FINISH_STOP);
    door_close(door);
}

/* Where the only ends that it has cannot be drawn, a run would go on until max_tokens. */
static void test_steering__an_end_that_ignore_eos_forbids_is_no_stop_token(void **state)
{
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    struct submit *submit = door_submit(5, 30, 20);
    submit->ignore_eos = true;
    submit->n_stop_tokens = 2;
    submit->stop_tokens[0] = 77;
    submit->stop_tokens[1] = TINY_END_ID;
    struct run *run = run_to_end(door, submit);
    assert_int_equal(run->refused.status, STATUS_INVALID);
    assert_non_null(strstr(run->refused.text, "ignore_eos"));
    assert_non_null(strstr(run->refused.text, "stop_tokens"));
    submit = door_submit(5, 30, 20);
    submit->ignore_eos = true;
    submit->n_stop_tokens = 1;
    submit->stop_tokens[0] = 77;
    assert_true(run_to_end(door, submit)->is_finished);
    door_close(door);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steering__a_grammar_holds_alone_and_beside_others),
        cmocka_unit_test(test_steering__a_grammar_is_cut_by_max_tokens_and_may_be_cancelled),
        cmocka_unit_test(test_steering__a_grammar_that_cannot_go_on_is_told),
        cmocka_unit_test(test_steering__biases_forbid_and_force),
        cmocka_unit_test(test_steering__penalties_count_the_output_alone),
        cmocka_unit_test(test_steering__ends_of_its_own_and_a_least_number_of_tokens),
        cmocka_unit_test(test_steering__an_end_that_ignore_eos_forbids_is_no_stop_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
