/* Runs whose readers take nothing give way, and go on where they were when somebody reads. */
#include "base/clock.h"
#include "door_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define N_PROMPT 700
#define N_ANSWER 300 /* with the prompt 16 pages: two do not fit into 20 */

static struct submit *asked(uint32_t which)
{
    struct submit *submit = door_submit(which, N_PROMPT, N_ANSWER);
    submit->ignore_eos = submit->want_logprobs = true;
    submit->sampling.temperature = 0.9f;
    submit->sampling.has_seed = true;
    submit->sampling.seed = which;
    submit->sampling.repetition = 1.2f;
    submit->sampling.frequency = 0.1f; /* what was generated counts, each time */
    return submit;
}

/* Until it waits for its reader, as one more does then. */
static struct run *send_unread(struct door *door, uint32_t which)
{
    uint32_t n_before = door_stats(door)->n_paused;
    struct run *run = door_send(door, asked(which));
    run->keeps_credit = true;
    while (door_stats(door)->n_paused == n_before)
        door_turn(door, 100);
    return run;
}

static struct engine_options small_cache(void)
{
    struct engine_options options = door_options();
    options.max_context = 1024;
    options.preempt_ns = 50 * NS_PER_MS;
    options.kv_memory_bytes = 20 * 64 * TINY_TOKEN_BYTES;
    return options;
}

static void assert_same_answer(const struct run *a, const struct run *b)
{
    assert_true(a->is_finished && b->is_finished);
    assert_int_equal(a->n_ids, N_ANSWER);
    assert_int_equal(b->n_ids, N_ANSWER);
    assert_memory_equal(a->ids, b->ids, sizeof *a->ids * N_ANSWER);
    assert_memory_equal(a->logprobs, b->logprobs, sizeof *a->logprobs * N_ANSWER);
}

/* Two runs, of which the first stops reading until the second is over; then it reads on. */
static void run_two(bool no_prefix_cache)
{
    struct engine_options options = small_cache();
    options.no_prefix_cache = no_prefix_cache;
    struct door *door = door_open(&options);
    struct run *alone = door_send(door, asked(1));
    door_until_over(door, alone);

    struct run *slow = send_unread(door, 1);
    struct run *other = door_send(door, asked(2));
    door_until_over(door, other);
    assert_int_equal(other->n_ids, N_ANSWER);
    assert_false(slow->is_finished);
    assert_int_equal(door_stats(door)->n_preempted, 1);
    assert_int_equal(door_stats(door)->n_paused, 1);
    slow->keeps_credit = false;
    door_credit(door, slow, slow->n_deltas);
    door_until_over(door, slow);

    assert_same_answer(alone, slow);
    assert_true(door_stats(door)->n_reread_tokens > 0);
    assert_int_equal(door_stats(door)->n_pages_used, 0);
    door_close(door);
}

static void test_preempt__a_run_that_nobody_reads_gives_way_and_goes_on(void **state)
{
    run_two(false);
}

static void test_preempt__all_of_it_is_read_again_where_nothing_is_kept(void **state)
{
    run_two(true);
}

static void test_preempt__a_reader_that_is_slow_for_less_keeps_its_pages(void **state)
{
    struct engine_options options = small_cache();
    options.preempt_ns = 1000 * NS_PER_S;
    struct door *door = door_open(&options);
    struct run *slow = send_unread(door, 1);
    struct run *other = door_send(door, asked(2));
    while (other->n_waiting_progress < 2)
        door_turn(door, 100);

    assert_int_equal(door_stats(door)->n_preempted, 0);
    assert_int_equal(door_stats(door)->n_waiting_pages, 1);
    slow->keeps_credit = false;
    door_credit(door, slow, slow->n_deltas);
    door_until_over(door, slow);
    door_until_over(door, other);
    door_close(door);
}

static void test_preempt__a_cancel_reaches_a_run_that_gave_way(void **state)
{
    struct engine_options options = small_cache();
    struct door *door = door_open(&options);
    struct run *slow = send_unread(door, 1);
    struct run *other = door_send(door, asked(2));
    door_until_over(door, other);
    assert_int_equal(door_stats(door)->n_preempted, 1);

    door_cancel(door, slow);
    while (door_stats(door)->n_paused > 0)
        door_turn(door, 100);
    assert_int_equal(door_stats(door)->n_cancelled, 1);
    assert_int_equal(door_stats(door)->n_pages_used + door_stats(door)->n_pages_reserved, 0);
    door_close(door);
}

/* The other stops reading as well: when it has done so for long enough, nobody but the clock says
 * so, and it gives way in its turn. */
static void test_preempt__who_took_the_pages_gives_them_back_when_nobody_reads_it(void **state)
{
    struct engine_options options = small_cache();
    options.preempt_ns = 400 * NS_PER_MS; /* the second's are not over when the first reads on */
    struct door *door = door_open(&options);
    struct run *first = send_unread(door, 1);
    struct run *second = send_unread(door, 2);
    assert_int_equal(door_stats(door)->n_preempted, 1);

    first->keeps_credit = false;
    door_credit(door, first, first->n_deltas);
    door_until_over(door, first);
    assert_int_equal(door_stats(door)->n_preempted, 2);
    second->keeps_credit = false;
    door_credit(door, second, second->n_deltas);
    door_until_over(door, second);
    assert_int_equal(first->n_ids, N_ANSWER);
    assert_int_equal(second->n_ids, N_ANSWER);
    door_close(door);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_preempt__a_run_that_nobody_reads_gives_way_and_goes_on),
        cmocka_unit_test(test_preempt__all_of_it_is_read_again_where_nothing_is_kept),
        cmocka_unit_test(test_preempt__a_reader_that_is_slow_for_less_keeps_its_pages),
        cmocka_unit_test(test_preempt__who_took_the_pages_gives_them_back_when_nobody_reads_it),
        cmocka_unit_test(test_preempt__a_cancel_reaches_a_run_that_gave_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
