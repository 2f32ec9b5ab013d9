#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "model/json_place.h"

/* What the pointer names begins with the words. */
static void assert_found(const char *text, const char *pointer, const char *words)
{
    size_t at = json_place(slice_from(text), slice_from(pointer));
    if (strncmp(text + at, words, strlen(words)) != 0)
        fail_msg("%s in %s: at %zu", pointer, text, at);
}

static void test_json_place__members_and_items_are_found(void **state)
{
    static const char text[] = " {\"a\" : [1, {\"x\": \"]},\\\"\"}, [[], {}]], \"b/c\":{\"~\":2},"
                               " \"é\":-3 }";
    assert_found(text, "", "{\"a\"");
    assert_found(text, "/a", "\"a\"");
    assert_found(text, "/a/0", "1,");
    assert_found(text, "/a/1", "{\"x\"");
    assert_found(text, "/a/1/x", "\"x\"");
    assert_found(text, "/a/2/1", "{}]");
    assert_found(text, "/b~1c/~0", "\"~\"");
    assert_found(text, "/é", "\"é\"");
}

static void test_json_place__what_is_not_there_is_near_what_is(void **state)
{
    static const char text[] = "{\"a\": {\"b\": [true]}, \"\\u0063\": 1}";
    assert_found(text, "/a/x", "\"a\"");
    assert_found(text, "/a/b/7", "\"b\"");
    assert_found(text, "/a/b/x", "\"b\"");
    assert_found(text, "/a/b/0/c", "true");
    assert_found(text, "/c", "{\"a\"");
    assert_found(text, "/", "{\"a\"");
    assert_found("[]", "/0", "[]");
    assert_found("{}", "/", "{}");
    assert_found("7", "/a", "7");
    assert_found("[1]", "/99999999999999999999999999", "[1]");
}

/* A text is not read beyond its end, whatever it is; each length stands in memory of its own. */
static void test_json_place__no_byte_behind_the_text_is_read(void **state)
{
    static const char text[] = "{\"a\\\"\": [1, {\"b\": \"\\\\\"}], \"c\": {}}";
    static const char *const pointers[] = {"/c", "/a\\\"/1/b", "/x/y"};
    for (size_t len = 0; len < sizeof text; len++) {
        char *copy = malloc(len + (len == 0));
        memcpy(copy, text, len);
        for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++)
            assert_in_range(json_place(slice_of(copy, len), slice_from(pointers[i])), 0, len);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_place__members_and_items_are_found),
        cmocka_unit_test(test_json_place__what_is_not_there_is_near_what_is),
        cmocka_unit_test(test_json_place__no_byte_behind_the_text_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
