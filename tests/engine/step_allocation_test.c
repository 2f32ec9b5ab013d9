/* No allocation in a step (DESIGN, law 4): this executable's malloc counts what threads other than
 * the test's own ask for while the engine runs. Sanitizers bring their own malloc: a named skip. */
#include "door_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS false
#else
#define COUNTS_ALLOCATIONS true
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t n, size_t bytes);
extern void *__libc_realloc(void *memory, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
#endif

static atomic_bool is_counting;
static atomic_uint n_counted;
static _Thread_local bool is_test_thread;

#if COUNTS_ALLOCATIONS
static void count(void)
{
    if (atomic_load(&is_counting) && !is_test_thread)
        atomic_fetch_add(&n_counted, 1);
}

void *malloc(size_t bytes)
{
    count();
    return __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes)
{
    count();
    return __libc_calloc(n, bytes);
}

void *realloc(void *memory, size_t bytes)
{
    count();
    return __libc_realloc(memory, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    count();
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    count();
    *out = __libc_memalign(alignment, bytes);
    return *out == NULL ? ENOMEM : 0;
}
#endif

static void run_some(struct door *door, uint32_t n_runs, uint32_t n_prompt)
{
    struct run *runs[24] = {NULL};
    for (uint32_t i = 0; i < n_runs; i++) {
        struct submit *submit = door_submit(i, n_prompt + i, 60);
        submit->ignore_eos = true;
        submit->want_logprobs = i % 2 == 0;
        submit->n_top = i % 2 == 0 ? 20 : 0;
        submit->sampling.temperature = i % 3 == 0 ? 0.0f : 0.8f;
        submit->sampling.top_p = 0.9f;
        submit->sampling.repetition = i % 4 == 0 ? 1.1f : 1.0f;
        runs[i] = door_send(door, submit);
    }
    runs[2]->keeps_credit = true; /* pauses */
    door_cancel(door, runs[1]);
    for (uint32_t i = 3; i < n_runs; i++)
        door_until_over(door, runs[i]);
    runs[2]->keeps_credit = false;
    door_credit(door, runs[2], runs[2]->n_deltas);
    door_until_over(door, runs[2]);
    door_until_over(door, runs[0]);
}

/* One refusal of each kind: their sentences are made on the step thread. */
static void refuse_some(struct door *door)
{
    for (int kind = 0; kind < 5; kind++) {
        struct submit *submit = door_submit(1, 40, 100);
        if (kind == 0)
            submit->max_tokens = TINY_CONTEXT;
        if (kind == 1)
            submit->sampling.temperature = -1;
        if (kind == 2)
            submit->ids[3] = TINY_VOCABULARY;
        if (kind == 3)
            submit->deadline_ns = 1;
        if (kind == 4)
            submit->stop.n = STOP_STRINGS_MAX + 1;
        struct run *run = door_send(door, submit);
        door_until_over(door, run);
        assert_true(run->is_refused);
    }
}

static void test_engine_step__allocates_nothing(void **state)
{
    if (!COUNTS_ALLOCATIONS) {
        print_message("skipped: a sanitizer owns malloc\n");
        skip();
    }
    is_test_thread = true;
    struct engine_options options = door_options();
    struct door *door = door_open(&options);
    while (door->weights[0] == 0) /* the thread of the digest may allocate; it is over now */
        door_turn(door, 1000);
    free(malloc(1));
    atomic_store(&is_counting, true);

    run_some(door, 24, 100);
    run_some(door, 24, 300); /* some wait for a place: 16 sequences */
    run_some(door, 24, 10);
    refuse_some(door);
    uint64_t n_steps = door_stats(door)->n_steps;

    atomic_store(&is_counting, false);
    assert_true(n_steps > 300);
    assert_int_equal(atomic_load(&n_counted), 0);
    door_close(door);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine_step__allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
