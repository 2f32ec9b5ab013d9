#include "kernels/kv_page.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void test_kv_page__a_table_knows_only_its_pages(void **state)
{
    page_id table[] = {7, PAGE_NONE, 3, 1};
    uint32_t first_page[] = {5, 0};
    uint8_t memory[1000];
    struct kv_group_view group = {.base = memory,
                                  .page_stride = 100,
                                  .layer_stride = 10,
                                  .table = table,
                                  .first_page = first_page,
                                  .table_stride = 2};
    assert_ptr_equal(kv_page_find(&group, 2, 0, 5), memory + 720);
    assert_null(kv_page_find(&group, 2, 0, 6));
    assert_null(kv_page_find(&group, 2, 0, 4));
    assert_null(kv_page_find(&group, 2, 0, 7));
    assert_ptr_equal(kv_page_find(&group, 0, 1, 1), memory + 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_page__a_table_knows_only_its_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
