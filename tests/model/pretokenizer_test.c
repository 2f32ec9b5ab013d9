#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "model/pretokenizer.h"
#include "tests/model/vocabulary_fixture.h"

enum { BORDERS_MAX = 1 << 20 };

struct borders {
    size_t at[BORDERS_MAX]; /* end of each piece */
    size_t n;
};

static void note(struct borders *borders, size_t at)
{
    assert_true(borders->n < BORDERS_MAX);
    borders->at[borders->n++] = at;
}

static void split(const char *family, struct slice text, struct borders *out)
{
    struct pretokenizer *pretokenizer;
    struct piece_matcher *matcher;
    assert_int_equal(pretokenizer_create(slice_from(family), &pretokenizer, NULL), STATUS_OK);
    assert_int_equal(piece_matcher_create(pretokenizer, &matcher, NULL), STATUS_OK);
    out->n = 0;
    for (size_t at = 0; at < text.len;) {
        size_t len = 0;
        struct slice rest = slice_of(text.bytes + at, text.len - at);
        assert_int_equal(pretokenizer_next(pretokenizer, matcher, rest, true, &len, NULL),
                         STATUS_OK);
        note(out, at += len);
    }
    piece_matcher_free(matcher);
    pretokenizer_free(pretokenizer);
}

/* `cut` is the text with | between pieces. */
static void assert_cut(const char *family, const char *cut)
{
    char text[256];
    static struct borders got, wanted;
    size_t len = 0;
    wanted.n = 0;
    for (const char *at = cut; *at != '\0'; at++) {
        if (*at == '|')
            note(&wanted, len);
        else
            text[len++] = *at;
    }
    note(&wanted, len);
    split(family, slice_of(text, len), &got);
    assert_int_equal(got.n, wanted.n);
    assert_memory_equal(got.at, wanted.at, wanted.n * sizeof *wanted.at);
}

static void test_pretokenizer__each_family_cuts_as_published(void **state)
{
    assert_cut("gpt-2", "Hello| world|  | foo|'s| I|'|LL| 1234|.|5|!?|\n");
    assert_cut("gpt-2", "x|\n|\n|y| |\t|z|  ");
    assert_cut("smollm", "Hello| world|'s|  |1|2|3|4| |5|.|6|   | x");
    assert_cut("llama-bpe", "Hello| world|'LL| |123|456|7| !?\n\n|x|\t  | y");
    assert_cut("llama-bpe", " \n\n|  | x|(y|)");
    assert_cut("qwen2", "Hello| |1|2|3|'S|...\n\n| x");
    assert_cut("tekken", "Hello|World| don|'t| |1|2| a|/b|;//\n/| x");
    assert_cut("llama4", "Hello|World| don't|'LL| |123|4| a|/b|;//\n/| x");
    assert_cut("deepseek-v3", "Hello| |123|4|.js| !?\n| (|x|)|\t| y|\x01\x02|\x03z");
    assert_cut("deepseek-coder", "Hello| world|,|\n|\n| |1|2| (|x|)| +| y");
    assert_cut("deepseek-llm", "Hello| world|,|\n|\n| |123| (|x|)|  |\n| +| y");
    assert_cut("default", "it|'|s| ab|--| |123|4|  | x|$");
}

static void test_pretokenizer__unicode_blanks_and_letters_count(void **state)
{
    assert_cut("gpt-2", "a|\xC2\xA0|\xE3\x80\x80|b");
    assert_cut("llama-bpe",
               "caf\xC3\xA9|\xE3\x80\x80\xE4\xBD\xA0\xE5\xA5\xBD|\xEF\xBC\x8C\xE4\xB8\x96");
    assert_cut("qwen2", "\xD9\xA3|x|'\xC5\xBF"); /* Arabic digit; U+017F is no s */
    assert_cut("llama-bpe", "\xE1\xA0\xA8|\xE1\xA0\x8E\xE1\xA0\xA0"); /* U+180E is no blank */
    /* marks stay in their words */
    assert_cut("llama4",
               "\xE0\xA4\xA8\xE0\xA4\xAE\xE0\xA5\x8D| \xE0\xB9\x81\xE0\xB8\xA1\xE0\xB9\x88");
    assert_cut("deepseek-v3",
               "a|\xE4\xBD\xA0\xE3\x81\x93|\xE3\x83\xBB|\xE3\x83\xBC|\xEF\xBC\x8C|b");
}

