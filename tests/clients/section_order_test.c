#include "clients/c/section_order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct section_order order;
static char shown[4096];

/* "<0.1" opens, text follows, ">" ends */
static bool show(void *arg, const struct section_piece *piece)
{
    size_t n = strlen(shown);
    if (piece->first)
        n += (size_t)sprintf(shown + n, "<%u.%u ", piece->level, piece->index);
    n += (size_t)sprintf(shown + n, "%.*s", (int)piece->len, (const char *)piece->text);
    if (piece->last)
        sprintf(shown + n, ">");
    return arg == NULL;
}

static int setup(void **state)
{
    shown[0] = 0;
    section_order_init(&order, show, NULL);
    return 0;
}

static int teardown(void **state)
{
    section_order_release(&order);
    return 0;
}

static bool add(uint32_t level, uint32_t index, const char *text, bool last)
{
    struct section_piece piece = {
        .level = level, .index = index, .text = text, .len = strlen(text), .last = last};
    return section_order_add(&order, &piece);
}

static void test_section_order__pieces_of_the_open_section_pass_at_once(void **state)
{
    assert_true(add(0, 0, "a", false));
    assert_string_equal(shown, "<0.0 a");
    assert_true(add(0, 0, "b", false));
    assert_string_equal(shown, "<0.0 ab");
    assert_true(add(0, 0, "", true));
    assert_string_equal(shown, "<0.0 ab>");
}

static void test_section_order__others_wait_and_follow_in_order(void **state)
{
    assert_true(add(0, 0, "a", false));
    assert_true(add(0, 2, "x", true));
    assert_true(add(0, 1, "p", false));
    assert_true(add(0, 1, "q", false));
    assert_string_equal(shown, "<0.0 a");
    assert_true(add(0, 0, "b", true));
    assert_string_equal(shown, "<0.0 ab><0.1 pq");
    assert_true(add(0, 1, "", true));
    assert_string_equal(shown, "<0.0 ab><0.1 pq><0.2 x>");
}

static void test_section_order__a_later_section_waits_for_its_forerunner(void **state)
{
    assert_true(add(0, 1, "x", true));
    assert_string_equal(shown, "");
    assert_true(add(0, 0, "a", true));
    assert_string_equal(shown, "<0.0 a><0.1 x>");
}

static void test_section_order__a_lower_level_goes_before_a_higher_one(void **state)
{
    assert_true(add(0, 0, "a", false));
    assert_true(add(1, 0, "up", true));
    assert_true(add(0, 1, "b", true));
    assert_true(add(0, 0, "", true));
    assert_string_equal(shown, "<0.0 a><0.1 b><1.0 up>");
}

static void test_section_order__flush_shows_what_waits_for_nothing(void **state)
{
    assert_true(add(0, 0, "a", false));
    assert_true(add(0, 3, "x", true));
    assert_true(add(1, 1, "y", false));
    assert_true(section_order_flush(&order));
    assert_string_equal(shown, "<0.0 a<0.3 x><1.1 y");
}

static void test_section_order__refuses_what_was_shown_and_what_is_no_level(void **state)
{
    assert_true(add(0, 0, "a", true));
    assert_false(add(0, 0, "b", true));
    assert_false(add(SECTION_LEVELS_MAX, 0, "b", true));
    assert_true(add(SECTION_LEVELS_MAX - 1, 0, "c", true));
}

static void test_section_order__stops_when_the_reader_does(void **state)
{
    order.arg = &order;
    assert_false(add(0, 0, "a", false));
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_section_order__##name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pieces_of_the_open_section_pass_at_once),
        TEST(others_wait_and_follow_in_order),
        TEST(a_later_section_waits_for_its_forerunner),
        TEST(a_lower_level_goes_before_a_higher_one),
        TEST(flush_shows_what_waits_for_nothing),
        TEST(refuses_what_was_shown_and_what_is_no_level),
        TEST(stops_when_the_reader_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
