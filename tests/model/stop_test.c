#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/status.h"
#include "base/utf8.h"
#include "model/stop.h"
#include "tests/model/vocabulary_fixture.h"

static struct stop stop_of(const char *a, const char *b)
{
    struct stop stop;
    struct slice strings[] = {slice_from(a), slice_from(b != NULL ? b : "")};
    assert_int_equal(stop_init(&stop, strings, b != NULL ? 2 : 1, NULL), STATUS_OK);
    return stop;
}

static void assert_push(struct stop *stop, const char *text, const char *shown)
{
    uint8_t out[1024];
    assert_true(stop_bound(stop, strlen(text)) <= sizeof out);
    size_t n = stop_push(stop, slice_from(text), out);
    assert_int_equal(n, strlen(shown));
    assert_memory_equal(out, shown, n);
}

static void test_stop__matches_across_token_borders(void **state)
{
    struct stop stop = stop_of("END", NULL);
    assert_push(&stop, "the E", "the ");
    assert_push(&stop, "N", "");
    assert_int_equal(stop.matched, -1);
    assert_push(&stop, "D of it", "");
    assert_int_equal(stop.matched, 0);
    assert_push(&stop, "more", "");
    uint8_t out[STOP_BYTES_MAX];
    assert_int_equal(stop_flush(&stop, out), 0);
}

static void test_stop__what_was_held_is_shown_when_it_becomes_nothing(void **state)
{
    struct stop stop = stop_of("\n\nUser:", NULL);
    uint8_t out[STOP_BYTES_MAX];
    assert_push(&stop, "a\n", "a");
    assert_push(&stop, "\n", "");
    assert_push(&stop, "\n", "\n"); /* the first newline can no longer begin it */
    assert_push(&stop, "User", "");
    assert_int_equal(stop_flush(&stop, out), 6);
    assert_memory_equal(out, "\n\nUser", 6);
    assert_int_equal(stop.matched, -1);
}

static void test_stop__the_earliest_start_wins_and_there_the_longest(void **state)
{
    struct stop stop = stop_of("cd", "bcd");
    assert_push(&stop, "abcde", "a");
    assert_int_equal(stop.matched, 1);
    stop = stop_of("b", "bc");
    assert_push(&stop, "abcd", "a");
    assert_int_equal(stop.matched, 1);
    stop = stop_of("bc", "b");
    assert_push(&stop, "ab", "a");
    assert_int_equal(stop.matched, 1);
}

static void test_stop__without_strings_all_is_shown_at_once(void **state)
{
    struct stop stop;
    assert_int_equal(stop_init(&stop, NULL, 0, NULL), STATUS_OK);
    assert_push(&stop, "any \xE4\xBD\xA0", "any \xE4\xBD\xA0");
    assert_push(&stop, "", "");
}

static void test_stop__limits_hold_and_one_more_is_refused(void **state)
{
    struct stop stop;
    struct why why = {.text = ""};
    struct slice strings[STOP_STRINGS_MAX + 1];
    char longest[STOP_BYTES_MAX + 1];
    memset(longest, 's', sizeof longest);
    for (size_t i = 0; i < STOP_STRINGS_MAX + 1; i++)
        strings[i] = slice_of(longest, STOP_BYTES_MAX);
    assert_int_equal(stop_init(&stop, strings, STOP_STRINGS_MAX, &why), STATUS_OK);
    assert_int_equal(stop_init(&stop, strings, STOP_STRINGS_MAX + 1, &why), STATUS_INVALID);
    assert_string_equal(why.text, "17 stop strings; at most 16 are allowed");

    strings[0] = slice_of(longest, STOP_BYTES_MAX + 1);
    assert_int_equal(stop_init(&stop, strings, 1, &why), STATUS_INVALID);
    assert_string_equal(why.text, "stop string 0 has 257 bytes; at most 256 are allowed");
    strings[1] = slice_from("");
    assert_int_equal(stop_init(&stop, strings + 1, 1, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "stop string 0 is empty"));
    strings[1] = slice_from("\xE4\xBD");
    assert_int_equal(stop_init(&stop, strings + 1, 1, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "not UTF-8"));
}

static void test_stop__the_longest_string_is_found_byte_by_byte(void **state)
{
    char longest[STOP_BYTES_MAX];
    memset(longest, 's', sizeof longest);
    longest[STOP_BYTES_MAX - 1] = '.';
    struct stop stop;
    struct slice string = slice_of(longest, STOP_BYTES_MAX);
    assert_int_equal(stop_init(&stop, &string, 1, NULL), STATUS_OK);
    size_t n_shown = 0;
    for (int i = 0; i < 1000; i++) {
        uint8_t out[STOP_BYTES_MAX + 1];
        n_shown += stop_push(&stop, slice_from("s"), out);
    }
    assert_int_equal(n_shown, 1000 - (STOP_BYTES_MAX - 1));
    assert_push(&stop, ".", "");
    assert_int_equal(stop.matched, 0);
}

/* One string, random packets of whole characters: the text up to its first occurrence is shown. */
static void test_stop__packets_do_not_change_the_answer(void **state)
{
    static const char *const letters[] = {"a", "b", "\xC3\xA9", "\xE4\xBD\xA0"};
    uint64_t seed = 41;
    for (int round = 0; round < 5000; round++) {
        char text[400] = "", string[16] = "", shown[800] = "";
        size_t ends[100], n_letters = 1 + random_below(&seed, 99), n_shown = 0;
        for (size_t i = 0; i < n_letters; i++) {
            strcat(text, letters[random_below(&seed, 4)]);
            ends[i] = strlen(text);
        }
        for (uint32_t i = 0, n = 1 + random_below(&seed, 4); i < n; i++)
            strcat(string, letters[random_below(&seed, 4)]);
        struct stop stop = stop_of(string, NULL);
        for (size_t i = 0, at = 0; i < n_letters; at = ends[i], i++) {
            i += random_below(&seed, (uint32_t)(n_letters - i));
            n_shown +=
                stop_push(&stop, slice_of(text + at, ends[i] - at), (uint8_t *)shown + n_shown);
            assert_true(utf8_is_valid(shown, n_shown, NULL));
        }
        n_shown += stop_flush(&stop, (uint8_t *)shown + n_shown);
        const char *found = strstr(text, string);
        assert_int_equal(stop.matched, found != NULL ? 0 : -1);
        assert_int_equal(n_shown, found != NULL ? (size_t)(found - text) : strlen(text));
        assert_memory_equal(shown, text, n_shown);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop__matches_across_token_borders),
        cmocka_unit_test(test_stop__what_was_held_is_shown_when_it_becomes_nothing),
        cmocka_unit_test(test_stop__the_earliest_start_wins_and_there_the_longest),
        cmocka_unit_test(test_stop__without_strings_all_is_shown_at_once),
        cmocka_unit_test(test_stop__limits_hold_and_one_more_is_refused),
        cmocka_unit_test(test_stop__the_longest_string_is_found_byte_by_byte),
        cmocka_unit_test(test_stop__packets_do_not_change_the_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
