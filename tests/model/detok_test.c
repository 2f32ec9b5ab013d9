#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "model/detok.h"
#include "tests/model/vocabulary_fixture.h"

enum { LONG_TOKEN_BYTES = 900 }; /* over three chunks of detok_push */

static void assert_push(struct detok *detok, uint32_t id, const char *shown)
{
    uint8_t out[64];
    assert_true(detok_bound(detok->vocabulary, id) <= sizeof out);
    size_t n = detok_push(detok, id, out);
    assert_int_equal(n, strlen(shown));
    assert_memory_equal(out, shown, n);
}

static void test_detok__never_shows_a_part_of_a_character(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    struct detok detok;
    uint8_t out[DETOK_FLUSH_BYTES];
    detok_init(&detok, vocabulary, false, true);
    assert_push(&detok, 'x', "x");
    assert_push(&detok, 0xE4, "");
    assert_push(&detok, 0xBD, "");
    assert_push(&detok, 0xA0, "\xE4\xBD\xA0");
    assert_push(&detok, 0xF0, "");
    assert_push(&detok, 0x9F, "");
    assert_push(&detok, 0x98, "");
    assert_push(&detok, 0x80, "\xF0\x9F\x98\x80");
    assert_int_equal(detok_flush(&detok, out), 0);
    vocabulary_free(vocabulary);
}

static void test_detok__what_cannot_become_a_character_is_replaced_at_once(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    struct detok detok;
    uint8_t out[DETOK_FLUSH_BYTES];
    detok_init(&detok, vocabulary, false, true);
    assert_push(&detok, 0xE4, "");
    assert_push(&detok, 'x', "\xEF\xBF\xBDx");
    assert_push(&detok, 0xFF, "\xEF\xBF\xBD");
    assert_push(&detok, 0x80, "\xEF\xBF\xBD");
    assert_push(&detok, 0xED, "");
    assert_push(&detok, 0xA0, "\xEF\xBF\xBD\xEF\xBF\xBD"); /* a surrogate: two maximal parts */
    assert_push(&detok, 0xF0, "");
    assert_push(&detok, 0x9F, "");
    assert_int_equal(detok_flush(&detok, out), 3);
    assert_memory_equal(out, "\xEF\xBF\xBD", 3);
    assert_push(&detok, 'y', "y"); /* anew */
    vocabulary_free(vocabulary);
}

static void test_detok__control_tokens_show_only_when_asked_for(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    struct detok detok;
    detok_init(&detok, vocabulary, false, true);
    assert_push(&detok, FIXTURE_IM_END, "");
    assert_push(&detok, FIXTURE_TOOL, "<tool>");
    detok_init(&detok, vocabulary, true, true);
    assert_push(&detok, FIXTURE_IM_END, "<|im_end|>");
    vocabulary_free(vocabulary);
}

/* Random bytes, most of them from pieces of real characters, so that cuts fall everywhere. */
static void test_detok__all_pushes_joined_are_the_repaired_bytes(void **state)
{
    static const uint8_t likely[] = {0xC3, 0xA9, 0xE4, 0xBD, 0xA0, 0xF0,
                                     0x9F, 0x98, 0x80, 0xED, 'a'};
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    uint64_t seed = 31;
    for (int round = 0; round < 2000; round++) {
        uint32_t ids[100];
        uint8_t raw[100], wanted[300], *whole, got[400];
        size_t n = random_below(&seed, 100), n_got = 0, n_whole;
        for (size_t i = 0; i < n; i++) {
            raw[i] = random_below(&seed, 3) == 0 ? (uint8_t)random_next(&seed)
                                                 : likely[random_below(&seed, sizeof likely)];
            ids[i] = raw[i];
        }
        size_t n_wanted = utf8_repair(raw, n, wanted, NULL);

        struct detok detok;
        detok_init(&detok, vocabulary, false, true);
        for (size_t i = 0; i < n; i++) {
            size_t n_pushed = detok_push(&detok, ids[i], got + n_got);
            assert_true(n_pushed <= detok_bound(vocabulary, ids[i]));
            n_got += n_pushed;
            assert_true(utf8_is_valid(got, n_got, NULL));
        }
        n_got += detok_flush(&detok, got + n_got);
        assert_int_equal(n_got, n_wanted);
        assert_memory_equal(got, wanted, n_wanted);

        assert_int_equal(detok_all(vocabulary, ids, n, false, 300, &whole, &n_whole, NULL),
                         STATUS_OK);
        assert_int_equal(n_whole, n_wanted);
        assert_memory_equal(whole, wanted, n_wanted);
        free(whole);
    }
    vocabulary_free(vocabulary);
}

static void test_detok__a_token_longer_than_a_chunk_comes_whole(void **state)
{
    char text[LONG_TOKEN_BYTES + 1];
    for (size_t i = 0; i < LONG_TOKEN_BYTES; i += 3)
        memcpy(text + i, "\xE4\xBD\xA0", 3); /* user-defined: taken as it stands */
    text[LONG_TOKEN_BYTES] = '\0';
    struct source_fixture *fixture = source_fixture_create("gpt-2");
    uint32_t id = source_fixture_token(fixture, text, TOKEN_USER_DEFINED);
    struct vocabulary *vocabulary;
    assert_int_equal(vocabulary_create(&fixture->source, &vocabulary, NULL), STATUS_OK);
    struct detok detok;
    uint8_t out[3 * (LONG_TOKEN_BYTES + 3)];
    detok_init(&detok, vocabulary, false, true);
    assert_int_equal(detok_bound(vocabulary, id), sizeof out);
    assert_int_equal(detok_push(&detok, id, out), LONG_TOKEN_BYTES);
    assert_memory_equal(out, text, LONG_TOKEN_BYTES);
    vocabulary_free(vocabulary);
    free(fixture);
}

static void test_detok__a_list_is_refused_beyond_vocabulary_or_cap(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    struct why why = {.text = ""};
    uint8_t *out;
    size_t len;
    uint32_t ids[] = {'a', 'b', 304};
    assert_int_equal(detok_all(vocabulary, ids, 3, false, 100, &out, &len, &why), STATUS_INVALID);
    assert_string_equal(why.text,
                        "token id 304 at index 2 is not below 304, the size of the vocabulary");
    assert_int_equal(detok_all(vocabulary, ids, 2, false, 1, &out, &len, &why), STATUS_TOO_LARGE);
    assert_int_equal(detok_all(vocabulary, ids, 2, false, 2, &out, &len, &why), STATUS_OK);
    assert_int_equal(len, 2);
    free(out);
    assert_int_equal(detok_all(vocabulary, NULL, 0, false, 0, &out, &len, &why), STATUS_OK);
    assert_int_equal(len, 0);
    free(out);
    vocabulary_free(vocabulary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_detok__never_shows_a_part_of_a_character),
        cmocka_unit_test(test_detok__what_cannot_become_a_character_is_replaced_at_once),
        cmocka_unit_test(test_detok__control_tokens_show_only_when_asked_for),
        cmocka_unit_test(test_detok__all_pushes_joined_are_the_repaired_bytes),
        cmocka_unit_test(test_detok__a_token_longer_than_a_chunk_comes_whole),
        cmocka_unit_test(test_detok__a_list_is_refused_beyond_vocabulary_or_cap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
