/* The cache under an engine on a GPU, or on the emulated one: pages travel to the host and back
 * beside the steps, and what ends with two steps under way leaves nothing wrong behind. */
#include "base/clock.h"
#include "base/status.h"
#include "door_fixture.h"
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

/* One step at a time, and nothing is kept. */
static struct door *cold_door(void)
{
    struct engine_options options = cuda_options();
    options.no_overlap = options.no_prefix_cache = true;
    return door_open(&options);
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

#define N_PROMPT 200 /* three whole pages */
#define N_ANSWER 24  /* with them four pages: two such runs do not fit into five */

static uint64_t synchronisations(void)
{
    return emu_counted != NULL ? emu_counted(EMU_SYNCHRONISATIONS) : 0;
}

/* Nobody reads the first, so the second takes its pages, which go to the host; and the other way
 * round. All that time the host waits for no copy. */
static void test_cuda_cache__who_gave_way_goes_on_with_pages_out_of_the_host(void **state)
{
    struct engine_options options = cuda_options();
    options.kv_memory_bytes = 5 * PAGE * TINY_TOKEN_BYTES;
    options.host_pool_bytes = 100 * PAGE * TINY_TOKEN_BYTES;
    options.preempt_ns = NS_PER_MS;
    struct door *cold = cold_door(), *door = known_door(&options);
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
    for (uint32_t i = 0; i < 4; i++)
        assert_same_answer(answer(door, asked(1 + i % 2, N_PROMPT, N_ANSWER)), want[i % 2]);
    assert_true(door_stats(door)->n_recalled_pages > n_recalled);
    assert_int_equal(synchronisations(), waits);
    door_close(cold);
    door_close(door);
}

/* --- ends --- */

#define N_BEFORE 48                   /* tokens of a prompt */
#define N_KNOWN (PAGE - 1 - N_BEFORE) /* tokens of its answer that fill the page but for one */
#define N_CANCELS 4

/* The ids that the page would have, were the last row's the newest that the host knows: its own is
 * only on the device. And a few behind. */
static struct submit *page_of_known(const struct run *run, uint32_t which)
{
    struct submit *submit = asked(which, PAGE + 16, 2), *prompt = door_submit(which, N_BEFORE, 1);
    memcpy(submit->ids, prompt->ids, N_BEFORE * sizeof *submit->ids);
    memcpy(submit->ids + N_BEFORE, run->ids, N_KNOWN * sizeof *submit->ids);
    submit->ids[PAGE - 1] = run->ids[N_KNOWN - 1];
    submit_free(prompt);
    return submit;
}

/* The cancel comes while the host waits for the row before the page's last, which is under way
 * behind it. */
static void test_cuda_cache__a_cancel_before_a_page_s_last_row_names_no_page(void **state)
{
    struct engine_options options = cuda_options();
    struct door *cold = cold_door(), *door = known_door(&options);
    for (uint32_t i = 0; i < N_CANCELS; i++) {
        struct run *run = door_send(door, asked(30 + i, N_BEFORE, 2 * PAGE));
        while (run->n_ids < N_KNOWN)
            door_turn(door, 100);
        door_cancel(door, run);
        while (door_stats(door)->n_decode > 0)
            door_turn(door, 10);
        struct run *want = answer(cold, page_of_known(run, 30 + i));
        assert_same_answer(answer(door, page_of_known(run, 30 + i)), want);
    }
    door_close(cold);
    door_close(door);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_cache__who_gave_way_goes_on_with_pages_out_of_the_host),
        cmocka_unit_test(test_cuda_cache__a_cancel_before_a_page_s_last_row_names_no_page),
    };
    return has_cuda() ? cmocka_run_group_tests(tests, NULL, NULL) : SKIPPED;
}
