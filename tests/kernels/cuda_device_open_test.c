/* Which device is opened, and what is refused: never another one than was asked for. The cases of
 * two devices and of none are the emulation's alone. */
#include "kernels/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "kernels/device_list.h"
#include "tests/kernels/twin_fixture.h"

#define WIDTH 64

static bool is_emulated(void)
{
    static struct device_facts devices[DEVICES_MAX];
    uint32_t n;
    assert_int_equal(device_list(BACKEND_CUDA, devices, &n, NULL), STATUS_OK);
    return strstr(devices[0].name, "emulated") != NULL;
}

static void needs_emulation(const char *name)
{
    if (is_emulated())
        return;
    print_message("skipped: %s: only emulated devices come and go\n", name);
    skip();
}

static void assert_opens(const struct device_options *options, const char *name)
{
    struct device *device;
    struct why why = {.text = ""};
    if (device_open(options, &device, &why) != STATUS_OK)
        fail_msg("%s", why.text);
    assert_int_equal(strncmp(device_name(device), name, strlen(name)), 0);
    assert_int_equal(device_is_gpu(device), strncmp(name, "cuda", 4) == 0);
    device_close(device);
}

static void assert_refused(const struct device_options *options, int status, const char *part,
                           const char *other_part)
{
    struct device *device;
    struct why why = {.text = ""};
    assert_int_equal(device_open(options, &device, &why), status);
    if (strstr(why.text, part) == NULL || strstr(why.text, other_part) == NULL)
        fail_msg("%s", why.text);
}

static void test_cuda_device_open__auto_takes_the_gpu(void **state)
{
    assert_opens(&(struct device_options){.backend = BACKEND_AUTO}, "cuda 0, ");
    assert_opens(&(struct device_options){.backend = BACKEND_CUDA}, "cuda 0, ");
    assert_opens(&(struct device_options){.backend = BACKEND_CPU}, "cpu ");
}

static void test_cuda_device_open__an_index_that_is_not_there_is_refused_with_their_number(
    void **state)
{
    struct device_options options = {.backend = BACKEND_CUDA, .has_index = true, .index = 60};
    assert_refused(&options, STATUS_OUT_OF_RANGE, "no GPU 60", "shows");
    options.backend = BACKEND_AUTO; /* no other GPU, and no CPU */
    assert_refused(&options, STATUS_OUT_OF_RANGE, "--device 60", "quire devices");
    options.backend = BACKEND_CPU;
    assert_refused(&options, STATUS_INVALID, "--device 60", "--backend cpu");
}

static void test_cuda_device_open__what_a_gpu_does_not_do_is_refused_or_done_by_the_cpu(
    void **state)
{
    struct device_options isa = {.backend = BACKEND_CUDA, .isa = ISA_SCALAR};
    struct device_options int8 = {.backend = BACKEND_CUDA, .activations = ACTIVATIONS_INT8};
    assert_refused(&isa, STATUS_UNSUPPORTED, "--isa scalar", "--backend cpu");
    assert_refused(&int8, STATUS_UNSUPPORTED, "--activations int8", "--backend cpu");
    isa.backend = int8.backend = BACKEND_AUTO;
    assert_opens(&isa, "cpu scalar");
    assert_opens(&int8, "cpu ");
}

static void test_cuda_device_open__without_a_gpu_auto_is_the_cpu_and_cuda_an_error(void **state)
{
    static const struct {
        const char *variable, *value, *part;
    } rows[] = {
        {"EMU_DEVICES", "0", "shows no GPU"},
        {"EMU_DRIVER", "0", "no CUDA driver"},
        {"EMU_DRIVER", "12080", "one of CUDA 12.8"},
    };
    needs_emulation("cuda_device_open without a GPU");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct device_options options = {.backend = BACKEND_CUDA};
        setenv(rows[i].variable, rows[i].value, 1);
        assert_refused(&options, STATUS_UNAVAILABLE, rows[i].part, "--backend cuda");
        options.backend = BACKEND_AUTO;
        assert_opens(&options, "cpu ");
        options.has_index = true;
        assert_refused(&options, STATUS_UNAVAILABLE, rows[i].part, "--device 0");
        unsetenv(rows[i].variable);
    }
}

