#include "kernels/cpu/cpu_stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/status.h"

struct bench { /* a device with a stream of n_ops */
    struct device *device;
    struct stream *stream;
};

static struct bench open_bench(int n_threads, uint32_t n_ops)
{
    struct device_options options = {.n_threads = n_threads};
    struct bench bench;
    assert_int_equal(device_open(&options, &bench.device, NULL), STATUS_OK);
    assert_int_equal(stream_create(bench.device, n_ops, &bench.stream, NULL), STATUS_OK);
    return bench;
}

static void close_bench(struct bench *bench)
{
    stream_free(bench->stream);
    device_close(bench->device);
}

struct note {
    _Atomic uint32_t *seen; /* [n_workers] times each worker came */
    _Atomic uint32_t *order, *wrong;
    uint32_t step; /* all workers of earlier steps have passed */
};

static void run_note(const struct cpu_worker *worker, const void *args)
{
    const struct note *note = args;
    atomic_fetch_add(&note->seen[worker->idx], 1);
    if (atomic_fetch_add(note->order, 1) / (uint32_t)worker->n_workers != note->step)
        atomic_fetch_add(note->wrong, 1);
}

static void test_stream__every_worker_runs_every_entry_in_order(void **state)
{
    for (int n_threads = 1; n_threads <= 4; n_threads *= 2) {
        struct bench bench = open_bench(n_threads, 100);
        _Atomic uint32_t seen[4] = {0}, order = 0, wrong = 0;
        for (uint32_t i = 0; i < 100; i++) {
            struct note note = {seen, &order, &wrong, i};
            cpu_stream_push(bench.stream, "note", run_note, &note, sizeof note, true);
        }
        assert_int_equal(order, 0); /* nothing runs before it is waited for */
        device_submit(bench.stream);
        assert_int_equal(device_wait(bench.stream, NULL, NULL), STATUS_OK);
        for (int i = 0; i < n_threads; i++)
            assert_int_equal(seen[i], 100);
        assert_int_equal(wrong, 0);
        close_bench(&bench);
    }
}

static void run_take(const struct cpu_worker *worker, const void *args)
{
    _Atomic uint32_t *const *taken = args;
    for (uint32_t i; (i = team_counter_take(worker->counter, 1)) < 1000;)
        atomic_fetch_add(&(*taken)[i], 1);
}

static void test_stream__an_entry_has_a_counter_that_starts_at_zero(void **state)
{
    struct bench bench = open_bench(4, 8);
    _Atomic uint32_t *taken = calloc(1000, sizeof *taken);
    for (int again = 0; again < 3; again++) {
        cpu_stream_push(bench.stream, "take", run_take, &taken, sizeof taken, false);
        cpu_stream_push(bench.stream, "take", run_take, &taken, sizeof taken, true);
        device_submit(bench.stream);
        device_wait(bench.stream, NULL, NULL);
    }
    for (uint32_t i = 0; i < 1000; i++)
        assert_int_equal(taken[i], 6);
    free(taken);
    close_bench(&bench);
}

static void run_fail(const struct cpu_worker *worker, const void *args)
{
    cpu_worker_fail(worker, *(const int *)args);
}

static void test_stream__the_first_error_sticks_and_skips_the_rest(void **state)
{
    struct bench bench = open_bench(2, 8);
    _Atomic uint32_t seen[2] = {0}, order = 0, wrong = 0;
    struct note note = {seen, &order, &wrong, 0};
    int first = STATUS_OUT_OF_RANGE, second = STATUS_INTERNAL;
    cpu_stream_push(bench.stream, "fail", run_fail, &first, sizeof first, true);
    cpu_stream_push(bench.stream, "fail", run_fail, &second, sizeof second, true);
    cpu_stream_push(bench.stream, "note", run_note, &note, sizeof note, true);
    device_submit(bench.stream);
    assert_int_equal(device_wait(bench.stream, NULL, NULL), STATUS_OUT_OF_RANGE);
    assert_int_equal(order, 0);

    cpu_stream_push(bench.stream, "note", run_note, &note, sizeof note, true);
    device_submit(bench.stream);
    assert_int_equal(device_wait(bench.stream, NULL, NULL), STATUS_OUT_OF_RANGE);
    assert_int_equal(stream_status(bench.stream), STATUS_OUT_OF_RANGE);
    assert_int_equal(order, 0);
    close_bench(&bench);
}

/* What is written to standard error until stop_listening, which closes the file. */
static FILE *listen_to_errors(int *before)
{
    FILE *file = tmpfile();
    assert_non_null(file);
    *before = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    return file;
}

static void stop_listening(FILE *file, int before, char *text, size_t capacity)
{
    dup2(before, STDERR_FILENO);
    close(before);
    rewind(file);
    text[fread(text, 1, capacity - 1, file)] = 0;
    fclose(file);
}

static void test_stream__says_once_which_op_failed(void **state)
{
    struct bench bench = open_bench(4, 8);
    int status = STATUS_OUT_OF_RANGE, before;
    char text[4096];
    cpu_stream_push(bench.stream, "embed", run_fail, &status, sizeof status, true);
    device_submit(bench.stream);
    FILE *errors = listen_to_errors(&before);
    device_wait(bench.stream, NULL, NULL);
    device_wait(bench.stream, NULL, NULL);
    stop_listening(errors, before, text, sizeof text);
    const char *line = strstr(text, "event=device_error op=embed status=OUT_OF_RANGE\n");
    assert_non_null(line);
    assert_null(strstr(line + strlen("event="), "event="));
    close_bench(&bench);
}

