/* Patterns beside lengths, and formats: whatever is drawn has both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "tests/model/schema_fixture.h"

static void test_json_length__one_part_that_varies_takes_what_is_left(void **state)
{
    static const char name[] =
        "{\"pattern\":\"^[a-z][a-z0-9]*$\",\"minLength\":3,\"maxLength\":5}";
    takes(name, "\"a12\"");
    takes(name, "\"a1234\"");
    takes_not(name, "\"a1\"");
    takes_not(name, "\"a12345\"");
    takes("{\"pattern\":\"^(ab)*$\",\"maxLength\":5}", "\"abab\"");
    takes_not("{\"pattern\":\"^(ab)*$\",\"maxLength\":5}", "\"ababab\"");
    takes("{\"pattern\":\"^(ab)*$\",\"minLength\":5}", "\"abababab\""); /* no end of its own */
    takes_not("{\"pattern\":\"^(ab)*$\",\"minLength\":5}", "\"abab\"");
    takes("{\"pattern\":\"^(a|bb|c{3}|d*)$\",\"minLength\":2,\"maxLength\":2}", "\"bb\"");
    takes("{\"pattern\":\"^(a|bb|c{3}|d*)$\",\"minLength\":2,\"maxLength\":2}", "\"dd\"");
    takes_not("{\"pattern\":\"^(a|bb|c{3}|d*)$\",\"minLength\":2,\"maxLength\":2}", "\"a\"");
    takes("{\"pattern\":\"^.*$\",\"maxLength\":0}", "\"\"");
    takes_not("{\"pattern\":\"^.*$\",\"maxLength\":0}", "\"a\"");
    takes("{\"pattern\":\"b\",\"maxLength\":3}", "\"abc\"");
    takes("{\"pattern\":\"^\\\\n{2,9}$\",\"maxLength\":3}", "\"\\n\\n\\n\""); /* not its bytes */
    takes_not("{\"pattern\":\"^\\\\n{2,9}$\",\"maxLength\":3}", "\"\\n\\n\\n\\n\"");
    takes("{\"pattern\":\"^a{1,3}$\",\"minLength\":1,\"maxLength\":3}", "\"aaa\"");
}

static void test_json_length__what_has_no_such_length_is_refused(void **state)
{
    refuses("{\"pattern\":\"^a{4}$\",\"maxLength\":3}", "at #/pattern: no text of it is found");
    refuses("{\"pattern\":\"^a?$\",\"minLength\":2}", "at #/pattern: no text of it is found");
    refuses("{\"pattern\":\"^(abc)*$\",\"minLength\":4,\"maxLength\":5}", "no text of it is found");
    refuses("{\"pattern\":\"^(((a{4096}){4096}){4096})+$\",\"maxLength\":9}", "no text of it");
    refuses("{\"type\":\"string\",\"format\":\"uuid\",\"maxLength\":35}",
            "at #/format: no text of it is found");
    refuses("{\"pattern\":3,\"maxLength\":5}", "at #/pattern: it takes a regular expression");
}

static void test_json_length__formats_are_written(void **state)
{
    takes("{\"type\":\"string\",\"format\":\"date\"}", "\"2024-02-29\"");
    takes("{\"type\":\"string\",\"format\":\"date\"}", "\"2000-02-29\"");
    takes_not("{\"type\":\"string\",\"format\":\"date\"}", "\"1900-02-29\"");
    takes_not("{\"type\":\"string\",\"format\":\"date\"}", "\"2023-04-31\"");
    takes("{\"type\":\"string\",\"format\":\"time\"}", "\"23:59:59.25+05:30\"");
    takes_not("{\"type\":\"string\",\"format\":\"time\"}", "\"24:00:00Z\"");
    takes("{\"type\":\"string\",\"format\":\"date-time\"}", "\"2026-11-28T12:00:00Z\"");
    takes_not("{\"type\":\"string\",\"format\":\"date-time\"}", "\"2026-11-28 12:00:00Z\"");
    takes("{\"type\":\"string\",\"format\":\"duration\"}", "\"P1Y2M3DT4H5M6S\"");
    takes_not("{\"type\":\"string\",\"format\":\"duration\"}", "\"P\"");
    takes("{\"type\":\"string\",\"format\":\"uuid\"}", "\"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\"");
    takes("{\"type\":\"string\",\"format\":\"ipv4\"}", "\"192.168.0.255\"");
    takes_not("{\"type\":\"string\",\"format\":\"ipv4\"}", "\"192.168.0.256\"");
    takes("{\"type\":\"string\",\"format\":\"ipv6\"}", "\"2001:db8::1\"");
    takes("{\"type\":\"string\",\"format\":\"ipv6\"}", "\"::\"");
    takes_not("{\"type\":\"string\",\"format\":\"ipv6\"}", "\"1::2::3\"");
    takes("{\"type\":\"string\",\"format\":\"hostname\"}", "\"www.example.com\"");
    takes("{\"type\":\"string\",\"format\":\"email\"}", "\"a.b+c@example.co.uk\"");
    takes_not("{\"type\":\"string\",\"format\":\"email\"}", "\"a.example\"");
    takes("{\"type\":[\"string\",\"null\"],\"format\":\"date\"}", "null");
    takes("{\"type\":\"string\",\"format\":\"uri\"}", "\"anything\""); /* none is known for it */
    takes("{\"type\":\"string\",\"format\":\"date\",\"pattern\":\"^x$\"}", "\"x\"");
    takes("{\"type\":\"string\",\"format\":\"email\",\"maxLength\":9}", "\"a@b.de\"");
}

/* Random texts of patterns in which more than one part varies, against the bounds. */
static void test_json_length__whatever_is_drawn_lies_between_the_bounds(void **state)
{
    static const char *const patterns[] = {
        "^[a-z]+@[a-z]+\\\\.(de|museum)$", "^([a-z]+ ?)+$", "^(a?b{2,}|[cé]*){1,}x?$",
        "^(a*){9}b?$", "[0-9]{2}", "^((ab|c)+-){2,}(d|e{7})*$", "^(x|yy)+(z*)$"};
    struct tongue tongue = tongue_create();
    uint64_t random = 5;
    for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++)
        for (size_t min = 0; min <= 30; min += 10) {
            char schema[160], text[4096];
            snprintf(schema, sizeof schema,
                     "{\"pattern\":\"%s\",\"minLength\":%zu,\"maxLength\":%zu}", patterns[p], min,
                     min + 15);
            for (int i = 0; i < 20; i++) {
                struct grammar *grammar = grammar_of(&tongue, GRAMMAR_JSON_SCHEMA, schema);
                random_text_of(grammar, &tongue, &random, text, sizeof text);
                json_t *json = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
                assert_non_null(json);
                size_t n = 0, n_bytes = json_string_length(json);
                for (size_t at = 0; at < n_bytes; at++)
                    n += ((uint8_t)json_string_value(json)[at] & 0xc0) != 0x80;
                if (n < min || n > min + 15)
                    fail_msg("%s: %s has %zu characters", schema, text, n);
                json_decref(json);
                grammar_free(grammar);
            }
        }
    tongue_free(&tongue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_length__one_part_that_varies_takes_what_is_left),
        cmocka_unit_test(test_json_length__what_has_no_such_length_is_refused),
        cmocka_unit_test(test_json_length__formats_are_written),
        cmocka_unit_test(test_json_length__whatever_is_drawn_lies_between_the_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