static void test_cuda_device_open__a_chip_without_code_is_none(void **state)
{
    static const struct {
        const char *capability, *part;
    } rows[] = {{"75", "less than 8.0"}, {"110", "capability 11.0"}, {"121", "QUIRE_CUDA_CHIPS"}};
    static struct device_facts devices[DEVICES_MAX];
    uint32_t n;
    needs_emulation("cuda_device_open of chips without code");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct device_options options = {.backend = BACKEND_CUDA};
        setenv("EMU_CAPABILITY", rows[i].capability, 1);
        assert_refused(&options, STATUS_UNAVAILABLE, rows[i].part, "has code for");
        options.backend = BACKEND_AUTO;
        assert_opens(&options, "cpu ");
        assert_int_equal(device_list(BACKEND_CUDA, devices, &n, NULL), STATUS_OK);
        assert_false(devices[0].is_usable);
        unsetenv("EMU_CAPABILITY");
    }
    assert_int_equal(device_list(BACKEND_CUDA, devices, &n, NULL), STATUS_OK);
    assert_true(devices[0].is_usable);
}

/* As the engine has it: one thread opens and allocates, another one steps. */
static void *step(void *arg)
{
    struct twin *twin = arg;
    static float from[WIDTH] = {17, 18}, to[WIDTH];
    float *x = twin->allocs[0], *y = twin->allocs[1];
    struct gather_args gather = {.x = x, .rows = twin->allocs[2], .n = 1, .width = WIDTH, .y = y};
    device_write(twin->stream, x, from, sizeof from);
    twin->ops->gather(twin->stream, &gather);
    device_read(twin->stream, to, y, sizeof to);
    return twin_run(twin) == STATUS_OK ? to : NULL;
}

static void test_cuda_device_open__a_second_gpu_works_from_a_thread_of_its_own(void **state)
{
    struct device_options options = {.backend = BACKEND_CUDA, .has_index = true, .index = 1};
    struct twin twin = {.n_allocs = 0};
    pthread_t thread;
    uint32_t row = 0;
    void *result = NULL;
    needs_emulation("cuda_device_open of a second GPU");
    setenv("EMU_DEVICES", "2", 1);
    assert_int_equal(device_open(&options, &twin.device, NULL), STATUS_OK);
    assert_non_null(strstr(device_name(twin.device), "cuda 1, "));
    assert_int_equal(stream_create(twin.device, 16, &twin.stream, NULL), STATUS_OK);
    twin.ops = device_ops(twin.device);
    twin_alloc(&twin, WIDTH * sizeof(float));
    twin_alloc(&twin, WIDTH * sizeof(float));
    twin_upload(&twin, &row, sizeof row);

    assert_int_equal(pthread_create(&thread, NULL, step, &twin), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_non_null(result);
    assert_true(((float *)result)[0] == 17 && ((float *)result)[1] == 18);
    twin_close(&twin);
    unsetenv("EMU_DEVICES");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_device_open__auto_takes_the_gpu),
        cmocka_unit_test(
            test_cuda_device_open__an_index_that_is_not_there_is_refused_with_their_number),
        cmocka_unit_test(
            test_cuda_device_open__what_a_gpu_does_not_do_is_refused_or_done_by_the_cpu),
        cmocka_unit_test(test_cuda_device_open__without_a_gpu_auto_is_the_cpu_and_cuda_an_error),
        cmocka_unit_test(test_cuda_device_open__a_chip_without_code_is_none),
        cmocka_unit_test(test_cuda_device_open__a_second_gpu_works_from_a_thread_of_its_own),
    };
    return twin_has_cuda() ? cmocka_run_group_tests(tests, NULL, NULL) : TWIN_SKIPPED;
}
