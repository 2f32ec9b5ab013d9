/* What admission says while runs wait, are paused, and have given up their pages: an engine whose
 * step thread is the test. */
#include "base/clock.h"
#include "base/status.h"
#include "door_fixture.h"
#include "engine/engine_state.h"
#include "engine/prompt_prefix.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DIGEST "00000000000000000000000000000000000000000000000000000000000000ff"

/* A row of a prompt takes a millisecond, one that decodes ten. n_pages 0: as many as there may be.
 */
static struct door *known_door(uint32_t n_pages)
{
    struct engine_options options = door_options();
    options.n_threads = 1;
    options.kv_memory_bytes = (uint64_t)n_pages * PAGE_TOKENS * TINY_TOKEN_BYTES;
    struct door *door = door_create(&options);
    prompt_prefix_identify(door->engine, DIGEST);
    door->engine->estimate.cost = (struct step_cost){.decode_row_ns = 10e6, .prefill_row_ns = 1e6};
    return door;
}

/* Sent and taken in; its sequence. */
static const struct sequence *enter(struct door *door, struct submit *submit)
{
    const struct run *run = door_send(door, submit);
    admission_drain(door->engine);
    admission_open_pages(door->engine);
    list_for_each(node, &door->engine->runs)
    {
        const struct sequence *sequence = list_entry(node, struct sequence, link);
        if (sequence->submit->call_id == run->call_id)
            return sequence;
    }
    fail_msg("the run was refused");
    return NULL;
}

static void assert_seconds(double seconds, double wanted)
{
    if (fabs(seconds - wanted) > 1e-6)
        fail_msg("%g seconds, not %g", seconds, wanted);
}

/* Both begin with the same 29 pages: 1856 tokens at a millisecond each. */
static void test_judge__who_waits_for_another_to_read_its_prompt_is_told_how_long(void **state)
{
    struct door *door = known_door(0);
    const struct sequence *first = enter(door, door_submit(1, 1900, 20)),
                          *second = enter(door, door_submit(1, 1890, 20));
    assert_int_equal(first->state, SEQUENCE_PREFILL);
    assert_int_equal(second->state, SEQUENCE_WAITING_PAGES);
    assert_true(sequence_has_pages(second));
    assert_seconds(judge_wait_s(door->engine, second), 1.856);

    /* a third reads beside the first, and they share alike */
    enter(door, door_submit(2, 500, 20));
    assert_seconds(judge_wait_s(door->engine, second), 1.856 + 0.5);
    door_close(door);
}

static void test_judge__an_estimate_counts_what_another_is_reading_once(void **state)
{
    struct door *door = known_door(0);
    enter(door, door_submit(1, 1900, 20));
    struct run *second = door_send(door, door_submit(1, 1890, 20));
    admission_drain(door->engine);
    while (!second->is_accepted)
        door_turn(door, 0);

    /* the first reads 1900, and it 34 behind the 1856 that both begin with */
    assert_seconds(second->accepted.first_token_s, 1.890 + 0.034);
    assert_int_equal(second->accepted.n_cached, 0);
    door_close(door);
}

/* Four answers to one prompt that wait: one of them reads it, each of the others its last token. */
static void test_judge__an_estimate_counts_the_prompt_of_choices_that_wait_once(void **state)
{
    struct door *door = known_door(40);
    enter(door, door_submit(1, 1000, 900));
    struct submit *many = door_submit(2, 500, 20);
    for (int i = 1; i < 4; i++)
        assert_non_null(submit_add_choice(many));
    assert_int_equal(enter(door, many)->state, SEQUENCE_WAITING_PAGES);
    struct run *last = door_send(door, door_submit(3, 100, 20));
    admission_drain(door->engine);
    while (!last->is_accepted)
        door_turn(door, 0);

    assert_int_equal(last->accepted.n_ahead, 1);
    assert_seconds(last->accepted.first_token_s, 0.5 + 3 * 0.001 + 0.1 + 0.1);
    door_close(door);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge__who_waits_for_another_to_read_its_prompt_is_told_how_long),
        cmocka_unit_test(test_judge__an_estimate_counts_what_another_is_reading_once),
        cmocka_unit_test(test_judge__an_estimate_counts_the_prompt_of_choices_that_wait_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
