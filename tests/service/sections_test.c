/* Where documents are cut: the order of the rules, and that nothing is lost or parted. */
#include "service/sections.h"

#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define DOCUMENT_BYTES 3000

static size_t cut(const char *text, size_t limit)
{
    return sections_cut(slice_from(text), limit);
}

static void test_sections__what_fits_is_not_cut(void **state)
{
    assert_int_equal(cut("One.\n\nTwo.", 10), 10);
    assert_int_equal(cut("One.\n\nTwo.", 11), 10);
    assert_int_equal(cut("x", 1), 1);
}

static void test_sections__a_blank_line_is_the_best_cut(void **state)
{
    const char *text = "Some words. A line\n\nand one\nmore. Then the rest of it.";
    assert_int_equal(cut(text, 34), 20); /* before line, sentence and word ends that come later */
}

static void test_sections__a_blank_line_may_hold_blanks_and_carriage_returns(void **state)
{
    assert_int_equal(cut("first part\r\n \t\r\nsecond part", 22), 16);
    assert_int_equal(cut("first part\n  \nsecond line here", 22), 14);
    assert_int_equal(cut("first part\r\rsecond line here", 22), 12);
}

static void test_sections__else_a_line_end(void **state)
{
    assert_int_equal(cut("Some words.\nA line. And then more words", 22), 12);
    assert_int_equal(cut("Some words\r\nin two lines of it", 20), 12);
}

static void test_sections__a_carriage_return_is_not_parted_from_its_newline(void **state)
{
    assert_int_equal(cut("aaaaaaaaa bbb\r\ncc", 14), 10);
    assert_int_equal(cut("aaaaaaaaa bbb\r\ncc", 15), 15);
}

static void test_sections__else_a_sentence_end(void **state)
{
    assert_int_equal(cut("It rains. We go (\"home.\") now and then", 34), 26);
    assert_int_equal(cut("Is it 3.14 or so? Nobody knows that one", 30), 18);
    assert_int_equal(cut("\xe9\x9b\xa8\xe3\x80\x82\xe9\x9b\xa8\xe9\x9b\xa8", 10), 6);
}

static void test_sections__else_a_word_end(void **state)
{
    assert_int_equal(cut("one two three four five", 17), 14);
    assert_int_equal(cut("one two  \t three", 12), 11);
}

static void test_sections__else_a_character(void **state)
{
    assert_int_equal(cut("aaaaaaaaaaaaaaaa", 7), 7);
    assert_int_equal(cut("\xc3\xa9\xc3\xa9\xc3\xa9", 5), 4);
    assert_int_equal(cut("\xf0\x9f\x98\x80\xf0\x9f\x98\x80", 7), 4);
}

static void test_sections__a_character_longer_than_the_limit_is_taken_whole(void **state)
{
    assert_int_equal(cut("\xf0\x9f\x98\x80\xf0\x9f\x98\x80", 3), 4);
    assert_int_equal(cut("\xf0\x9f\x98\x80\xf0\x9f\x98\x80", 0), 4);
    assert_int_equal(cut("\xe2\x82 and more", 1), 2); /* one invalid sequence: one U+FFFD */
}

static void test_sections__a_good_cut_in_the_first_half_is_too_early(void **state)
{
    assert_int_equal(cut("a\n\nbbbbbbbbbbbbbbbbbbbbbbb", 20), 20);
}

/* --- what must hold for any text --- */

static uint32_t seed;

static uint32_t draw(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

static size_t random_document(uint8_t out[DOCUMENT_BYTES])
{
    static const char *const parts[] = {
        "word ", "Sentence. ", "\n", "\n\n", "\r\n", " ",   "\xc3\xa9",     "\xe2\x82\xac",
        "longer-word-without-blanks", "\xf0\x9f\x98\x80",   "\xe3\x80\x82", "\t",
        "\xff", "\x80", "\xe2\x82",   "\xf0\x9f", "\xed\xa0\x80", "x", "Yes! ", "No? "};
    size_t len = 0;
    size_t end = 1 + draw(DOCUMENT_BYTES - 32);
    while (len < end) {
        const char *part = parts[draw(sizeof parts / sizeof parts[0])];
        memcpy(out + len, part, strlen(part));
        len += strlen(part);
    }
    return len;
}

static void test_sections__random_documents_are_covered_and_repaired_alike(void **state)
{
    static uint8_t document[DOCUMENT_BYTES], whole[3 * DOCUMENT_BYTES], parts[3 * DOCUMENT_BYTES];
    for (seed = 1; seed < 3000; seed += 7) {
        uint32_t kept = seed;
        size_t len = random_document(document);
        size_t limit = 1 + draw(200);
        size_t n_whole, n_parts = 0, to = 0, n;
        size_t whole_len = utf8_repair(document, len, whole, &n_whole);

        for (size_t at = 0; at < len;) {
            struct slice rest = slice_of(document + at, len - at);
            size_t taken = sections_cut(rest, limit);
            assert_in_range(taken, 1, limit < 4 ? 4 : limit);
            to += utf8_repair(rest.bytes, taken, parts + to, &n);
            n_parts += n;
            at += taken;
            assert_true(at <= len);
        }
        assert_int_equal(to, whole_len);
        assert_memory_equal(parts, whole, whole_len);
        assert_int_equal(n_parts, n_whole);
        seed = kept;
    }
}

static void test_sections__a_repaired_place_is_found_in_the_original(void **state)
{
    static uint8_t document[DOCUMENT_BYTES], whole[3 * DOCUMENT_BYTES], part[3 * DOCUMENT_BYTES];
    for (seed = 1; seed < 600; seed += 7) {
        uint32_t kept = seed;
        size_t len = random_document(document);
        size_t whole_len = utf8_repair(document, len, whole, NULL);
        for (size_t repaired = 0; repaired <= whole_len; repaired++) {
            size_t at = sections_unrepaired(slice_of(document, len), repaired);
            size_t n = utf8_repair(document, at, part, NULL);
            assert_true(at <= len && n <= repaired && repaired - n < 4);
            assert_memory_equal(part, whole, n); /* a border: both parts repair alone */
        }
        assert_int_equal(sections_unrepaired(slice_of(document, len), whole_len), len);
        seed = kept;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sections__what_fits_is_not_cut),
        cmocka_unit_test(test_sections__a_blank_line_is_the_best_cut),
        cmocka_unit_test(test_sections__a_blank_line_may_hold_blanks_and_carriage_returns),
        cmocka_unit_test(test_sections__else_a_line_end),
        cmocka_unit_test(test_sections__a_carriage_return_is_not_parted_from_its_newline),
        cmocka_unit_test(test_sections__else_a_sentence_end),
        cmocka_unit_test(test_sections__else_a_word_end),
        cmocka_unit_test(test_sections__else_a_character),
        cmocka_unit_test(test_sections__a_character_longer_than_the_limit_is_taken_whole),
        cmocka_unit_test(test_sections__a_good_cut_in_the_first_half_is_too_early),
        cmocka_unit_test(test_sections__random_documents_are_covered_and_repaired_alike),
        cmocka_unit_test(test_sections__a_repaired_place_is_found_in_the_original),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
