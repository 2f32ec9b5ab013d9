#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "limits.h"
#include "tests/model/grammar_fixture.h"

static void takes(const char *grammar, const char *text)
{
    assert_takes(GRAMMAR_GBNF, grammar, text);
}

static void takes_not(const char *grammar, const char *text)
{
    assert_takes_not(GRAMMAR_GBNF, grammar, text);
}

static void refuses(const char *grammar, const char *words)
{
    assert_refuses(GRAMMAR_GBNF, grammar, words);
}

static void test_gbnf__literals_classes_and_repetitions(void **state)
{
    static const char list[] = "root ::= \"[\" item (\",\" item){0,2} \"]\" # a list\n"
                               "item ::= [0-9]+ | \"x\" \"y\"? | [^\\]a-z]\n";
    takes(list, "[12,x,xy]");
    takes(list, "[A]");
    takes_not(list, "[]");
    takes_not(list, "[1,2,3,4]");
    takes_not(list, "[a]");
    takes_not(list, "[1,]");
    takes("root ::= \"a\"{2}", "aa");
    takes_not("root ::= \"a\"{2}", "aaa");
    takes("root ::= \"a\"{2,}", "aaaaa");
    takes_not("root ::= \"a\"{2,}", "a");
    takes("root ::= (\"a\" | \"bc\"*)+ \"d\"", "bcabcbcd");
    takes("root ::= \"\"", "");
    takes("root ::= (\"a\"?)*", "aaa");
    takes("root ::= \"a\" * [b] {1,2} # and\n", "aabb"); /* blanks before a repetition */
    takes("root ::= (\"a\"\n + \"b\" )", "aab");
}

static void test_gbnf__characters_are_whole_and_their_bytes_exact(void **state)
{
    takes("root ::= [à-ÿ]+", "éüÿ");
    takes_not("root ::= [à-ÿ]+", "e");
    takes("root ::= .", "é");
    takes("root ::= .", "\xf0\x9f\x99\x82");
    takes_not("root ::= .", "\xc3"); /* half a character */
    takes_not("root ::= .*", "\xed\xa0\x80"); /* a surrogate */
    takes_not("root ::= .*", "\xc0\x80");
    takes_not("root ::= [^a]", "\xff");
    takes("root ::= [\\u0900-\\u097F]{3}", "नमस");
    takes("root ::= [\\U0001F600-\\U0001F64F]", "\xf0\x9f\x98\x80");
    takes("root ::= \"\\n\\t\\x41\\u00e9\\\\\\\"\"", "\n\tAé\\\"");
    takes("root ::= [\\]\\-^]+", "]-^");
    takes("root ::= \"\\xe9\" [\\x80-\\xff]", "éÿ"); /* characters, no bytes */
    takes_not("root ::= [^\\x0a\\x85\\u2028]", "\xc2\x85");
}

/* Each character, and those beside each border of a range, against the range itself. */
static void test_gbnf__a_range_holds_its_characters_and_no_other(void **state)
{
    static const uint32_t borders[] = {0x20,   0x7f,   0x80,   0xbf,   0xc0,    0x7ff,  0x800,
                                       0xfff,  0x1000, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x3ffff,
                                       0x40000, 0xfffff, 0x100000, 0x10fffe};
    enum { N = sizeof borders / sizeof *borders };
    struct tongue tongue = tongue_create();
    for (int i = 0; i < N; i += 2)
        for (int j = i; j < N; j += 3) {
            char grammar[64];
            snprintf(grammar, sizeof grammar, "root ::= [\\U%08X-\\U%08X]", borders[i], borders[j]);
            for (int k = 0; k < 3 * N; k++) {
                uint32_t code = borders[k / 3] + (uint32_t)(k % 3) - 1;
                char text[5] = "";
                bool ends;
                if (code >= 0xd800 && code <= 0xdfff)
                    continue;
                size_t n = utf8_encode(code, (uint8_t *)text);
                size_t n_taken = grammar_takes(&tongue, GRAMMAR_GBNF, grammar, text, &ends);
                assert_int_equal(n_taken == n && ends, code >= borders[i] && code <= borders[j]);
            }
        }
    tongue_free(&tongue);
}

static void test_gbnf__rules_end_with_their_line_or_go_on(void **state)
{
    takes("root ::=\n  \"a\" |\n  \"b\"\n\n# then\nother ::= \"c\"", "b");
    takes("root ::= (\"a\"\n  \"b\"\n)\n", "ab");
    takes("a ::= \"x\"\nroot ::= a a", "xx");
    takes("root ::= \"(\" root \")\" | \"\"", "((()))");
    takes_not("root ::= \"(\" root \")\" | \"\"", "(()");
    takes("\xef\xbb\xbfroot ::= \"a\"\r\n", "a"); /* as editors of Windows write it */
    takes("root ::= [ab] root | \"c\"", "abababababc"); /* recursion at the end */
}