static void test_stream__too_long_a_list_sticks_as_internal(void **state)
{
    struct bench bench = open_bench(1, 2);
    _Atomic uint32_t seen[1] = {0}, order = 0, wrong = 0;
    struct note note = {seen, &order, &wrong, 0};
    for (int i = 0; i < 2; i++)
        cpu_stream_push(bench.stream, "note", run_note, &note, sizeof note, true);
    assert_int_equal(stream_status(bench.stream), STATUS_OK);
    cpu_stream_push(bench.stream, "note", run_note, &note, sizeof note, true);
    assert_int_equal(stream_status(bench.stream), STATUS_INTERNAL);
    close_bench(&bench);
}

static void test_stream__runs_what_was_submitted_and_keeps_the_rest(void **state)
{
    struct bench bench = open_bench(2, 8);
    _Atomic uint32_t seen[2] = {0}, order = 0, wrong = 0;
    struct note note = {seen, &order, &wrong, 0};
    cpu_stream_push(bench.stream, "note", run_note, &note, sizeof note, true);
    device_submit(bench.stream);
    note.step = 1;
    cpu_stream_push(bench.stream, "note", run_note, &note, sizeof note, true);
    assert_int_equal(device_wait(bench.stream, NULL, NULL), STATUS_OK);
    assert_int_equal(order, 2);
    device_submit(bench.stream);
    assert_int_equal(device_wait(bench.stream, NULL, NULL), STATUS_OK);
    assert_int_equal(order, 4);
    assert_int_equal(wrong, 0);
    assert_int_equal(stream_n_enqueued(bench.stream), 2);
    close_bench(&bench);
}

static void test_stream__copies_are_entries(void **state)
{
    struct bench bench = open_bench(2, 8);
    size_t n = 300001; /* shared between workers, and not by whole lines */
    uint8_t *in = malloc(n), *out = malloc(n);
    void *memory;
    assert_int_equal(device_alloc(bench.device, n, &memory, NULL), STATUS_OK);
    for (size_t i = 0; i < n; i++)
        in[i] = (uint8_t)(i * 31 >> 3);
    device_write(bench.stream, memory, in, n);
    device_read(bench.stream, out, memory, n);
    assert_int_equal(stream_n_enqueued(bench.stream), 2);
    device_submit(bench.stream);
    assert_int_equal(device_wait(bench.stream, NULL, NULL), STATUS_OK);
    assert_memory_equal(in, out, n);
    device_free(bench.device, memory);
    free(in);
    free(out);
    close_bench(&bench);
}

static void test_stream__a_started_list_has_run_and_its_error_goes_to_those_who_follow(void **state)
{
    struct bench bench = open_bench(2, 4);
    struct stream *other;
    uint32_t in[2] = {3, 4}, out[2] = {0};
    void *memory;
    assert_int_equal(stream_create(bench.device, 1, &other, NULL), STATUS_OK);
    assert_int_equal(device_alloc(bench.device, sizeof in, &memory, NULL), STATUS_OK);
    for (int i = 0; i < 5; i++) { /* more ops than a list holds */
        in[0] += 10;
        device_write(bench.stream, memory, in, sizeof in);
        device_start(bench.stream);
        stream_follow(other, bench.stream);
        device_read(other, out, memory, sizeof out);
        device_submit(other);
        assert_true(device_is_done(other));
        assert_int_equal(device_wait(other, NULL, NULL), STATUS_OK);
        assert_memory_equal(in, out, sizeof in);
    }
    int failure = STATUS_OUT_OF_RANGE;
    cpu_stream_push(bench.stream, "fail", run_fail, &failure, sizeof failure, true);
    device_start(bench.stream);
    assert_int_equal(stream_status(other), STATUS_OK);
    stream_follow(other, bench.stream);
    assert_int_equal(stream_status(other), STATUS_OUT_OF_RANGE);
    device_free(bench.device, memory);
    stream_free(other);
    close_bench(&bench);
}

static void count_poll(void *arg)
{
    ++*(int *)arg;
}

static void run_nap(const struct cpu_worker *worker, const void *args)
{
    struct timespec nap = {0, 1000000};
    nanosleep(&nap, NULL);
}

static void test_stream__polls_between_ops(void **state)
{
    struct bench bench = open_bench(2, 20);
    int n_polls = 0;
    assert_int_equal(device_wait(bench.stream, count_poll, &n_polls), STATUS_OK);
    assert_int_equal(n_polls, 1); /* of an empty list too */
    for (int i = 0; i < 20; i++)  /* each longer than the pause between polls */
        cpu_stream_push(bench.stream, "nap", run_nap, &i, sizeof i, true);
    device_submit(bench.stream);
    n_polls = 0;
    device_wait(bench.stream, count_poll, &n_polls);
    assert_int_equal(n_polls, 20);
    close_bench(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream__every_worker_runs_every_entry_in_order),
        cmocka_unit_test(test_stream__an_entry_has_a_counter_that_starts_at_zero),
        cmocka_unit_test(test_stream__the_first_error_sticks_and_skips_the_rest),
        cmocka_unit_test(test_stream__says_once_which_op_failed),
        cmocka_unit_test(test_stream__too_long_a_list_sticks_as_internal),
        cmocka_unit_test(test_stream__runs_what_was_submitted_and_keeps_the_rest),
        cmocka_unit_test(test_stream__copies_are_entries),
        cmocka_unit_test(
            test_stream__a_started_list_has_run_and_its_error_goes_to_those_who_follow),
        cmocka_unit_test(test_stream__polls_between_ops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
