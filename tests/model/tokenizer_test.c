#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "model/detok.h"
#include "model/pretokenizer.h"
#include "model/tokenizer.h"
#include "tests/model/vocabulary_fixture.h"
#include "tests/under_tsan.h"

static struct token_buffer encode(const struct vocabulary *vocabulary, struct slice text,
                                  bool add_special, bool parse_special)
{
    struct token_buffer out;
    struct why why = {.text = ""};
    token_buffer_init(&out, 1u << 24, true);
    if (tokenizer_encode(vocabulary, text, add_special, parse_special, &out, &why) < 0)
        fail_msg("%s", why.text);
    return out;
}

static void assert_ids(struct token_buffer *got, const uint32_t *wanted, size_t n)
{
    assert_int_equal(got->n, n);
    assert_memory_equal(got->ids, wanted, n * sizeof *wanted);
    token_buffer_release(got);
}

static void test_tokenizer__control_tokens_are_text_unless_parsed(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    struct slice text = slice_from("a<|im_end|>b");
    struct token_buffer got = encode(vocabulary, text, false, true);
    assert_ids(&got, (uint32_t[]){'a', FIXTURE_IM_END, 'b'}, 3);

    got = encode(vocabulary, text, false, false);
    for (size_t i = 0; i < got.n; i++)
        assert_false(vocabulary_is_control(vocabulary, got.ids[i]));
    token_buffer_release(&got);
    vocabulary_free(vocabulary);
}

static void test_tokenizer__user_defined_tokens_are_always_found(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("qwen2");
    struct token_buffer got =
        encode(vocabulary, slice_from("<tool>bo<tool>box<tool"), false, false);
    assert_ids(&got,
               (uint32_t[]){FIXTURE_TOOL, 'b', 'o', FIXTURE_TOOL_BOX, '<', 't', 'o', 'o', 'l'}, 9);
    vocabulary_free(vocabulary);
}

static void test_tokenizer__a_special_token_ends_the_text_before_it(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("gpt-2");
    uint32_t two_blanks;
    assert_true(vocabulary_find_plain(vocabulary, slice_from("  "), &two_blanks));
    /* before a letter the second blank would join it; at an end of text both stay together */
    struct token_buffer got = encode(vocabulary, slice_from("x  <tool>  x"), false, false);
    assert_ids(&got, (uint32_t[]){'x', two_blanks, FIXTURE_TOOL, ' ', ' ', 'x'}, 6);
    vocabulary_free(vocabulary);
}

static void test_tokenizer__bos_and_eos_stand_where_the_vocabulary_asks_for_them(void **state)
{
    struct source_fixture *fixture = source_fixture_create("llama-bpe");
    source_fixture_fill(fixture);
    fixture->source.add_bos = fixture->source.add_eos = 1;
    struct vocabulary *vocabulary;
    assert_int_equal(vocabulary_create(&fixture->source, &vocabulary, NULL), STATUS_OK);
    free(fixture);
    struct token_buffer got = encode(vocabulary, slice_from("x"), true, false);
    assert_int_equal(got.spans[0].end, 0);
    assert_int_equal(got.spans[2].begin, 1);
    assert_ids(&got, (uint32_t[]){FIXTURE_IM_START, 'x', FIXTURE_END_OF_TEXT}, 3);
    got = encode(vocabulary, slice_from(""), true, false);
    assert_ids(&got, (uint32_t[]){FIXTURE_IM_START, FIXTURE_END_OF_TEXT}, 2);
    got = encode(vocabulary, slice_from("x"), false, false);
    assert_ids(&got, (uint32_t[]){'x'}, 1);
    vocabulary_free(vocabulary);
}

static void test_tokenizer__spans_cover_the_text_and_name_each_tokens_bytes(void **state)
{
    uint64_t seed = 5;
    for (int family = 0; family < FIXTURE_FAMILIES; family++) {
        struct vocabulary *vocabulary = small_vocabulary(fixture_families[family]);
        for (int round = 0; round < 300; round++) {
            uint8_t text[16 * 60];
            size_t len = random_text(&seed, random_below(&seed, 60), text), at = 0;
            struct token_buffer got =
                encode(vocabulary, slice_of(text, len), false, round % 2 == 0);
            for (size_t i = 0; i < got.n; i++) {
                struct slice bytes = vocabulary_bytes(vocabulary, got.ids[i]);
                assert_int_equal(got.spans[i].begin, at);
                assert_int_equal(got.spans[i].end, at + bytes.len);
                assert_memory_equal(text + at, bytes.bytes, bytes.len);
                at += bytes.len;
            }
            assert_int_equal(at, len);
            token_buffer_release(&got);
        }
        vocabulary_free(vocabulary);
    }
}

static void test_tokenizer__detok_gives_the_text_back(void **state)
{
    uint64_t seed = 6;
    for (int family = 0; family < FIXTURE_FAMILIES; family++) {
        struct vocabulary *vocabulary = small_vocabulary(fixture_families[family]);
        for (int round = 0; round < 300; round++) {
            uint8_t text[16 * 60], *back;
            size_t len = random_text(&seed, random_below(&seed, 60), text), n_back;
            struct token_buffer got = encode(vocabulary, slice_of(text, len), false, true);
            assert_int_equal(
                detok_all(vocabulary, got.ids, got.n, true, 1 << 20, &back, &n_back, NULL),
                STATUS_OK);
            assert_int_equal(n_back, len);
            assert_memory_equal(back, text, len);
            free(back);
            token_buffer_release(&got);
        }
        vocabulary_free(vocabulary);
    }
}