static void test_gbnf__errors_have_a_place(void **state)
{
    refuses("root ::= \"a\nb ::= \"c\"", "line 1, column 10: this literal has no closing quote");
    refuses("root ::= [a-", "line 1, column 10: this class has no closing ]");
    refuses("root ::= (\"a\" ", "line 1, column 10: this group has no closing )");
    refuses("root ::= é", "line 1, column 10: ");
    refuses("# é\nroot ::= \"é\" nothing",
            "line 2, column 14: the rule \"nothing\" is not defined");
    refuses("root ::= \"a\"\nroot ::= \"b\"",
            "line 2, column 1: the rule \"root\" is defined twice");
    refuses("a ::= \"a\"", "there is no rule \"root\"");
    refuses("", "there is no rule \"root\"");
    refuses("root = \"a\"", "line 1, column 6: ::= is expected");
    refuses("root ::= \"\\q\"", "line 1, column 11: unknown escape");
    refuses("root ::= \"\\ud800\"", "U+D800 is no character");
    refuses("root ::= [z-a]", "line 1, column 11: this range ends before it begins");
    refuses("root ::= \"a\" | []", "line 1, column 16: this class holds no character");
    refuses("root ::= [^\\U00000000-\\U0010FFFF]", "line 1, column 10: this class holds no");
    refuses("root ::= \"a\"{3,2}", "at least 3 and at most 2");
    refuses("root ::= \"a\"{x}", "a number is expected");
    refuses("root ::= \"a\" }", "line 1, column 14: \"}\" begins no term");
    refuses("root ::= \"\xff\"", "line 1, column 11: this is no UTF-8");
}

static void test_gbnf__what_would_never_end_is_refused_by_name(void **state)
{
    refuses("root ::= a\na ::= a \"x\" | \"y\"", "column 10: the rule \"a\" begins with itself");
    refuses("root ::= a\na ::= \"\" b\nb ::= c? a | \"z\"\nc ::= \"c\"", "begins with itself");
    refuses("root ::= \"x\" root", "line 1, column 1: the rule \"root\" matches no text that ends");
    refuses("root ::= \"x\" | \"y\" b\nb ::= \"(\" b \")\"", "the rule \"b\" matches no text");
    refuses("root ::= \"x\" | (b \"c\")*\nb ::= \"x\" b", /* and not the group, which has no name */
            "line 1, column 17: the rule \"b\" matches no text");
    takes("root ::= \"a\"\nb ::= b", "a"); /* nobody asks for b */
}

/* --- limits --- */

static char *repeated(const char *before, const char *part, size_t n, const char *after)
{
    size_t len = strlen(part);
    char *text = malloc(strlen(before) + n * len + strlen(after) + 1), *at = text;
    at = stpcpy(at, before);
    for (size_t i = 0; i < n; i++)
        at = stpcpy(at, part);
    strcpy(at, after);
    return text;
}

static void test_gbnf__limits_hold_and_one_more_is_refused(void **state)
{
    char text[64];
    snprintf(text, sizeof text, "root ::= \"a\"{0,%d}", GRAMMAR_REPEAT_MAX);
    takes(text, "aaa");
    snprintf(text, sizeof text, "root ::= \"a\"{%d}", GRAMMAR_REPEAT_MAX + 1);
    refuses(text, "bounded by 4096");

    for (int over = 0; over < 2; over++) {
        size_t n = GRAMMAR_NESTING_MAX + (size_t)over;
        char *open = repeated("root ::= ", "(", n, "\"a\""), *whole = repeated(open, ")", n, "");
        if (over)
            refuses(whole, "more than 64 groups");
        else
            takes(whole, "a");
        free(open);
        free(whole);

        char *ranges =
            repeated("root ::= [", "ac", GRAMMAR_CLASS_RANGES_MAX / 2, over ? "e]" : "]");
        if (over)
            refuses(ranges, "more than 256 ranges");
        else
            takes(ranges, "c");
        free(ranges);

        char *long_text =
            repeated("root ::= \"a\" #", "x", GRAMMAR_BYTES_MAX - 14 + (size_t)over, "");
        if (over)
            refuses(long_text, "65537 bytes");
        else
            takes(long_text, "a");
        free(long_text);
    }
}

static void test_gbnf__what_would_grow_without_bound_is_refused(void **state)
{
    /* two nodes a copy, and two for the root */
    takes("root ::= (\"a\"{0,4096}){8}", "aa");
    refuses("root ::= [^a]{0,4096} [^b]{0,4096} [^c]{0,4096} [^d]{0,4096} [^e]{0,4096} "
            "[^f]{0,4096} [^g]{0,4096} [^h]{0,4096}",
            "more than 65536 nodes");
    char *rules = malloc(GRAMMAR_BYTES_MAX), *at = stpcpy(rules, "root ::= r0\n");
    for (int i = 0; at - rules < (long)GRAMMAR_BYTES_MAX - 32; i++)
        at += sprintf(at, "r%d ::= r%d\n", i, i + 1);
    refuses(rules, "is not defined");
    free(rules);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gbnf__literals_classes_and_repetitions),
        cmocka_unit_test(test_gbnf__characters_are_whole_and_their_bytes_exact),
        cmocka_unit_test(test_gbnf__a_range_holds_its_characters_and_no_other),
        cmocka_unit_test(test_gbnf__rules_end_with_their_line_or_go_on),
        cmocka_unit_test(test_gbnf__errors_have_a_place),
        cmocka_unit_test(test_gbnf__what_would_never_end_is_refused_by_name),
        cmocka_unit_test(test_gbnf__limits_hold_and_one_more_is_refused),
        cmocka_unit_test(test_gbnf__what_would_grow_without_bound_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
