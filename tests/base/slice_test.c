#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/slice.h"

static void test_slice__nul_is_a_byte_like_any_other(void **state)
{
    assert_true(slice_equal(slice_of("a\0b", 3), slice_of("a\0b", 3)));
    assert_false(slice_equal(slice_of("a\0b", 3), slice_of("a\0c", 3)));
    assert_int_equal(slice_from("a\0b").len, 1);
}

static void test_slice__nothing_equals_nothing(void **state)
{
    assert_true(slice_equal(slice_of(NULL, 0), slice_from("")));
    assert_false(slice_equal(slice_of(NULL, 0), slice_from("a")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slice__nul_is_a_byte_like_any_other),
        cmocka_unit_test(test_slice__nothing_equals_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
