#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/status.h"
#include "model/special_table.h"

static struct special_table table_of(const char *const *texts, size_t n)
{
    struct special specials[8] = {0};
    for (size_t i = 0; i < n; i++)
        specials[i] = (struct special){.text = slice_from(texts[i]), .id = (uint32_t)i};
    struct special_table table;
    assert_int_equal(special_table_init(&table, specials, n, NULL), STATUS_OK);
    return table;
}

static const char *const usual[] = {"<|a|>", "<|a|>b", "<|", "zz", "<|a|>"};

static void test_special_table__takes_the_leftmost_and_there_the_longest(void **state)
{
    struct special_table table = table_of(usual, 5);
    struct special_match match = special_table_search(&table, slice_from("x<|a|>bzz"), true);
    assert_int_equal(match.outcome, SPECIAL_FOUND);
    assert_int_equal(match.at, 1);
    assert_int_equal(match.len, 6);
    assert_int_equal(match.id, 1);

    match = special_table_search(&table, slice_from("<|a|zz"), true);
    assert_int_equal(match.at, 0);
    assert_int_equal(match.id, 2);
    special_table_release(&table);
}

static void test_special_table__equal_texts_give_the_lowest_id(void **state)
{
    struct special_table table = table_of(usual, 5);
    uint32_t id;
    assert_true(special_table_find(&table, slice_from("<|a|>"), &id));
    assert_int_equal(id, 0);
    assert_false(special_table_find(&table, slice_from("<|a"), &id));
    assert_false(special_table_find(&table, slice_from("<|a|>bc"), &id));
    assert_false(special_table_find(&table, slice_from(""), &id));
    special_table_release(&table);
}

static void test_special_table__waits_only_for_what_may_still_grow(void **state)
{
    struct special_table table = table_of(usual, 5);
    struct special_match match = special_table_search(&table, slice_from("xy<|a|>"), false);
    assert_int_equal(match.outcome, SPECIAL_UNDECIDED);
    assert_int_equal(match.at, 2);

    match = special_table_search(&table, slice_from("xy<|a|>"), true);
    assert_int_equal(match.outcome, SPECIAL_FOUND);
    assert_int_equal(match.id, 0);

    match = special_table_search(&table, slice_from("xy<|a|>b"), false);
    assert_int_equal(match.outcome, SPECIAL_FOUND);
    assert_int_equal(match.id, 1);

    match = special_table_search(&table, slice_from("xyz."), false);
    assert_int_equal(match.outcome, SPECIAL_NONE);
    assert_int_equal(match.at, 4);
    special_table_release(&table);
}

static void test_special_table__an_empty_table_finds_nothing(void **state)
{
    struct special_table table = table_of(NULL, 0);
    uint32_t id;
    assert_int_equal(special_table_search(&table, slice_from("<|"), false).outcome, SPECIAL_NONE);
    assert_false(special_table_find(&table, slice_from("<|"), &id));
    special_table_release(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_special_table__takes_the_leftmost_and_there_the_longest),
        cmocka_unit_test(test_special_table__equal_texts_give_the_lowest_id),
        cmocka_unit_test(test_special_table__waits_only_for_what_may_still_grow),
        cmocka_unit_test(test_special_table__an_empty_table_finds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
