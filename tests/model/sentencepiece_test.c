#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/detok.h"
#include "model/merge_table.h"
#include "model/neighbours.h"
#include "model/pretokenizer.h"
#include "model/token_stream.h"
#include "model/tokenizer.h"
#include "model/vocabulary_gguf.h"
#include "tests/model/gguf_fixture.h"
#include "tests/model/vocabulary_fixture.h"

enum { TEXT_BYTES = 4096 };

static struct vocabulary *create(struct source_fixture *fixture)
{
    struct vocabulary *vocabulary = NULL;
    struct why why = {.text = ""};
    if (vocabulary_create(&fixture->source, &vocabulary, &why) < 0)
        fail_msg("%s", why.text);
    free(fixture);
    return vocabulary;
}

static struct vocabulary *small_pieces(void)
{
    struct source_fixture *fixture = piece_fixture_create();
    piece_fixture_fill(fixture);
    return create(fixture);
}

static struct token_buffer encode(const struct vocabulary *vocabulary, struct slice text)
{
    struct token_buffer out;
    struct why why = {.text = ""};
    token_buffer_init(&out, 1u << 24, true);
    if (tokenizer_encode(vocabulary, text, false, true, &out, &why) < 0)
        fail_msg("%s", why.text);
    return out;
}

/* The tokens' texts with | between them; tokens of bytes as <0xHH>, special ones by their name. */
static void assert_pieces(const struct vocabulary *vocabulary, const char *text, const char *wanted)
{
    char got[512] = "";
    size_t n = 0;
    struct token_buffer tokens = encode(vocabulary, slice_from(text));
    for (size_t i = 0; i < tokens.n; i++) {
        uint32_t id = tokens.ids[i];
        struct slice bytes = vocabulary_bytes(vocabulary, id);
        bool is_byte = id >= PIECE_FIRST_BYTE && id < PIECE_FIRST;
        n += (size_t)snprintf(got + n, sizeof got - n, "%s", i > 0 ? "|" : "");
        if (is_byte)
            n += (size_t)snprintf(got + n, sizeof got - n, "<0x%02X>", id - PIECE_FIRST_BYTE);
        else
            n += (size_t)snprintf(got + n, sizeof got - n, "%.*s", (int)bytes.len, bytes.bytes);
    }
    assert_string_equal(got, wanted);
    token_buffer_release(&tokens);
}

static void test_sentencepiece__the_highest_score_merges_first(void **state)
{
    struct source_fixture *fixture = piece_fixture_create();
    static const char *const single[] = {"▁", "a", "b", "c"};
    for (int i = 0; i < 4; i++)
        piece_fixture_token(fixture, single[i], TOKEN_NORMAL, -100 - i);
    piece_fixture_token(fixture, "ab", TOKEN_NORMAL, -3);
    piece_fixture_token(fixture, "bc", TOKEN_NORMAL, -2);
    piece_fixture_token(fixture, "ca", TOKEN_NORMAL, -2);  /* the same score: leftmost first */
    piece_fixture_token(fixture, "abc", TOKEN_NORMAL, -1); /* of ab and c, or of a and bc */
    struct vocabulary *vocabulary = create(fixture);
    assert_pieces(vocabulary, "ab", " |ab");
    assert_pieces(vocabulary, "abca", " |abc|a");
    assert_pieces(vocabulary, "bca", " |bc|a");
    assert_pieces(vocabulary, "cabc", " |ca|bc");
    vocabulary_free(vocabulary);
}

static void test_sentencepiece__a_blank_stands_before_text_and_behind_special_tokens(void **state)
{
    struct vocabulary *vocabulary = small_pieces();
    assert_pieces(vocabulary, "hello the", " hello| the");
    assert_pieces(vocabulary, " hello", "  |hell|o");
    assert_pieces(vocabulary, "", "");
    assert_pieces(vocabulary, "the<tool>the<s>the", " the|<tool>| the|<s>| the");
    assert_pieces(vocabulary, "<tool> the", "<tool>| | the");
    assert_pieces(vocabulary, "x▁the", " |x| the"); /* U+2581 is a blank */
    vocabulary_free(vocabulary);

    struct source_fixture *fixture = piece_fixture_create();
    piece_fixture_fill(fixture);
    fixture->source.add_space_prefix = 0;
    vocabulary = create(fixture);
    assert_pieces(vocabulary, "hello the<tool>the", "hell|o| the|<tool>|t|he");
    vocabulary_free(vocabulary);
}