static void test_pretokenizer__an_open_end_decides_nothing_that_more_text_could_change(void **state)
{
    uint64_t seed = 11;
    for (int family = 0; family < FIXTURE_FAMILIES; family++) {
        struct pretokenizer *pretokenizer;
        struct piece_matcher *matcher;
        assert_int_equal(
            pretokenizer_create(slice_from(fixture_families[family]), &pretokenizer, NULL),
            STATUS_OK);
        assert_int_equal(piece_matcher_create(pretokenizer, &matcher, NULL), STATUS_OK);
        for (int round = 0; round < 3000; round++) {
            uint8_t text[16 * 12];
            size_t len = random_text(&seed, 1 + random_below(&seed, 12), text);
            size_t n_seen = 1 + random_below(&seed, (uint32_t)len), whole, open;
            while (n_seen < len && (text[n_seen] & 0xC0) == 0x80)
                n_seen++;
            assert_int_equal(
                pretokenizer_next(pretokenizer, matcher, slice_of(text, len), true, &whole, NULL),
                STATUS_OK);
            int status = pretokenizer_next(pretokenizer, matcher, slice_of(text, n_seen), false,
                                           &open, NULL);
            assert_true(status == STATUS_OK || status == STATUS_AGAIN);
            if (status == STATUS_OK)
                assert_int_equal(open, whole);
        }
        piece_matcher_free(matcher);
        pretokenizer_free(pretokenizer);
    }
}

static void test_pretokenizer__a_run_without_borders_is_cut_at_the_window(void **state)
{
    static const char *const runs[] = {"a",
                                       " ",
                                       "!",
                                       "\n",
                                       "1",
                                       "\x01",
                                       "'",
                                       "\xD9\xA3",
                                       "\xE4\xBD\xA0",
                                       "\xE3\x80\x80",
                                       "\xF0\x9F\x98\x80"};
    for (int family = 0; family < FIXTURE_FAMILIES; family++) {
        for (size_t run = 0; run < sizeof runs / sizeof runs[0]; run++) {
            size_t n_char = strlen(runs[run]), len = (1 << 20) / n_char * n_char;
            uint8_t *text = malloc(len);
            for (size_t at = 0; at < len; at += n_char)
                memcpy(text + at, runs[run], n_char);
            static struct borders got;
            split(fixture_families[family], slice_of(text, len), &got);
            for (size_t i = 0; i < got.n; i++) {
                size_t piece = got.at[i] - (i == 0 ? 0 : got.at[i - 1]);
                assert_true(piece <= PIECE_WINDOW_BYTES);
                assert_int_equal(got.at[i] % n_char, 0);
            }
            size_t window = PIECE_WINDOW_BYTES / n_char * n_char;
            if (got.at[0] >= window)
                assert_int_equal(got.n, 1 + (len - 1) / window);
            else
                assert_true(got.at[0] <= 3 * n_char); /* one to three at a time */
            free(text);
        }
    }
}

static void test_pretokenizer__no_name_is_the_default_family(void **state)
{
    assert_cut("", "it|'|s| |123|4");
}

static void test_pretokenizer__refuses_an_unknown_name_and_lists_the_known(void **state)
{
    struct pretokenizer *pretokenizer;
    struct why why;
    assert_int_equal(pretokenizer_create(slice_from("gpt-3"), &pretokenizer, &why),
                     STATUS_UNSUPPORTED);
    assert_non_null(strstr(why.text, "tokenizer.ggml.pre is gpt-3, and a guess would change"));
    assert_non_null(strstr(why.text, "reads gpt-2, olmo"));
    for (int family = 0; family < FIXTURE_FAMILIES; family++)
        assert_non_null(strstr(why.text, fixture_families[family]));
    assert_non_null(strstr(why.text, ", default: take a file"));
    assert_int_equal(pretokenizer_create(slice_of("gpt-2\0x", 7), &pretokenizer, &why),
                     STATUS_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pretokenizer__each_family_cuts_as_published),
        cmocka_unit_test(test_pretokenizer__unicode_blanks_and_letters_count),
        cmocka_unit_test(
            test_pretokenizer__an_open_end_decides_nothing_that_more_text_could_change),
        cmocka_unit_test(test_pretokenizer__a_run_without_borders_is_cut_at_the_window),
        cmocka_unit_test(test_pretokenizer__no_name_is_the_default_family),
        cmocka_unit_test(test_pretokenizer__refuses_an_unknown_name_and_lists_the_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
