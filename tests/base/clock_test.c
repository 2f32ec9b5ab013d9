#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

static void test_clock__a_fake_stands_still_until_advanced(void **state)
{
    struct clock clock = clock_fake(5 * NS_PER_S);
    assert_int_equal(clock_now(&clock), 5 * NS_PER_S);
    assert_int_equal(clock_now(&clock), 5 * NS_PER_S);
    clock_advance(&clock, 20 * NS_PER_MS);
    assert_int_equal(clock_now(&clock), 5 * NS_PER_S + 20 * NS_PER_MS);
    clock_advance(&clock, 0);
    assert_int_equal(clock_now(&clock), 5 * NS_PER_S + 20 * NS_PER_MS);
}

static void test_clock__a_copy_of_a_fake_goes_its_own_way(void **state)
{
    struct clock clock = clock_fake(1);
    struct clock copy = clock;
    clock_advance(&copy, 1);
    assert_int_equal(clock_now(&clock), 1);
    assert_int_equal(clock_now(&copy), 2);
}

static void test_clock__monotonic_never_goes_back(void **state)
{
    int64_t before = clock_now(&clock_monotonic);
    assert_true(before > 0);
    for (int i = 0; i < 10000; i++) {
        int64_t now = clock_now(&clock_monotonic);
        assert_true(now >= before);
        before = now;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clock__a_fake_stands_still_until_advanced),
        cmocka_unit_test(test_clock__a_copy_of_a_fake_goes_its_own_way),
        cmocka_unit_test(test_clock__monotonic_never_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