static void test_sentencepiece__what_is_no_token_is_written_in_bytes(void **state)
{
    struct vocabulary *vocabulary = small_pieces();
    assert_pieces(vocabulary, "é\n好你好", " |é|<0x0A>|好|你好");
    assert_pieces(vocabulary, "\xC3\xB1", " |<0xC3>|<0xB1>");
    vocabulary_free(vocabulary);

    struct source_fixture *fixture = piece_fixture_create();
    piece_fixture_fill(fixture);
    fixture->types[PIECE_FIRST_BYTE + 0xB1] = TOKEN_NORMAL;
    vocabulary =
        create(fixture); /* of a character whose bytes are not all there, none is written */
    assert_pieces(vocabulary, "\xC3\xB1\xC3\xB2", " |<unk>|<0xC3>|<0xB2>");
    assert_true(vocabulary_says_byte(vocabulary, 0xB1));
    vocabulary_free(vocabulary);
}

static void test_sentencepiece__spans_cover_the_text_without_the_blank_before_it(void **state)
{
    struct vocabulary *vocabulary = small_pieces();
    struct token_buffer got = encode(vocabulary, slice_from("hello x<tool>1"));
    static const uint64_t ends[] = {5, 6, 7, 13, 13, 14}; /* of hello, blank, x, <tool>, blank, 1 */
    assert_int_equal(got.n, 6);
    for (size_t i = 0; i < got.n; i++) {
        assert_int_equal(got.spans[i].begin, i == 0 ? 0 : ends[i - 1]);
        assert_int_equal(got.spans[i].end, ends[i]);
    }
    token_buffer_release(&got);
    vocabulary_free(vocabulary);
}

static void assert_text(const struct vocabulary *vocabulary, const uint32_t *ids, size_t n,
                        bool shows_control, const char *wanted)
{
    uint8_t *text;
    size_t len;
    assert_int_equal(detok_all(vocabulary, ids, n, shows_control, 100, &text, &len, NULL),
                     STATUS_OK);
    assert_int_equal(len, strlen(wanted));
    assert_memory_equal(text, wanted, len);
    free(text);
}

static void test_sentencepiece__a_text_shows_without_the_blank_that_was_put_before_it(void **state)
{
    struct vocabulary *vocabulary = small_pieces();
    uint32_t the;
    assert_true(vocabulary_find_plain(vocabulary, slice_from(" the"), &the));
    assert_text(vocabulary, (uint32_t[]){the, the}, 2, false, "the the");
    assert_text(vocabulary, (uint32_t[]){PIECE_BOS, the}, 2, false, "the");
    assert_text(vocabulary, (uint32_t[]){PIECE_BOS, the}, 2, true, "<s> the");
    assert_text(vocabulary, (uint32_t[]){PIECE_FIRST_BYTE + 0xC3, PIECE_FIRST_BYTE + 0xB1, the}, 3,
                false, "\xC3\xB1 the");

    struct detok detok;
    uint8_t out[64];
    detok_init(&detok, vocabulary, false, false); /* goes on where a text stopped */
    assert_int_equal(detok_push(&detok, the, out), 4);
    vocabulary_free(vocabulary);
}

/* --- the written rule --- */

/* Merges the whole text, blanks and all, pair by pair: no pieces, no tables. */
static size_t encode_naively(const struct source_fixture *fixture,
                             const struct vocabulary *vocabulary, struct slice text, uint32_t *ids)
{
    struct slice symbols[TEXT_BYTES];
    size_t n = 0;
    for (size_t at = 0; at < text.len; n++) {
        size_t len = 1;
        while (at + len < text.len && (text.bytes[at + len] & 0xC0) == 0x80)
            len++;
        symbols[n] = slice_of(text.bytes + at, len);
        at += len;
    }
    for (;;) {
        size_t best = SIZE_MAX;
        double highest = -INFINITY;
        uint32_t id;
        for (size_t i = 0; i + 1 < n; i++) {
            struct slice both = slice_of(symbols[i].bytes, symbols[i].len + symbols[i + 1].len);
            if (vocabulary_find_plain(vocabulary, both, &id) && fixture->scores[id] > highest) {
                highest = fixture->scores[id];
                best = i;
            }
        }
        if (best == SIZE_MAX)
            break;
        symbols[best].len += symbols[best + 1].len;
        memmove(&symbols[best + 1], &symbols[best + 2], (n - best - 2) * sizeof *symbols);
        n--;
    }
    size_t n_ids = 0;
    for (size_t i = 0; i < n; i++) {
        if (vocabulary_find_plain(vocabulary, symbols[i], &ids[n_ids])) {
            n_ids++;
            continue;
        }
        for (size_t j = 0; j < symbols[i].len; j++)
            ids[n_ids++] = PIECE_FIRST_BYTE + symbols[i].bytes[j];
    }
    return n_ids;
}

