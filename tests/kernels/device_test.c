#include "kernels/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <unistd.h>

#include "base/status.h"
#include "base/threads.h"
#include "kernels/ops.h"

static struct device *open_device(bool strict)
{
    struct device_options options = {.n_threads = 2, .strict = strict};
    struct device *device;
    struct why why;
    assert_int_equal(device_open(&options, &device, &why), STATUS_OK);
    return device;
}

static void *alloc(struct device *device, size_t bytes)
{
    void *memory;
    struct why why;
    assert_int_equal(device_alloc(device, bytes, &memory, &why), STATUS_OK);
    return memory;
}

static void test_device__says_what_it_is(void **state)
{
    struct device_options options = {.n_threads = 3, .isa = ISA_SCALAR};
    struct device *device;
    assert_int_equal(device_open(&options, &device, NULL), STATUS_OK);
    assert_string_equal(device_name(device), "cpu scalar, 3 threads");
    assert_int_equal(device_n_threads(device), 3);
    assert_string_equal(device_ops(device)->name, "cpu");
    device_close(device);
}

static void test_device__takes_the_default_number_of_threads(void **state)
{
    struct device_options options = {.n_threads = 0};
    struct device *device;
    assert_int_equal(device_open(&options, &device, NULL), STATUS_OK);
    assert_in_range(device_n_threads(device), 1, cores_allowed());
    device_close(device);
}

static void test_device__refuses_impossible_threads(void **state)
{
    struct device_options options = {.n_threads = TEAM_THREADS_MAX + 1};
    struct device *device;
    struct why why;
    assert_int_equal(device_open(&options, &device, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "257"));
    options.n_threads = -1;
    assert_int_equal(device_open(&options, &device, &why), STATUS_INVALID);
}

static void test_device__obeys_and_checks_quire_isa(void **state)
{
    struct device_options options = {.n_threads = 1};
    struct device *device;
    struct why why;
    setenv("QUIRE_ISA", "scalar", 1);
    assert_int_equal(device_open(&options, &device, &why), STATUS_OK);
    assert_string_equal(device_name(device), "cpu scalar, 1 thread");
    device_close(device);
    setenv("QUIRE_ISA", "avx1024", 1);
    assert_int_equal(device_open(&options, &device, &why), STATUS_UNSUPPORTED);
    assert_non_null(strstr(why.text, "avx1024"));
    assert_non_null(strstr(why.text, "scalar"));
    unsetenv("QUIRE_ISA");
}

/* This program has no CUDA: cuda_device_open_test is of one that has. */
static void test_device__without_cuda_auto_is_the_cpu_and_a_gpu_is_refused(void **state)
{
    struct device_options options = {.n_threads = 1, .isa = ISA_SCALAR, .backend = BACKEND_AUTO};
    struct device *device;
    struct why why;
    assert_int_equal(device_open(&options, &device, &why), STATUS_OK);
    assert_string_equal(device_name(device), "cpu scalar, 1 thread");
    assert_false(device_is_gpu(device));
    device_close(device);

    options.backend = BACKEND_CUDA;
    assert_int_equal(device_open(&options, &device, &why), STATUS_UNSUPPORTED);
    assert_non_null(strstr(why.text, "--backend cuda: this program was built without CUDA"));
    options.backend = BACKEND_AUTO;
    options.has_index = true;
    assert_int_equal(device_open(&options, &device, &why), STATUS_UNSUPPORTED);
    assert_non_null(strstr(why.text, "--device 0: this program was built without CUDA"));
    options.backend = BACKEND_CPU;
    assert_int_equal(device_open(&options, &device, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "leave one of them out"));
}

static void test_device__gives_zeroed_aligned_memory(void **state)
{
    struct device *device = open_device(false);
    uint8_t *few = alloc(device, 1), *many = alloc(device, 5 << 20);
    assert_int_equal((uintptr_t)few % 64, 0);
    assert_int_equal((uintptr_t)many % (2 << 20), 0);
    for (size_t i = 0; i < 5 << 20; i += 4096)
        assert_int_equal(many[i], 0);
    many[(5 << 20) - 1] = 1;
    device_free(device, few);
    device_free(device, many);
    device_free(device, NULL);
    device_close(device);
}

static void test_device__refuses_more_memory_than_there_is_with_numbers(void **state)
{
    struct device *device = open_device(false);
    void *memory;
    struct why why;
    assert_int_equal(device_alloc(device, (size_t)1 << 46, &memory, &why), STATUS_NO_MEMORY);
    assert_non_null(strstr(why.text, "70368744177664"));
    assert_int_equal(device_alloc(device, SIZE_MAX, &memory, &why), STATUS_NO_MEMORY);
    assert_true(device_memory_free(device) > 0);
    device_close(device);
}

