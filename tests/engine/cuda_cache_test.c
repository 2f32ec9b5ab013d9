/* The cache under an engine on a GPU, or on the emulated one: pages travel to the host and back
 * beside the steps, and what ends with two steps under way leaves nothing wrong behind. */
#include "base/clock.h"
#include "base/status.h"
#include "door_fixture.h"
#include "engine/engine_state.h"
#include "tests/cuda_on_cpu/emu_control.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define SKIPPED 77 /* what ctest takes for skipped */
#define PAGE 64

#pragma weak emu_counted /* a GPU counts nothing */

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

static struct engine_options cuda_options(void)
{
    struct engine_options options = door_options();
    options.backend = "cuda";
    options.max_sequences = 3;
    options.max_context = 4 * PAGE;
    return options;
}

static struct door *known_door(const struct engine_options *options)
{
    struct door *door = door_open(options);
    while (door->weights[0] == 0)
        door_turn(door, 1000);
    return door;
}

static struct door *cold; /* one step at a time, and nothing is kept */

static int open_cold(void **state)
{
    struct engine_options options = cuda_options();
    options.no_overlap = options.no_prefix_cache = true;
    cold = door_open(&options);
    return 0;
}

static int close_cold(void **state)
{
    door_close(cold);
    return 0;
}

static struct submit *asked(uint32_t which, uint32_t n_prompt, uint32_t n_answer)
{
    struct submit *submit = door_submit(which, n_prompt, n_answer);
    submit->ignore_eos = submit->want_logprobs = true;
    submit->sampling.temperature = 1.5f;
    submit->sampling.has_seed = true;
    submit->sampling.seed = which;
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
}

/* --- to the host and back --- */

#define N_PROMPT 136 /* two whole pages */
#define N_ANSWER 24  /* with them three pages: two such runs do not fit into four */

static uint64_t synchronisations(void)
{
    return emu_counted != NULL ? emu_counted(EMU_SYNCHRONISATIONS) : 0;
}

/* Nobody reads the first, so the second takes its pages, which go to the host; and the other way
 * round. All that time the host waits for no copy. */
static void test_cuda_cache__who_gave_way_goes_on_with_pages_out_of_the_host(void **state)
{
    struct engine_options options = cuda_options();
    options.kv_memory_bytes = 4 * PAGE * TINY_TOKEN_BYTES;
    options.host_pool_bytes = 100 * PAGE * TINY_TOKEN_BYTES;
    options.preempt_ns = NS_PER_MS;
    struct door *door = known_door(&options);
    struct run *want[2] = {answer(cold, asked(1, N_PROMPT, N_ANSWER)),
                           answer(cold, asked(2, N_PROMPT, N_ANSWER))};
    uint64_t waits = synchronisations();

    struct run *slow = door_send(door, asked(1, N_PROMPT, N_ANSWER));
    slow->keeps_credit = true;
    while (slow->n_deltas < CALL_CREDIT_EVENTS)
        door_turn(door, 100);
    struct run *other = answer(door, asked(2, N_PROMPT, N_ANSWER));
    assert_false(slow->is_finished);
    assert_int_equal(door_stats(door)->n_preempted, 1);
    assert_true(door_stats(door)->n_spilled_pages > 0);
    assert_int_equal(door_stats(door)->n_recalled_pages, 0);
    slow->keeps_credit = false;
    door_credit(door, slow, slow->n_deltas);
    door_until_over(door, slow);

    assert_same_answer(slow, want[0]);
    assert_same_answer(other, want[1]);
    uint64_t n_recalled = door_stats(door)->n_recalled_pages;
    assert_true(n_recalled > 0);
    for (uint32_t i = 0; i < 2; i++)
        assert_same_answer(answer(door, asked(2 - i, N_PROMPT, N_ANSWER)), want[1 - i]);
    assert_true(door_stats(door)->n_recalled_pages > n_recalled);
    assert_int_equal(synchronisations(), waits);
    door_close(door);
}

/* --- ends --- */

#if defined(__SANITIZE_ADDRESS__) /* the other builds try more moments */
#define WHEN_FIRST 4
#define WHEN_LAST 5
#else
#define WHEN_FIRST 3
#define WHEN_LAST 6
#endif

