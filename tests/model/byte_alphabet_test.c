#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/utf8.h"
#include "model/byte_alphabet.h"

static void test_byte_alphabet__every_byte_comes_back(void **state)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t spelled[2], back[2];
        size_t n = byte_alphabet_encode((uint8_t)byte, spelled), n_back;
        assert_true(utf8_is_valid(spelled, n, NULL));
        assert_true(byte_alphabet_decode(slice_of(spelled, n), back, &n_back));
        assert_int_equal(n_back, 1);
        assert_int_equal(back[0], byte);
    }
}

static void test_byte_alphabet__spells_the_published_characters(void **state)
{
    static const struct {
        const char *spelled;
        uint8_t byte;
    } rows[] = {{"Ā", 0},   {"ĉ", 9},   {"Ċ", 10},  {"č", 13},  {"Ġ", 32},  {"!", 33},  {"~", 126},
                {"ġ", 127}, {"Ģ", 128}, {"ł", 160}, {"¡", 161}, {"Ń", 173}, {"®", 174}, {"ÿ", 255}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t back[4];
        size_t n;
        assert_true(byte_alphabet_decode(slice_from(rows[i].spelled), back, &n));
        assert_int_equal(n, 1);
        assert_int_equal(back[0], rows[i].byte);
    }
}

static void test_byte_alphabet__refuses_what_spells_no_byte(void **state)
{
    static const char *const strangers[] = {
        " ", "a b", "\n",   "\x7F",  "\xC2\xA0", "\xC2\xAD",        "ń",
        "Ő", "｜",  "\xC4", "\xC4z", "\x80",     "\xF0\x9F\x98\x80"};
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        uint8_t back[8];
        size_t n;
        assert_false(byte_alphabet_decode(slice_from(strangers[i]), back, &n));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_byte_alphabet__every_byte_comes_back),
        cmocka_unit_test(test_byte_alphabet__spells_the_published_characters),
        cmocka_unit_test(test_byte_alphabet__refuses_what_spells_no_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