/* True when reading the memory from here kills a child of ours. */
static bool reading_faults(const volatile uint8_t *memory)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* a sanitizer would report and exit */
        uint8_t seen = *memory;
        _exit(seen & 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

static void test_device__strict_memory_faults_outside_of_ops(void **state)
{
    struct device *strict = open_device(true), *lenient = open_device(false);
    uint8_t *hidden = alloc(strict, 100), *open = alloc(lenient, 100);
    assert_true(reading_faults(hidden));
    assert_false(reading_faults(open));
    uint8_t in[100], out[100];
    memset(in, 7, sizeof in);
    assert_int_equal(device_upload(strict, hidden, in, sizeof in), STATUS_OK);
    assert_true(reading_faults(hidden));
    assert_int_equal(device_download(strict, out, hidden, sizeof out), STATUS_OK);
    assert_memory_equal(in, out, sizeof in);
    device_free(strict, hidden);
    device_free(lenient, open);
    device_close(strict);
    device_close(lenient);
}

static void test_device__strict_mode_comes_by_environment_too(void **state)
{
    setenv("QUIRE_STRICT_DEVICE", "1", 1);
    struct device *device = open_device(false);
    unsetenv("QUIRE_STRICT_DEVICE");
    uint8_t *memory = alloc(device, 1);
    assert_true(reading_faults(memory));
    device_free(device, memory);
    device_close(device);
}

static void test_device__gives_zeroed_memory_of_the_host_that_is_never_hidden(void **state)
{
    struct device *device = open_device(true);
    void *few, *many, *none;
    struct why why;
    assert_int_equal(device_alloc_host(device, 1, &few, &why), STATUS_OK);
    assert_int_equal(device_alloc_host(device, 100000, &many, &why), STATUS_OK);
    assert_int_equal((uintptr_t)few % 64, 0);
    assert_int_equal((uintptr_t)many % 64, 0);
    for (size_t i = 0; i < 100000; i++)
        assert_int_equal(((uint8_t *)many)[i], 0);
    assert_int_equal(device_alloc_host(device, SIZE_MAX, &none, &why), STATUS_NO_MEMORY);
    assert_null(none);
    assert_non_null(strstr(why.text, "18446744073709551615"));
    device_free_host(device, few);
    device_free_host(device, many);
    device_free_host(device, NULL);
    device_close(device);
}

/* The second list is enqueued while the first one is submitted, and each may be full. */
static void test_device__runs_lists_in_their_order(void **state)
{
    struct device *device = open_device(false);
    struct stream *stream;
    uint8_t *memory = alloc(device, 100), in[2][100], out[2][100] = {{0}};
    memset(in[0], 5, sizeof in[0]);
    memset(in[1], 7, sizeof in[1]);
    assert_int_equal(device_depth(device), 1);
    assert_int_equal(stream_create(device, 2, &stream, NULL), STATUS_OK);
    for (int i = 0; i < 2; i++) {
        device_write(stream, memory, in[i], sizeof in[i]);
        device_read(stream, out[i], memory, sizeof out[i]);
        if (i == 0)
            device_submit(stream);
    }
    assert_int_equal(stream_n_under_way(stream), 1);
    assert_int_equal(device_wait(stream, NULL, NULL), STATUS_OK);
    assert_int_equal(stream_n_under_way(stream), 0);
    assert_memory_equal(out[0], in[0], sizeof in[0]);
    assert_int_equal(out[1][0], 0);
    device_submit(stream);
    assert_int_equal(device_wait(stream, NULL, NULL), STATUS_OK);
    assert_memory_equal(out[1], in[1], sizeof in[1]);

    for (int i = 0; i < 3; i++)
        device_write(stream, memory, in[0], sizeof in[0]);
    assert_int_equal(stream_status(stream), STATUS_INTERNAL);
    stream_free(stream);
    device_free(device, memory);
    device_close(device);
}

static void test_device__of_the_cpu_has_no_graphs(void **state)
{
    struct device *device = open_device(false);
    struct stream *stream;
    struct graph *graph;
    struct why why;
    assert_int_equal(stream_create(device, 2, &stream, NULL), STATUS_OK);
    assert_false(device_has_graphs(device));
    assert_int_equal(graph_begin(stream, &why), STATUS_UNSUPPORTED);
    assert_non_null(strstr(why.text, device_name(device)));
    assert_int_equal(graph_end(stream, &graph, &why), STATUS_UNSUPPORTED);
    assert_int_equal(stream_status(stream), STATUS_OK);
    graph_free(NULL);
    stream_free(stream);
    device_close(device);
}

int main(void)
{
    unsetenv("QUIRE_STRICT_DEVICE");
    unsetenv("QUIRE_ISA");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device__says_what_it_is),
        cmocka_unit_test(test_device__takes_the_default_number_of_threads),
        cmocka_unit_test(test_device__refuses_impossible_threads),
        cmocka_unit_test(test_device__obeys_and_checks_quire_isa),
        cmocka_unit_test(test_device__without_cuda_auto_is_the_cpu_and_a_gpu_is_refused),
        cmocka_unit_test(test_device__gives_zeroed_aligned_memory),
        cmocka_unit_test(test_device__refuses_more_memory_than_there_is_with_numbers),
        cmocka_unit_test(test_device__strict_memory_faults_outside_of_ops),
        cmocka_unit_test(test_device__strict_mode_comes_by_environment_too),
        cmocka_unit_test(test_device__gives_zeroed_memory_of_the_host_that_is_never_hidden),
        cmocka_unit_test(test_device__runs_lists_in_their_order),
        cmocka_unit_test(test_device__of_the_cpu_has_no_graphs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
