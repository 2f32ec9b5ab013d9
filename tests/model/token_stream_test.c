#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "model/token_stream.h"
#include "model/tokenizer.h"
#include "tests/model/vocabulary_fixture.h"

/* Feeds text in packets of 1..packet_max bytes and compares with the whole. */
static void assert_same(const struct vocabulary *vocabulary, const uint8_t *text, size_t len,
                        bool parse_special, uint64_t *seed, uint32_t packet_max)
{
    struct token_buffer whole, got;
    struct token_stream *stream;
    token_buffer_init(&whole, 1u << 24, true);
    token_buffer_init(&got, 1u << 24, true);
    assert_int_equal(
        tokenizer_encode(vocabulary, slice_of(text, len), true, parse_special, &whole, NULL),
        STATUS_OK);
    assert_int_equal(token_stream_create(vocabulary, true, parse_special, &stream, NULL),
                     STATUS_OK);
    for (size_t at = 0; at < len;) {
        size_t n = 1 + random_below(seed, packet_max);
        if (n > len - at)
            n = len - at;
        assert_int_equal(token_stream_feed(stream, slice_of(text + at, n), &got, NULL), STATUS_OK);
        at += n;
        assert_int_equal(token_stream_n_bytes(stream), at);
        assert_true(token_stream_n_done(stream) <= at);
        assert_true(at - token_stream_n_done(stream) <= TOKEN_STREAM_BYTES);
    }
    assert_int_equal(token_stream_finish(stream, &got, NULL), STATUS_OK);
    assert_int_equal(got.n, whole.n);
    if (whole.n > 0) {
        assert_memory_equal(got.ids, whole.ids, whole.n * sizeof *whole.ids);
        assert_memory_equal(got.spans, whole.spans, whole.n * sizeof *whole.spans);
    }
    token_stream_free(stream);
    token_buffer_release(&whole);
    token_buffer_release(&got);
}

static void test_token_stream__any_packets_give_the_ids_of_the_whole_text(void **state)
{
    uint64_t seed = 21;
    uint8_t *text = malloc(16 * 6000);
    for (int family = 0; family < FIXTURE_FAMILIES; family++) {
        struct vocabulary *vocabulary = small_vocabulary(fixture_families[family]);
        for (int round = 0; round < 30; round++) {
            size_t len = random_text(&seed, random_below(&seed, 3000), text);
            assert_same(vocabulary, text, len, round % 2 == 0, &seed, round % 3 == 0 ? 3 : 9000);
        }
        vocabulary_free(vocabulary);
    }
    free(text);
}

static void test_token_stream__byte_by_byte_and_all_at_once_agree(void **state)
{
    uint64_t seed = 22;
    uint8_t *text = malloc(16 * 16000);
    for (int family = 0; family < FIXTURE_FAMILIES; family++) {
        struct vocabulary *vocabulary = small_vocabulary(fixture_families[family]);
        size_t len = random_text(&seed, 16000, text);
        assert_same(vocabulary, text, len, true, &seed, 1);
        assert_same(vocabulary, text, len, true, &seed, UINT32_MAX);
        vocabulary_free(vocabulary);
    }
    free(text);
}

/* Longer than any window, with and without anything to cut at. */
static void test_token_stream__long_runs_are_cut_where_the_whole_text_is(void **state)
{
    static const char *const runs[] = {
        "a", " ", "\n", "!", "\xE4\xBD\xA0", "\xF0\x9F\x98\x80", "<tool", "\r\n "};
    uint64_t seed = 23;
    uint8_t *text = malloc(200000);
    for (int family = 0; family < FIXTURE_FAMILIES; family++) {
        struct vocabulary *vocabulary = small_vocabulary(fixture_families[family]);
        for (size_t run = (size_t)family % 2; run < sizeof runs / sizeof runs[0]; run += 2) {
            size_t n_run = strlen(runs[run]), len = 1 + random_below(&seed, 5);
            memset(text, 'x', len);
            while (len < 140000) {
                memcpy(text + len, runs[run], n_run);
                len += n_run;
            }
            len += random_text(&seed, 20, text + len);
            assert_same(vocabulary, text, len, true, &seed, 5000);
            assert_same(vocabulary, text, len, false, &seed, 140000);
        }
        vocabulary_free(vocabulary);
    }
    free(text);
}