/* Random pieces over a few characters, blanks within them too, many of one score. */
static struct source_fixture *random_pieces(uint64_t *seed)
{
    static const char *const letters[] = {"▁", "a", "b", "c", "é", "好"};
    struct source_fixture *fixture = piece_fixture_create();
    for (int i = 0; i < 6; i++)
        piece_fixture_token(fixture, letters[i], TOKEN_NORMAL, -50);
    for (int i = 0; i < 60; i++) {
        char text[128] = "";
        for (int side = 0; side < 2; side++) {
            uint32_t n_made = fixture->source.n_tokens - PIECE_FIRST;
            struct slice part = fixture->tokens[PIECE_FIRST + random_below(seed, n_made)];
            if (part.len <= 40)
                strncat(text, (const char *)part.bytes, part.len);
        }
        if (text[0] != '\0')
            piece_fixture_token(fixture, text, TOKEN_NORMAL, -(double)random_below(seed, 25));
    }
    return fixture;
}

static void test_sentencepiece__pieces_and_tables_follow_the_written_rule(void **state)
{
    static const char *const letters[] = {" ", "a", "b", "c", "é", "好", "x", "ñ"};
    uint64_t seed = 71;
    for (int round = 0; round < 200; round++) {
        struct source_fixture *fixture = random_pieces(&seed);
        struct vocabulary *vocabulary;
        assert_int_equal(vocabulary_create(&fixture->source, &vocabulary, NULL), STATUS_OK);
        for (int i = 0; i < 20; i++) {
            char text[TEXT_BYTES] = " ";
            uint32_t wanted[TEXT_BYTES];
            size_t n_letters = 1 + random_below(&seed, 120);
            for (size_t j = 0; j < n_letters; j++)
                strcat(text, letters[random_below(&seed, random_below(&seed, 9) == 0 ? 8 : 6)]);
            size_t n = encode_naively(fixture, vocabulary, slice_from(text), wanted);
            struct token_buffer got = encode(vocabulary, slice_from(text + 1));
            assert_int_equal(got.n, n);
            assert_memory_equal(got.ids, wanted, n * sizeof *wanted);
            token_buffer_release(&got);
        }
        vocabulary_free(vocabulary);
        free(fixture);
    }
}

/* --- streams and long texts --- */

static void assert_streams(const struct vocabulary *vocabulary, struct slice text, uint64_t *seed,
                           uint32_t packet_max)
{
    struct token_buffer whole = encode(vocabulary, text), got;
    struct token_stream *stream;
    token_buffer_init(&got, 1u << 24, true);
    assert_int_equal(token_stream_create(vocabulary, false, true, &stream, NULL), STATUS_OK);
    for (size_t at = 0, n; at < text.len; at += n) {
        n = 1 + random_below(seed, packet_max);
        n = n < text.len - at ? n : text.len - at;
        assert_int_equal(token_stream_feed(stream, slice_of(text.bytes + at, n), &got, NULL),
                         STATUS_OK);
    }
    assert_int_equal(token_stream_finish(stream, &got, NULL), STATUS_OK);
    assert_int_equal(got.n, whole.n);
    assert_memory_equal(got.ids, whole.ids, whole.n * sizeof *whole.ids);
    assert_memory_equal(got.spans, whole.spans, whole.n * sizeof *whole.spans);
    token_stream_free(stream);
    token_buffer_release(&whole);
    token_buffer_release(&got);
}

static void test_sentencepiece__any_packets_give_the_ids_of_the_whole_text(void **state)
{
    struct vocabulary *vocabulary = small_pieces();
    uint64_t seed = 72;
    uint8_t *text = malloc(16 * 3000);
    for (int round = 0; round < 40; round++) {
        size_t len = 1 + random_text(&seed, random_below(&seed, 3000), text + 1);
        text[0] = 'h';
        assert_streams(vocabulary, slice_of(text, len), &seed, round % 2 == 0 ? 5 : 9000);
    }
    free(text);
    vocabulary_free(vocabulary);
}

