#include "kernels/device_list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "tests/kernels/twin_fixture.h"

static void test_device_list__tells_what_the_driver_shows(void **state)
{
    static struct device_facts devices[DEVICES_MAX];
    struct why why;
    uint32_t n;
    assert_int_equal(device_list(BACKEND_CUDA, devices, &n, &why), STATUS_OK);
    assert_in_range(n, 1, DEVICES_MAX);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(devices[i].index, i);
        assert_true(devices[i].name[0] != 0);
        assert_int_equal(devices[i].is_usable, devices[i].major >= 8);
        assert_true(devices[i].n_cores > 0);
        assert_true(devices[i].shared_bytes >= 48 * 1024);
        assert_true(devices[i].memory_free <= devices[i].memory_bytes);
    }
}

static void test_device_list__leaves_the_devices_free_to_be_opened(void **state)
{
    static struct device_facts devices[DEVICES_MAX];
    uint32_t n;
    assert_int_equal(device_list(BACKEND_CUDA, devices, &n, NULL), STATUS_OK);
    struct twin twin = twin_open(BACKEND_CUDA);
    assert_non_null(strstr(device_name(twin.device), devices[0].name));
    twin_close(&twin);
}

static void test_device_list__says_why_there_is_none(void **state)
{
    static struct device_facts devices[DEVICES_MAX];
    struct device_options options = {.backend = BACKEND_CUDA};
    struct device *device;
    struct why why, of_open;
    uint32_t n = 7;
    assert_int_equal(device_list(BACKEND_CUDA, devices, &n, NULL), STATUS_OK);
    if (strstr(devices[0].name, "emulated") == NULL) {
        print_message("skipped: device_list without a device: a GPU does not go away\n");
        skip();
    }
    setenv("EMU_DEVICES", "0", 1);
    assert_int_equal(device_list(BACKEND_CUDA, devices, &n, &why), STATUS_UNAVAILABLE);
    assert_int_equal(device_open(&options, &device, &of_open), STATUS_UNAVAILABLE);
    unsetenv("EMU_DEVICES");
    assert_int_equal(n, 0);
    assert_non_null(strstr(why.text, "shows no GPU"));
    assert_non_null(strstr(of_open.text, why.text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device_list__tells_what_the_driver_shows),
        cmocka_unit_test(test_device_list__leaves_the_devices_free_to_be_opened),
        cmocka_unit_test(test_device_list__says_why_there_is_none),
    };
    return twin_has_cuda() ? cmocka_run_group_tests(tests, NULL, NULL) : TWIN_SKIPPED;
}
