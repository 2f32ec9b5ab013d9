/* Runs whose readers take nothing give way, and go on where they were when somebody reads. */
#include "base/clock.h"
#include "base/status.h"
#include "door_fixture.h"
#include "tests/under_tsan.h"

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

/* So that word of what it does is due again. */
static void let_pass(struct door *door, int64_t ns)
{
    int64_t end_ns = clock_now(&clock_monotonic) + ns;
    while (clock_now(&clock_monotonic) < end_ns)
        door_turn(door, 10);
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
    let_pass(door, 150 * NS_PER_MS);
    uint32_t n_told = slow->n_progress, n_text = N_PROMPT + slow->n_ids;
    slow->keeps_credit = false;
    door_credit(door, slow, slow->n_deltas);
    door_until_over(door, slow);

    assert_same_answer(alone, slow);
    assert_true(slow->n_progress > n_told); /* its reader hears that it reads */
    assert_int_equal(slow->progress.n_total, n_text);
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

/* Others' pages push what it read out to the host; when it goes on they come back. */
static void test_preempt__its_pages_go_to_the_host_and_come_back(void **state)
{
    struct engine_options options = small_cache();
    options.host_pool_bytes = 40 * 64 * TINY_TOKEN_BYTES;
    struct door *door = door_open(&options);
    while (door->weights[0] == 0) /* before it nothing is kept */
        door_turn(door, 1000);
    struct run *slow = send_unread(door, 1);
    struct run *other = door_send(door, asked(2));
    door_until_over(door, other);
    assert_int_equal(door_stats(door)->n_preempted, 1);
    assert_true(door_stats(door)->n_spilled_pages > 0);
    slow->keeps_credit = false;
    door_credit(door, slow, slow->n_deltas);
    door_until_over(door, slow);
    assert_true(door_stats(door)->n_recalled_pages > 0);
    assert_true(door_stats(door)->n_reread_tokens < N_PROMPT % 64 + N_ANSWER);

    options.no_prefix_cache = true;
    options.host_pool_bytes = 0;
    struct door *cold = door_open(&options);
    struct run *alone = door_send(cold, asked(1));
    door_until_over(cold, alone);
    assert_same_answer(alone, slow);
    door_close(door);
    door_close(cold);
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

/* Nothing of it gave way: it goes on behind the last whole page of its answer. */
static void test_preempt__who_is_read_again_finds_its_own_answer(void **state)
{
    struct engine_options options = small_cache();
    struct door *door = door_open(&options);
    while (door->weights[0] == 0)
        door_turn(door, 100);
    struct submit *salted = asked(1);
    salted->salt.bytes[salted->salt.n++] = 'x'; /* so that the other finds nothing of it */
    struct run *alone = door_send(door, salted);
    door_until_over(door, alone);

    struct run *slow = door_send(door, asked(1));
    while (slow->n_ids < 150)
        door_turn(door, 100);
    slow->keeps_credit = true;
    while (door_stats(door)->n_paused == 0)
        door_turn(door, 100);
    uint32_t n_text = N_PROMPT + slow->n_ids;
    struct run *other = door_run_alone(door, 2, 300, 40); /* 6 pages: 4 are free, 2 not begun */
    assert_int_equal(door_stats(door)->n_preempted, 1);
    slow->keeps_credit = false;
    door_credit(door, slow, slow->n_deltas);
    door_until_over(door, slow);

    assert_true(other->is_finished);
    assert_same_answer(alone, slow);
    assert_int_equal(slow->finished.n_cached, 0);
    assert_int_equal(door_stats(door)->n_reread_tokens, n_text - (n_text - 1) / 64 * 64);
    door_close(door);
}

static struct submit *of_size(uint32_t which, uint32_t n_prompt, uint32_t n_answer)
{
    struct submit *submit = door_submit(which, n_prompt, n_answer);
    submit->ignore_eos = true;
    return submit;
}

static struct run *send_paused(struct door *door, struct submit *submit)
{
    uint32_t n_before = door_stats(door)->n_paused;
    struct run *run = door_send(door, submit);
    run->keeps_credit = true;
    while (door_stats(door)->n_paused == n_before)
        door_turn(door, 100);
    return run;
}

static struct door *open_at_once(void)
{
    if (UNDER_TSAN) {
        print_message("skipped: a dear case under TSan; release and ASan run it\n");
        skip();
    }
    struct engine_options options = small_cache();
    options.preempt_ns = 1;
    return door_open(&options);
}

/* The sum of all that has pages: runs are told apart by it. */
static uint32_t n_promised(struct door *door)
{
    const struct engine_stats *stats = door_stats(door);
    uint32_t n = 0;
    for (uint32_t i = 0; i < stats->n_holders; i++)
        n += stats->holders[i].n_promised;
    return n;
}

/* Of 20 pages 6 are those of a run that nobody reads, and 10 those of one that goes on by itself:
 * who needs 12 waits for the second, and the first keeps what would not be enough. */
static void test_preempt__nobody_who_is_not_read_gives_way_in_vain(void **state)
{
    struct door *door = open_at_once();
    struct run *slow = send_paused(door, of_size(1, 200, 184));
    struct submit *submit = of_size(2, 40, 600);
    submit->want_ids = submit->want_text = false; /* needs no credit */
    struct run *running = door_send(door, submit);
    struct run *waiting = door_send(door, of_size(3, 700, 68));
    door_until_over(door, waiting);

    assert_true(running->is_finished && waiting->is_finished);
    assert_int_equal(door_stats(door)->n_preempted, 0);
    assert_int_equal(n_promised(door), 384);
    slow->keeps_credit = false;
    door_credit(door, slow, slow->n_deltas);
    door_until_over(door, slow);
    door_close(door);
}

/* 6, 5 and 5 pages; 4 are free. Who needs 9 gets those of one, the one that has read the least. */
static void test_preempt__of_those_not_read_one_gives_way_the_youngest(void **state)
{
    struct door *door = open_at_once();
    struct run *slow[] = {send_paused(door, of_size(1, 100, 184 + 100)),
                          send_paused(door, of_size(2, 30, 290)),
                          send_paused(door, of_size(3, 120, 180))};
    struct run *other = door_send(door, of_size(4, 500, 76));
    door_until_over(door, other);
    assert_int_equal(door_stats(door)->n_preempted, 1);
    assert_int_equal(n_promised(door), 384 + 300);

    for (int i = 0; i < 3; i++) {
        slow[i]->keeps_credit = false;
        door_credit(door, slow[i], slow[i]->n_deltas);
    }
    for (int i = 0; i < 3; i++)
        door_until_over(door, slow[i]);
    assert_int_equal(slow[1]->n_ids, 290);
    door_close(door);
}

/* 3, 3, 3 and 8 pages; 3 are free. Who needs 13 gets those of two: without the largest it would
 * take four. */
static void test_preempt__as_few_give_way_as_will_do(void **state)
{
    struct door *door = open_at_once();
    for (uint32_t i = 0; i < 3; i++)
        send_paused(door, of_size(1 + i, 20, 172));
    send_paused(door, of_size(4, 100, 412));
    struct run *other = door_send(door, of_size(5, 700, 132));
    door_until_over(door, other);

    assert_int_equal(door_stats(door)->n_preempted, 2);
    assert_int_equal(n_promised(door), 2 * 192);
    door_close(door);
}

/* Where nobody may wait, who takes the pages of one that nobody reads does not. */
static void test_preempt__who_is_let_in_is_who_starts_by_it(void **state)
{
    struct engine_options options = small_cache();
    options.max_queued = 0;
    options.preempt_ns = 60 * NS_PER_S;
    struct door *patient = door_open(&options);
    send_unread(patient, 1);
    struct run *refused = door_send(patient, asked(2));
    door_until_over(patient, refused);
    assert_true(refused->is_refused);
    assert_string_equal(refused->refused.setting, "--max-queued");
    door_close(patient);

    options.preempt_ns = 1;
    struct door *door = door_open(&options);
    struct run *slow = send_paused(door, asked(1)), *other = door_send(door, asked(2));
    door_until_over(door, other);
    assert_int_equal(other->n_ids, N_ANSWER);
    assert_int_equal(door_stats(door)->n_preempted, 1);
    slow->keeps_credit = false;
    door_credit(door, slow, slow->n_deltas);
    door_until_over(door, slow);
    assert_int_equal(slow->n_ids, N_ANSWER);
    door_close(door);
}

/* Two gave up their pages and one has them: places of three in all. */
static void test_preempt__who_gave_way_unread_keeps_its_place(void **state)
{
    struct engine_options options = small_cache();
    options.preempt_ns = 1;
    options.max_sequences = 2;
    options.max_queued = 1;
    struct door *door = door_open(&options);
    for (uint32_t i = 1; i <= 3; i++)
        send_paused(door, of_size(i, N_PROMPT, N_ANSWER));
    assert_int_equal(door_stats(door)->n_preempted, 2);
    struct run *refused = door_run_alone(door, 4, 10, 10);

    assert_true(refused->is_refused && !refused->is_accepted);
    assert_int_equal(refused->refused.status, STATUS_EXHAUSTED);
    assert_string_equal(refused->refused.setting, "--max-queued");
    assert_true(refused->refused.numbers[0] == 4 && refused->refused.numbers[1] == 3);
    assert_non_null(strstr(refused->refused.text, "1 answers run, 0 wait for pages and 2 gave"));
    assert_non_null(strstr(refused->refused.text, "takes 3 in all (--max-sequences 2 and"));
    door_close(door);
}

static void cancel_and_settle(struct door *door, const struct run *run, uint32_t n_cancelled)
{
    door_cancel(door, run);
    while (door_stats(door)->n_cancelled < n_cancelled ||
           door_stats(door)->n_pages_used + door_stats(door)->n_pages_reserved > 0)
        door_turn(door, 10);
    assert_false(run->is_finished || run->is_refused);
}

/* While it wants its pages back from a run that needs no reader, and while it reads its text. */
static void test_preempt__a_cancel_reaches_a_run_that_reads_again(void **state)
{
    struct engine_options options = small_cache();
    options.preempt_ns = 1;
    options.max_step_ns = NS_PER_MS; /* it reads in many steps */
    options.no_prefix_cache = true;
    struct door *door = door_open(&options);

    struct run *wanting = send_paused(door, of_size(1, N_PROMPT, N_ANSWER));
    struct submit *submit = of_size(2, 40, 900);
    submit->want_ids = submit->want_text = false;
    struct run *other = door_send(door, submit);
    while (door_stats(door)->n_preempted < 1)
        door_turn(door, 10);
    door_credit(door, wanting, 8);
    cancel_and_settle(door, wanting, 1);
    door_until_over(door, other);

    struct run *reading = send_paused(door, of_size(3, N_PROMPT, N_ANSWER));
    door_run_alone(door, 4, 400, 30);
    assert_int_equal(door_stats(door)->n_preempted, 2);
    let_pass(door, 150 * NS_PER_MS);
    uint32_t n_told = reading->n_progress;
    door_credit(door, reading, 8);
    while (reading->n_progress == n_told)
        door_turn(door, 10);
    cancel_and_settle(door, reading, 2);
    door_close(door);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_preempt__a_run_that_nobody_reads_gives_way_and_goes_on),
        cmocka_unit_test(test_preempt__all_of_it_is_read_again_where_nothing_is_kept),
        cmocka_unit_test(test_preempt__who_is_read_again_finds_its_own_answer),
        cmocka_unit_test(test_preempt__its_pages_go_to_the_host_and_come_back),
        cmocka_unit_test(test_preempt__a_reader_that_is_slow_for_less_keeps_its_pages),
        cmocka_unit_test(test_preempt__who_took_the_pages_gives_them_back_when_nobody_reads_it),
        cmocka_unit_test(test_preempt__a_cancel_reaches_a_run_that_gave_way),
        cmocka_unit_test(test_preempt__a_cancel_reaches_a_run_that_reads_again),
        cmocka_unit_test(test_preempt__nobody_who_is_not_read_gives_way_in_vain),
        cmocka_unit_test(test_preempt__of_those_not_read_one_gives_way_the_youngest),
        cmocka_unit_test(test_preempt__as_few_give_way_as_will_do),
        cmocka_unit_test(test_preempt__who_is_let_in_is_who_starts_by_it),
        cmocka_unit_test(test_preempt__who_gave_way_unread_keeps_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