static void test_tokenizer__what_is_not_utf8_is_refused_with_its_place(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    static const struct {
        const char *text;
        size_t len;
        const char *sentence;
    } rows[] = {{"ok \xF0\x9F\x99", 6, "byte 0xF0 at offset 3 of 6"},
                {"a\xFF"
                 "b",
                 3, "byte 0xFF at offset 1 of 3"},
                {"\xED\xA0\x80", 3, "byte 0xED at offset 0"},
                {"\xC0\x80", 2, "byte 0xC0 at offset 0"},
                {"\xC3(", 2, "offset 0 of 2"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct token_buffer out;
        struct why why = {.text = ""};
        token_buffer_init(&out, 100, false);
        assert_int_equal(tokenizer_encode(vocabulary, slice_of(rows[i].text, rows[i].len), true,
                                          true, &out, &why),
                         STATUS_INVALID);
        assert_non_null(strstr(why.text, rows[i].sentence));
        assert_int_equal(out.n, 0);
        token_buffer_release(&out);
    }
    vocabulary_free(vocabulary);
}

static void test_tokenizer__a_full_buffer_refuses_and_stays_as_it_was(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    struct token_buffer out;
    struct why why = {.text = ""};
    token_buffer_init(&out, 4, false);
    assert_int_equal(token_buffer_push(&out, 42, (struct token_span){0}, NULL), STATUS_OK);
    assert_int_equal(tokenizer_encode(vocabulary, slice_from("wxyz"), false, false, &out, &why),
                     STATUS_TOO_LARGE);
    assert_string_equal(
        why.text, "at byte 0 of the text: the text takes more than the 4 tokens allowed here");
    assert_int_equal(out.n, 1);
    assert_int_equal(tokenizer_encode(vocabulary, slice_from("wxy"), false, false, &out, &why),
                     STATUS_OK);
    assert_int_equal(out.n, 4);
    assert_int_equal(out.ids[0], 42);
    token_buffer_release(&out);
    vocabulary_free(vocabulary);
}

static void test_tokenizer__a_megabyte_of_one_character_is_no_trouble(void **state)
{
    SKIP_UNDER_TSAN();
    static const char *const characters[] = {"a", " ", "\n", "!", "1", "'", "\xE4\xBD\xA0", "<"};
    for (int family = 1; family < 3; family++) {
        struct vocabulary *vocabulary = small_vocabulary(fixture_families[family]);
        for (size_t c = 0; c < sizeof characters / sizeof characters[0]; c++) {
            size_t n_char = strlen(characters[c]), len = (1 << 20) / n_char * n_char;
            uint8_t *text = malloc(len);
            for (size_t at = 0; at < len; at += n_char)
                memcpy(text + at, characters[c], n_char);
            struct text_encoder encoder;
            struct token_buffer out;
            size_t n_done;
            token_buffer_init(&out, len, false);
            assert_int_equal(text_encoder_init(&encoder, vocabulary, true, NULL), STATUS_OK);
            assert_int_equal(
                text_encoder_advance(&encoder, slice_of(text, len), true, 0, &out, &n_done, NULL),
                STATUS_OK);
            assert_int_equal(n_done, len);
            assert_true(encoder.bpe.n_steps <= 2 * len);
            assert_true(encoder.bpe.capacity <= PIECE_WINDOW_BYTES);
            text_encoder_release(&encoder);
            token_buffer_release(&out);
            free(text);
        }
        vocabulary_free(vocabulary);
    }
}

struct reader {
    const struct vocabulary *vocabulary;
    const uint8_t *text;
    size_t len;
    struct token_buffer out;
    int status;
};

static void *read_often(void *arg)
{
    struct reader *reader = arg;
    for (int i = 0; i < 20; i++) {
        reader->out.n = 0;
        reader->status = tokenizer_encode(reader->vocabulary, slice_of(reader->text, reader->len),
                                          true, i % 2 == 1, &reader->out, NULL);
    }
    return NULL;
}

static void test_tokenizer__many_threads_read_one_vocabulary(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("llama-bpe");
    uint8_t text[16 * 300];
    uint64_t seed = 9;
    size_t len = random_text(&seed, 300, text);
    struct token_buffer wanted = encode(vocabulary, slice_of(text, len), true, true);
    struct reader readers[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        readers[i] = (struct reader){.vocabulary = vocabulary, .text = text, .len = len};
        token_buffer_init(&readers[i].out, 1 << 20, false);
        assert_int_equal(pthread_create(&threads[i], NULL, read_often, &readers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(readers[i].status, STATUS_OK);
        assert_ids(&readers[i].out, wanted.ids, wanted.n);
    }
    token_buffer_release(&wanted);
    vocabulary_free(vocabulary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokenizer__control_tokens_are_text_unless_parsed),
        cmocka_unit_test(test_tokenizer__user_defined_tokens_are_always_found),
        cmocka_unit_test(test_tokenizer__a_special_token_ends_the_text_before_it),
        cmocka_unit_test(test_tokenizer__bos_and_eos_stand_where_the_vocabulary_asks_for_them),
        cmocka_unit_test(test_tokenizer__spans_cover_the_text_and_name_each_tokens_bytes),
        cmocka_unit_test(test_tokenizer__detok_gives_the_text_back),
        cmocka_unit_test(test_tokenizer__what_is_not_utf8_is_refused_with_its_place),
        cmocka_unit_test(test_tokenizer__a_full_buffer_refuses_and_stays_as_it_was),
        cmocka_unit_test(test_tokenizer__a_megabyte_of_one_character_is_no_trouble),
        cmocka_unit_test(test_tokenizer__many_threads_read_one_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