/* Around the window, first and later: what is one piece, and what has borders everywhere. */
static void test_sentencepiece__long_runs_are_cut_where_the_whole_text_is(void **state)
{
    static const char *const runs[] = {"a", " ", "你好", "h", "\n"};
    struct vocabulary *vocabulary = small_pieces();
    uint64_t seed = 73;
    uint8_t *text = malloc(200000);
    for (size_t run = 0; run < sizeof runs / sizeof runs[0]; run++) {
        for (size_t n_before = 0; n_before < 4; n_before++) {
            size_t n_run = strlen(runs[run]), len = n_before;
            memset(text, 'x', n_before);
            size_t n_wanted = n_before % 2 == 0 ? 140000 : PIECE_WINDOW_BYTES - 2 + n_before;
            while (len < n_wanted) {
                memcpy(text + len, runs[run], n_run);
                len += n_run;
            }
            assert_streams(vocabulary, slice_of(text, len), &seed, 7000);
        }
    }
    free(text);
    vocabulary_free(vocabulary);
}

static void test_sentencepiece__a_million_of_one_character_is_no_trouble(void **state)
{
    static const char *const runs[] = {"a", " ", "▁", "\n", "你好", "1"};
    struct vocabulary *vocabulary = small_pieces();
    for (size_t run = 0; run < sizeof runs / sizeof runs[0]; run++) {
        size_t n_run = strlen(runs[run]), len = 1000000 / n_run * n_run, n_done;
        uint8_t *text = malloc(len);
        for (size_t at = 0; at < len; at += n_run)
            memcpy(text + at, runs[run], n_run);
        struct text_encoder encoder;
        struct token_buffer out;
        token_buffer_init(&out, len + 1, false);
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

/* --- files --- */

static void
test_sentencepiece__ids_and_additions_are_the_trainers_where_a_file_is_silent(void **state)
{
    struct vocabulary *vocabulary = small_pieces();
    assert_int_equal(vocabulary_bos_id(vocabulary), PIECE_BOS);
    assert_int_equal(vocabulary_eos_id(vocabulary), PIECE_EOS);
    assert_int_equal(vocabulary_unknown_id(vocabulary), PIECE_UNKNOWN);
    assert_true(vocabulary_adds_bos(vocabulary));
    assert_false(vocabulary_adds_eos(vocabulary));
    assert_true(vocabulary_adds_space_prefix(vocabulary));
    vocabulary_free(vocabulary);

    struct source_fixture *fixture = piece_fixture_create();
    fixture->source.bos_id = PIECE_EOS;
    fixture->source.add_bos = 0;
    fixture->source.add_eos = 1;
    vocabulary = create(fixture);
    assert_int_equal(vocabulary_bos_id(vocabulary), PIECE_EOS);
    assert_false(vocabulary_adds_bos(vocabulary));
    assert_true(vocabulary_adds_eos(vocabulary));
    vocabulary_free(vocabulary);
}

static void test_sentencepiece__unused_tokens_are_never_made(void **state)
{
    struct source_fixture *fixture = piece_fixture_create();
    piece_fixture_fill(fixture);
    piece_fixture_token(fixture, "in1", TOKEN_UNUSED, 10);
    struct vocabulary *vocabulary = create(fixture);
    assert_pieces(vocabulary, "in1", " |in|1");
    vocabulary_free(vocabulary);
}

static void assert_refused(struct source_fixture *fixture, const char *sentence)
{
    struct vocabulary *vocabulary = NULL;
    struct why why = {.text = ""};
    assert_int_equal(vocabulary_create(&fixture->source, &vocabulary, &why), STATUS_CORRUPT);
    assert_null(vocabulary);
    if (strstr(why.text, sentence) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", why.text, sentence);
    free(fixture);
}

static void test_sentencepiece__a_bad_file_is_refused_with_numbers(void **state)
{
    struct source_fixture *fixture = piece_fixture_create();
    fixture->source.scores = NULL;
    assert_refused(fixture, "tokenizer.ggml.scores is absent");

    fixture = piece_fixture_create();
    fixture->source.n_scores--;
    assert_refused(fixture, "tokenizer.ggml.scores has 258 entries for 259 tokens");

    fixture = piece_fixture_create();
    fixture->scores[7] = NAN;
    assert_refused(fixture, "tokenizer.ggml.scores of token 7 is not a number");

    fixture = piece_fixture_create();
    fixture->tokens[PIECE_FIRST_BYTE + 10] = slice_from("<0x0a>");
    assert_refused(fixture, "token 13 of tokenizer.ggml.tokens is a byte by its type, and its text "
                            "is <0x0a>, not <0x00> to <0xFF>");

    fixture = piece_fixture_create();
    fixture->types[PIECE_FIRST_BYTE + 10] = TOKEN_NORMAL;
    fixture->source.unknown_id = UINT32_MAX; /* none */
    assert_refused(fixture, "byte 0x0A has no token <0x0A> among the 259");
}

static void test_sentencepiece__pieces_that_are_not_utf8_are_never_made(void **state)
{
    struct source_fixture *fixture = piece_fixture_create();
    piece_fixture_fill(fixture);
    piece_fixture_token(fixture, "\xE4\xBD", TOKEN_NORMAL, 1);
    piece_fixture_token(fixture, "a\xF0", TOKEN_NORMAL, 1);
    piece_fixture_token(fixture, "\xE2\x96", TOKEN_NORMAL, 1);
    struct vocabulary *vocabulary = create(fixture);
    assert_pieces(vocabulary, "a你好", " a|你好");
    vocabulary_free(vocabulary);
}

static void test_sentencepiece__scores_of_another_kind_are_refused(void **state)
{
    static const char *const tokens[] = {"<unk>", "<s>", "</s>", "▁", "a"};
    static const struct {
        uint32_t element;
        uint64_t n;
        int status;
        const char *sentence;
    } rows[] = {{GGUF_F32, 5, STATUS_OK, ""},
                {GGUF_I32, 5, STATUS_OK, ""},
                {GGUF_F32, 4, STATUS_CORRUPT, "has 4 entries for 5 tokens"},
                {GGUF_U8, 5, STATUS_CORRUPT, "scores is not an array of 32-bit numbers"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct gguf_writer writer;
        uint8_t list[12 + 5 * 4] = {0};
        struct gguf *file;
        struct vocabulary *vocabulary = NULL;
        struct why why = {.text = ""};
        memcpy(list, &rows[i].element, 4);
        memcpy(list + 4, &rows[i].n, 8);
        gguf_writer_init(&writer);
        gguf_add_string(&writer, "tokenizer.ggml.model", "llama");
        gguf_add_strings(&writer, "tokenizer.ggml.tokens", tokens, 5);
        gguf_add_raw(&writer, "tokenizer.ggml.scores", GGUF_ARRAY, list,
                     12 + rows[i].n * (rows[i].element == GGUF_U8 ? 1 : 4));
        assert_int_equal(gguf_open_written(&writer, &file, &why), STATUS_OK);
        assert_int_equal(vocabulary_gguf_read(file, &vocabulary, &why), rows[i].status);
        assert_non_null(strstr(why.text, rows[i].sentence));
        vocabulary_free(vocabulary);
        gguf_close(file);
        gguf_writer_release(&writer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sentencepiece__the_highest_score_merges_first),
        cmocka_unit_test(test_sentencepiece__a_blank_stands_before_text_and_behind_special_tokens),
        cmocka_unit_test(test_sentencepiece__what_is_no_token_is_written_in_bytes),
        cmocka_unit_test(test_sentencepiece__spans_cover_the_text_without_the_blank_before_it),
        cmocka_unit_test(test_sentencepiece__a_text_shows_without_the_blank_that_was_put_before_it),
        cmocka_unit_test(test_sentencepiece__pieces_and_tables_follow_the_written_rule),
        cmocka_unit_test(test_sentencepiece__any_packets_give_the_ids_of_the_whole_text),
        cmocka_unit_test(test_sentencepiece__long_runs_are_cut_where_the_whole_text_is),
        cmocka_unit_test(test_sentencepiece__a_million_of_one_character_is_no_trouble),
        cmocka_unit_test(
            test_sentencepiece__ids_and_additions_are_the_trainers_where_a_file_is_silent),
        cmocka_unit_test(test_sentencepiece__unused_tokens_are_never_made),
        cmocka_unit_test(test_sentencepiece__a_bad_file_is_refused_with_numbers),
        cmocka_unit_test(test_sentencepiece__pieces_that_are_not_utf8_are_never_made),
        cmocka_unit_test(test_sentencepiece__scores_of_another_kind_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
