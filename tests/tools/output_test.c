/* What a hostile file's names may do to a terminal and to JSON: nothing. */
#include "tools/json_print.h"
#include "tools/output.h"

#include <math.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define CAP 4096
static char text[CAP];

static const char *shown(struct slice bytes, size_t max_bytes)
{
    FILE *to = fmemopen(text, CAP, "w");
    output_text(to, bytes, max_bytes);
    fclose(to);
    return text;
}

static void test_output__controls_and_bad_bytes_do_not_reach_a_terminal(void **state)
{
    assert_string_equal(shown(slice_from("caf\xc3\xa9"), 0), "caf\xc3\xa9");
    assert_string_equal(shown(slice_from("a\x1b[2Jb\nc\x7f"), 0), "a [2Jb c ");
    assert_string_equal(shown(slice_from("a\xc2\x9b"
                                         "31m"),
                              0),
                        "a 31m"); /* CSI as one character */
    assert_string_equal(shown(slice_from("x\xff"), 0), "x\xef\xbf\xbd");
    assert_string_equal(shown(slice_of("a\0b", 3), 0), "a b");
}

static void test_output__a_cut_never_splits_a_character(void **state)
{
    assert_string_equal(shown(slice_from("\xc3\xa9\xc3\xa9"), 3), "\xc3\xa9...");
    assert_string_equal(shown(slice_from("abcd"), 4), "abcd");
}

static void test_output__long_text_is_whole_across_its_pieces(void **state)
{
    char in[1500];
    for (size_t i = 0; i < sizeof in; i += 3)
        memcpy(in + i, "\xe2\x82\xac", 3); /* no border of 256 bytes falls between two */
    assert_int_equal(strlen(shown(slice_of(in, 1500), 0)), 1500);
    assert_memory_equal(text, in, 1500);
}

static void test_json_print__nests_escapes_and_parts_by_commas(void **state)
{
    FILE *to = fmemopen(text, CAP, "w");
    struct json_print json = {.to = to};
    json_print_open(&json, NULL, '{');
    json_print_text(&json, "a", slice_from("q\"\\\n\xff"));
    json_print_open(&json, "l", '[');
    json_print_uint(&json, NULL, UINT64_MAX);
    json_print_open(&json, NULL, '{');
    json_print_close(&json, '}');
    json_print_bool(&json, NULL, false);
    json_print_close(&json, ']');
    json_print_real(&json, "n", NAN);
    json_print_real(&json, "h", 0.5);
    json_print_close(&json, '}');
    fclose(to);
    assert_string_equal(text, "{\"a\": \"q\\\"\\\\\\u000a\xef\xbf\xbd\", "
                              "\"l\": [18446744073709551615, {}, false], \"n\": null, \"h\": 0.5}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_output__controls_and_bad_bytes_do_not_reach_a_terminal),
        cmocka_unit_test(test_output__a_cut_never_splits_a_character),
        cmocka_unit_test(test_output__long_text_is_whole_across_its_pieces),
        cmocka_unit_test(test_json_print__nests_escapes_and_parts_by_commas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
