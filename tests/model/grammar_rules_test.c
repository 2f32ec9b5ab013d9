#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "limits.h"
#include "model/grammar_rules.h"

static void assert_status(struct grammar_rules *rules, bool over, const char *words)
{
    struct why why = {.text = ""};
    assert_int_equal(grammar_rules_why(rules, &why), over ? STATUS_INVALID : STATUS_OK);
    if (over)
        assert_non_null(strstr(why.text, words));
    grammar_rules_release(rules);
}

static void test_grammar_rules__classes_are_sorted_joined_and_without_surrogates(void **state)
{
    static const struct code_range some[] = {{'x', 'z'}, {'a', 'c'}, {'b', 'f'}, {'g', 'g'}};
    struct grammar_rules rules;
    grammar_rules_init(&rules);
    uint32_t id = rules_class(&rules, some, 4, false);
    const struct expr *expr = &rules.exprs[id];
    assert_int_equal(expr->b, 2);
    assert_int_equal(rules.ranges[expr->a].first, 'a');
    assert_int_equal(rules.ranges[expr->a].last, 'g');
    id = rules_class(&rules, some, 4, true);
    expr = &rules.exprs[id];
    assert_int_equal(expr->b, 4); /* 0 to `, h to w, { to D7FF, E000 on */
    assert_int_equal(rules.ranges[expr->a + 2].last, 0xd7ff);
    assert_int_equal(rules.ranges[expr->a + 3].first, 0xe000);
    assert_int_equal(rules.ranges[expr->a + 3].last, CODE_POINT_MAX);
    grammar_rules_release(&rules);
}

static void test_grammar_rules__rules_of_the_limit_and_one_more(void **state)
{
    for (int over = 0; over < 2; over++) {
        struct grammar_rules rules;
        grammar_rules_init(&rules);
        for (int i = 0; i < GRAMMAR_RULES_MAX + over; i++)
            grammar_rules_name(&rules, slice_from("r"));
        assert_status(&rules, over, "more than 16384 rules");
    }
}

static void test_grammar_rules__expressions_of_the_limit_and_one_more(void **state)
{
    for (uint32_t over = 0; over < 2; over++) {
        struct grammar_rules rules;
        grammar_rules_init(&rules);
        for (uint32_t i = 0; i < GRAMMAR_EXPRESSIONS_MAX + over; i++)
            rules_empty(&rules);
        assert_status(&rules, over, "more than 262144 parts");
    }
}

static void test_grammar_rules__bytes_of_the_limit_and_one_more(void **state)
{
    char *text = calloc(GRAMMAR_LITERAL_BYTES_MAX + 1, 1);
    for (uint32_t over = 0; over < 2; over++) {
        struct grammar_rules rules;
        grammar_rules_init(&rules);
        rules_bytes(&rules, slice_of(text, GRAMMAR_LITERAL_BYTES_MAX + over));
        assert_status(&rules, over, "parts");
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grammar_rules__classes_are_sorted_joined_and_without_surrogates),
        cmocka_unit_test(test_grammar_rules__rules_of_the_limit_and_one_more),
        cmocka_unit_test(test_grammar_rules__expressions_of_the_limit_and_one_more),
        cmocka_unit_test(test_grammar_rules__bytes_of_the_limit_and_one_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
