#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/list.h"

struct item {
    int value;
    struct list link;
};

static int digits_of(struct list *head)
{
    int digits = 0;
    list_for_each(node, head) digits = digits * 10 + list_entry(node, struct item, link)->value;
    return digits;
}

static void test_list__keeps_the_order_of_appends_and_prepends(void **state)
{
    struct list head;
    struct item items[4] = {{.value = 1}, {.value = 2}, {.value = 3}, {.value = 4}};
    list_init(&head);
    assert_true(list_is_empty(&head));
    list_append(&head, &items[1].link);
    list_append(&head, &items[2].link);
    list_prepend(&head, &items[0].link);
    list_append(&head, &items[3].link);
    assert_int_equal(digits_of(&head), 1234);
    assert_false(list_is_empty(&head));
}

static void test_list__unlinks_from_any_place_and_twice(void **state)
{
    struct list head;
    struct item items[3] = {{.value = 1}, {.value = 2}, {.value = 3}};
    list_init(&head);
    for (int i = 0; i < 3; i++)
        list_append(&head, &items[i].link);
    list_unlink(&items[1].link);
    list_unlink(&items[1].link);
    assert_true(list_is_empty(&items[1].link));
    assert_int_equal(digits_of(&head), 13);
    list_append(&head, &items[1].link);
    assert_int_equal(digits_of(&head), 132);
}

static void test_list__the_safe_walk_lets_its_body_unlink(void **state)
{
    struct list head;
    struct item items[5] = {{.value = 1}, {.value = 2}, {.value = 3}, {.value = 4}, {.value = 5}};
    list_init(&head);
    for (int i = 0; i < 5; i++)
        list_append(&head, &items[i].link);
    list_for_each_safe(node, &head)
    {
        if (list_entry(node, struct item, link)->value % 2 == 0)
            list_unlink(node);
    }
    assert_int_equal(digits_of(&head), 135);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list__keeps_the_order_of_appends_and_prepends),
        cmocka_unit_test(test_list__unlinks_from_any_place_and_twice),
        cmocka_unit_test(test_list__the_safe_walk_lets_its_body_unlink),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