static void test_token_stream__tokens_come_before_the_text_ends(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    struct token_stream *stream;
    struct token_buffer out;
    token_buffer_init(&out, 1 << 20, false);
    assert_int_equal(token_stream_create(vocabulary, false, false, &stream, NULL), STATUS_OK);
    for (int i = 0; i < 2000; i++)
        assert_int_equal(token_stream_feed(stream, slice_from("hello world "), &out, NULL),
                         STATUS_OK);
    assert_true(token_stream_n_bytes(stream) - token_stream_n_done(stream) < 8192);
    assert_true(out.n > 2000);
    token_stream_free(stream);
    token_buffer_release(&out);
    vocabulary_free(vocabulary);
}

static void test_token_stream__says_where_the_text_is_not_utf8(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    struct token_stream *stream;
    struct token_buffer out;
    struct why why = {.text = ""};
    uint8_t *good = malloc(100000);
    memset(good, 'a', 100000);
    token_buffer_init(&out, 1 << 20, false);
    assert_int_equal(token_stream_create(vocabulary, false, false, &stream, NULL), STATUS_OK);
    assert_int_equal(token_stream_feed(stream, slice_of(good, 100000), &out, &why), STATUS_OK);
    assert_int_equal(token_stream_feed(stream, slice_of("\xE4\xBD", 2), &out, &why), STATUS_OK);
    assert_int_equal(token_stream_feed(stream, slice_of("x", 1), &out, &why), STATUS_INVALID);
    assert_string_equal(why.text, "the text is not UTF-8: byte 0xE4 at offset 100000");
    token_stream_free(stream);

    assert_int_equal(token_stream_create(vocabulary, false, false, &stream, NULL), STATUS_OK);
    assert_int_equal(token_stream_feed(stream, slice_of("ab\xE4\xBD", 4), &out, &why), STATUS_OK);
    assert_int_equal(token_stream_finish(stream, &out, &why), STATUS_INVALID);
    assert_string_equal(why.text, "the text ends inside a UTF-8 character, at offset 2");
    token_stream_free(stream);
    token_buffer_release(&out);
    free(good);
    vocabulary_free(vocabulary);
}

static void test_token_stream__a_full_buffer_is_told(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    struct token_stream *stream;
    struct token_buffer out;
    struct why why = {.text = ""};
    token_buffer_init(&out, 100, false);
    assert_int_equal(token_stream_create(vocabulary, false, false, &stream, NULL), STATUS_OK);
    int status = STATUS_OK;
    for (int i = 0; i < 10000 && status == STATUS_OK; i++)
        status = token_stream_feed(stream, slice_from("12 "), &out, &why);
    assert_int_equal(status, STATUS_TOO_LARGE);
    assert_non_null(strstr(why.text, "more than the 100 tokens"));
    assert_int_equal(out.n, 100);
    token_stream_free(stream);
    token_buffer_release(&out);
    vocabulary_free(vocabulary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token_stream__any_packets_give_the_ids_of_the_whole_text),
        cmocka_unit_test(test_token_stream__byte_by_byte_and_all_at_once_agree),
        cmocka_unit_test(test_token_stream__long_runs_are_cut_where_the_whole_text_is),
        cmocka_unit_test(test_token_stream__tokens_come_before_the_text_ends),
        cmocka_unit_test(test_token_stream__says_where_the_text_is_not_utf8),
        cmocka_unit_test(test_token_stream__a_full_buffer_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
