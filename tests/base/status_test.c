#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "base/utf8.h"

static void test_status__every_code_has_its_own_value_text_and_grpc_code(void **state)
{
    static const int codes[] = {
#define CODE(name, value, text, grpc) value,
        STATUS_LIST(CODE)
#undef CODE
    };
    size_t n = sizeof codes / sizeof *codes;
    for (size_t i = 0; i < n; i++) {
        assert_true(codes[i] <= 0);
        assert_string_not_equal(status_text(codes[i]), "unknown status");
        assert_string_not_equal(status_name(codes[i]), "UNKNOWN");
        assert_in_range(status_grpc_code(codes[i]), 0, 16);
        for (size_t j = 0; j < i; j++)
            assert_int_not_equal(codes[i], codes[j]);
    }
    assert_string_equal(status_name(STATUS_EXHAUSTED), "EXHAUSTED");
    assert_int_equal(status_grpc_code(STATUS_EXHAUSTED), 8);
    assert_int_equal(status_grpc_code(STATUS_OK), 0);
}

static void test_status__a_stranger_is_unknown(void **state)
{
    assert_string_equal(status_text(-4711), "unknown status");
    assert_string_equal(status_name(7), "UNKNOWN");
    assert_int_equal(status_grpc_code(7), 2);
}

static void test_refuse__writes_the_sentence_and_returns_the_status(void **state)
{
    struct why why;
    int status = refuse(&why, STATUS_TOO_LARGE, "%d pages of %s", 7, "none");
    assert_int_equal(status, STATUS_TOO_LARGE);
    assert_string_equal(why.text, "7 pages of none");
    assert_int_equal(refuse(NULL, STATUS_IO, "%d", 1), STATUS_IO);
    assert_int_equal(refuse_prefix(NULL, STATUS_IO, "%d", 1), STATUS_IO);
}

static void test_refuse__may_quote_the_sentence_that_it_replaces(void **state)
{
    struct why why;
    refuse(&why, STATUS_IO, "first");
    refuse(&why, STATUS_IO, "second after %s", why.text);
    assert_string_equal(why.text, "second after first");
}

static void test_refuse__never_cuts_inside_a_character(void **state)
{
    /* A run of one kind of character, moved on byte by byte, so that the cut falls on each of its
     * bytes. */
    static const char *const characters[] = {"a", "\u00e9", "\u20ac", "\U0001F600"};
    for (int kind = 0; kind < 4; kind++) {
        for (int shift = 0; shift < 5; shift++) {
            char text[3 * WHY_BYTES] = "";
            memset(text, 'x', (size_t)shift);
            for (size_t len = (size_t)shift; len < 2 * WHY_BYTES; len += strlen(characters[kind]))
                strcpy(text + len, characters[kind]);
            struct why why;
            refuse(&why, STATUS_INVALID, "%s", text);
            size_t len = strlen(why.text);
            assert_true(utf8_is_valid(why.text, len, NULL));
            assert_in_range(len, WHY_BYTES - 4, WHY_BYTES - 1);
            refuse(&why, STATUS_INVALID, "%s", "short");
            refuse_prefix(&why, STATUS_INVALID, "%s", text);
            len = strlen(why.text);
            assert_true(utf8_is_valid(why.text, len, NULL));
            assert_in_range(len, WHY_BYTES - 4, WHY_BYTES - 1);
        }
    }
}

static void test_refuse__a_full_sentence_survives_uncut(void **state)
{
    char text[WHY_BYTES + 1];
    memset(text, 'y', sizeof text);
    text[WHY_BYTES - 1] = 0;
    struct why why;
    refuse(&why, STATUS_INVALID, "%s", text);
    assert_string_equal(why.text, text);
    text[WHY_BYTES - 1] = 'y';
    text[WHY_BYTES] = 0;
    refuse(&why, STATUS_INVALID, "%s", text);
    assert_int_equal(strlen(why.text), WHY_BYTES - 1);
}

static void test_refuse__bytes_of_strangers_become_valid_text(void **state)
{
    struct why why;
    refuse(&why, STATUS_INVALID, "file \"%s\" is gone",
           "a\xff"
           "b\xe2\x82");
    assert_string_equal(why.text, "file \"a\uFFFD"
                                  "b\uFFFD\" is gone");

    char bad[WHY_BYTES];
    memset(bad, '\xff', sizeof bad);
    bad[sizeof bad - 1] = 0;
    refuse(&why, STATUS_INVALID, "%s", bad);
    assert_true(utf8_is_valid(why.text, strlen(why.text), NULL));
    assert_in_range(strlen(why.text), WHY_BYTES - 4, WHY_BYTES - 1);
}

static void test_refuse_prefix__puts_words_in_front(void **state)
{
    struct why why;
    refuse(&why, STATUS_CORRUPT, "bad magic");
    assert_int_equal(refuse_prefix(&why, STATUS_CORRUPT, "m.gguf at %d", 4), STATUS_CORRUPT);
    assert_string_equal(why.text, "m.gguf at 4: bad magic");
    why.text[0] = 0;
    refuse_prefix(&why, STATUS_CORRUPT, "m.gguf");
    assert_string_equal(why.text, "m.gguf");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status__every_code_has_its_own_value_text_and_grpc_code),
        cmocka_unit_test(test_status__a_stranger_is_unknown),
        cmocka_unit_test(test_refuse__writes_the_sentence_and_returns_the_status),
        cmocka_unit_test(test_refuse__may_quote_the_sentence_that_it_replaces),
        cmocka_unit_test(test_refuse__never_cuts_inside_a_character),
        cmocka_unit_test(test_refuse__a_full_sentence_survives_uncut),
        cmocka_unit_test(test_refuse__bytes_of_strangers_become_valid_text),
        cmocka_unit_test(test_refuse_prefix__puts_words_in_front),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