#define N_BEFORE 48                   /* tokens of a prompt */
#define N_KNOWN (PAGE - 1 - N_BEFORE) /* tokens of its answer that fill the page but for one */

/* The step thread asks for the time between taking messages and launching the row that fills the
 * page, and on one of these occasions the cancel is sent: so it is heard while the row before that
 * is waited for. */
static struct {
    struct engine *engine;
    uint64_t call_id;
    uint32_t n_asked, when; /* with the page's last row next, a row under way before it */
    _Atomic bool is_sent;
} cancel;

static int64_t now_and_cancel(const struct clock *clock)
{
    struct engine *engine = cancel.engine;
    (void)clock;
    if (cancel.is_sent || list_is_empty(&engine->runs))
        return clock_now(&clock_monotonic);
    const struct sequence *sequence = list_entry(engine->runs.next, struct sequence, link);
    bool is_next = sequence->n_launched == PAGE - 1 && engine->flight->n == 1;
    if (sequence->n_launched >= PAGE || (is_next && ++cancel.n_asked == cancel.when)) {
        struct message message = {
            .kind = MESSAGE_CANCEL, .call_id = cancel.call_id, .tag = TAG_ALL};
        assert_true(engine_try_send(engine, &message)); /* the loop's thread sends nothing now */
        cancel.is_sent = true;
    }
    return clock_now(&clock_monotonic);
}

static struct door *cancelling_door(void)
{
    static const struct clock clock = {.now_ns = now_and_cancel};
    struct engine_options options = cuda_options();
    struct door *door = door_create(&options);
    cancel.engine = door->engine;
    cancel.is_sent = true;
    door->engine->clock = &clock;
    door_start(door);
    while (door->weights[0] == 0)
        door_turn(door, 1000);
    return door;
}

/* No delta, and so no credit. */
static void run_cancelled(struct door *door, uint32_t which, uint32_t when)
{
    struct submit *submit = asked(which, N_BEFORE, 2 * PAGE);
    submit->want_text = submit->want_ids = submit->want_logprobs = false;
    cancel.when = when;
    cancel.n_asked = 0;
    cancel.is_sent = false;
    cancel.call_id = 1000 + door->n_runs;
    assert_int_equal(door_send(door, submit)->call_id, cancel.call_id);
    while (!cancel.is_sent)
        door_turn(door, 10);
    while (door_stats(door)->n_pages_used > 0) /* the emulation takes one engine at a time */
        ;
}

/* The ids that the page would have, were its last one the newest that the host knew: that was only
 * on the device. And a few behind. */
static struct submit *page_of_known(const struct run *run, uint32_t which)
{
    struct submit *submit = asked(which, PAGE + 16, 2), *prompt = door_submit(which, N_BEFORE, 1);
    memcpy(submit->ids, prompt->ids, N_BEFORE * sizeof *submit->ids);
    memcpy(submit->ids + N_BEFORE, run->ids, N_KNOWN * sizeof *submit->ids);
    submit->ids[PAGE - 1] = run->ids[N_KNOWN - 1];
    assert_true(run->ids[N_KNOWN] != run->ids[N_KNOWN - 1]);
    submit_free(prompt);
    return submit;
}

static void test_cuda_cache__a_cancel_before_a_page_s_last_row_names_no_page(void **state)
{
    struct door *door = cancelling_door();
    for (uint32_t when = WHEN_FIRST; when <= WHEN_LAST; when++) {
        uint32_t which = 30 + when;
        struct run *whole = answer(cold, asked(which, N_BEFORE, N_KNOWN + 1));
        struct run *want = answer(cold, page_of_known(whole, which));
        run_cancelled(door, which, when);
        assert_same_answer(answer(door, page_of_known(whole, which)), want);
    }
    door_close(door);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_cache__who_gave_way_goes_on_with_pages_out_of_the_host),
        cmocka_unit_test(test_cuda_cache__a_cancel_before_a_page_s_last_row_names_no_page),
    };
    return has_cuda() ? cmocka_run_group_tests(tests, open_cold, close_cold) : SKIPPED;
}
