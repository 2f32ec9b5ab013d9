/* The real SmolLM2 vocabulary against ids that llama.cpp gives.
 *
 * The file: $QUIRE_MODEL, else models/SmolLM2-135M-Instruct.Q4_1.gguf of the source tree; without
 * it these tests are skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "model/chat_template.h"
#include "model/detok.h"
#include "model/gguf.h"
#include "model/token_stream.h"
#include "model/tokenizer.h"
#include "model/vocabulary_gguf.h"
#include "tests/model/vocabulary_fixture.h"

#define GPL_PATH "/usr/share/common-licenses/GPL-3"
enum { GPL_BYTES = 35149, GPL_TOKENS = 7639 };

static struct vocabulary *real; /* NULL: no file */

static int open_real(void **state)
{
    const char *path = getenv("QUIRE_MODEL");
    if (path == NULL)
        path = SOURCE_DIR "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    if (access(path, R_OK) != 0) {
        print_message("skipped: no model at %s; scripts/fetch-model brings it\n", path);
        return 0;
    }
    struct gguf *file;
    struct why why = {.text = ""};
    int status = gguf_open(path, &file, &why);
    if (status == STATUS_OK) {
        status = vocabulary_gguf_read(file, &real, &why);
        gguf_close(file);
    }
    if (status < 0)
        print_error("%s: %s\n", path, why.text);
    return status;
}

static int close_real(void **state)
{
    vocabulary_free(real);
    return 0;
}

static void need_real(void)
{
    if (real == NULL)
        skip();
}

/* The GPL-3 text of Debian, or a named skip. */
static uint8_t *gpl_text(void)
{
    FILE *file = fopen(GPL_PATH, "rb");
    if (file == NULL) {
        print_message("skipped: no %s\n", GPL_PATH);
        skip();
    }
    uint8_t *text = malloc(GPL_BYTES + 1);
    size_t len = fread(text, 1, GPL_BYTES + 1, file);
    fclose(file);
    if (len != GPL_BYTES) {
        free(text);
        print_message("skipped: %s is another text (not %d bytes)\n", GPL_PATH, GPL_BYTES);
        skip();
    }
    return text;
}

#define TEXT(literal)                                                                              \
    {                                                                                              \
        (const uint8_t *)literal, sizeof literal - 1                                               \
    }

struct golden {
    struct slice text;
    size_t n;
    uint32_t ids[56];
    size_t n_parsed; /* 0: parsing specials changes nothing */
    uint32_t parsed[8];
};

static const struct golden goldens[] = {
    {.text = TEXT("Hello, world!"), .n = 4, .ids = {19556, 28, 905, 17}},
    {.text = TEXT(" Hello"), .n = 1, .ids = {38699}},
    {.text = TEXT("Hello world  foo   bar"), .n = 6, .ids = {19556, 905, 216, 29856, 256, 2753}},
    {.text = TEXT("    indented\n\tcode\r\n\r\n  end  "),
     .n = 10,
     .ids = {333, 641, 6574, 198, 197, 4635, 18682, 216, 1112, 256}},
    {.text = TEXT("1234567890"), .n = 10, .ids = {33, 34, 35, 36, 37, 38, 39, 40, 41, 32}},
    {.text = TEXT("3.14159 and 1,000,000"),
     .n = 18,
     .ids = {35, 30, 33, 36, 33, 37, 41, 284, 216, 33, 28, 32, 32, 32, 28, 32, 32, 32}},
    {.text = TEXT("don't I'll you've WE'RE"),
     .n = 9,
     .ids = {12420, 982, 339, 3060, 346, 3543, 26587, 23, 3256}},
    {.text = TEXT("na\303\257ve caf\303\251 \342\200\224 \342\200\234quotes\342\200\235"),
     .n = 8,
     .ids = {3546, 46494, 37366, 1841, 619, 385, 2346, 573}},
    {.text = TEXT("\320\237\321\200\320\270\320\262\320\265\321\202, \320\274\320\270\321\200!"),
     .n = 10,
     .ids = {155, 249, 46879, 16464, 32547, 28, 41337, 7872, 9175, 17}},
    {.text = TEXT("\344\275\240\345\245\275\357\274\214\344\270\226\347\225\214"),
     .n = 10,
     .ids = {18645, 250, 48392, 138, 12831, 7906, 240, 178, 239, 230}},
    {.text = TEXT(
         "\343\201\223\343\202\223\343\201\253\343\201\241\343\201\257\344\270\226\347\225\214"),
     .n = 14,
     .ids = {7365, 237, 10391, 237, 41152, 7365, 111, 7365, 124, 7906, 240, 178, 239, 230}},
    {.text = TEXT("\354\225\210\353\205\225\355\225\230\354\204\270\354\232\224"),
     .n = 14,
     .ids = {183, 239, 226, 182, 223, 239, 33085, 242, 183, 222, 133, 183, 244, 238}},
    {.text = TEXT("\331\205\330\261\330\255\330\250\330\247 "
                  "\330\250\330\247\331\204\330\271\330\247\331\204\331\205"),
     .n = 10,
     .ids = {21706, 20602, 44626, 31462, 10805, 45726, 22208, 34966, 22208, 21706}},
    {.text = TEXT("\340\244\250\340\244\256\340\244\270\340\245\215\340\244\244\340\245\207 "
                  "\340\244\246\340\245\201\340\244\250\340\244\277\340\244\257\340\244\276"),
     .n = 13,
     .ids = {30658, 35090, 38770, 16525, 26293, 30581, 12335, 116, 42990, 30658, 27011, 32932,
             18075}},
    {.text = TEXT("\360\237\231\202\360\237\221\215\360\237\217\275\360\237\221\250\342\200\215\360"
                  "\237\221\251\342\200\215\360\237\221\247\342\200\215\360\237\221\246"),
     .n = 26,
     .ids = {10813, 38887, 10813, 235, 231, 10813, 233, 138, 10813, 235, 118,   321, 231,
             10813, 235,   119,   321, 231, 10813, 235, 117, 321,   231, 10813, 235, 116}},
    {.text = TEXT("\n\n\n"), .n = 1, .ids = {16506}},
    {.text = TEXT(" \n \n"), .n = 2, .ids = {3717, 3717}},
    {.text = TEXT("def f(x):\n    return x**2 + 1\n"),
     .n = 14,
     .ids = {1604, 275, 24, 104, 727, 472, 1003, 1792, 828, 34, 1232, 216, 33, 198}},
    {.text = TEXT("{\"a\": [1, 2, {\"b\": null}]}"),
     .n = 15,
     .ids = {39428, 81, 1799, 933, 33, 28, 216, 34, 28, 9583, 82, 1799, 10034, 109, 28852}},
    {.text = TEXT("<|im_start|>user\nHi<|im_end|>\n"),
     .n = 18,
     .ids = {44, 108, 306, 79, 3738, 108, 46, 4093, 198, 26843, 44, 108, 306, 79, 486, 108, 46,
             198},
     .n_parsed = 6,
     .parsed = {1, 4093, 198, 26843, 2, 198}},
    {.text = TEXT("<|endoftext|>"),
     .n = 7,
     .ids = {44, 108, 486, 1714, 2692, 108, 46},
     .n_parsed = 1,
     .parsed = {0}},
    {.text = TEXT("e\314\201 \303\251 \357\254\201 \357\274\241"),
     .n = 8,
     .ids = {85, 151, 219, 26411, 40367, 216, 8083, 111}},
    {.text = TEXT("\302\240nbsp\342\200\203emsp\343\200\200ideo"),
     .n = 10,
     .ids = {15442, 94, 32093, 321, 221, 1687, 96, 12109, 218, 8496}},
    {.text = TEXT("x\342\200\213y"), .n = 4, .ids = {104, 321, 229, 105}},
    {.text = TEXT("a\000b"), .n = 3, .ids = {81, 190, 82}},
    {.text = TEXT("https://example.com/a?b=c&d=%20"),
     .n = 16,
     .ids = {4687, 1742, 7434, 30, 824, 31, 81, 47, 82, 45, 83, 22, 84, 23446, 34, 32}},
    {.text = TEXT("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), .n = 4, .ids = {44843, 44843, 44843, 44843}},
    {.text = TEXT("                                 x"), .n = 2, .ids = {12427, 1792}},
};

static void assert_encodes(struct slice text, bool parse_special, const uint32_t *ids, size_t n)
{
    struct token_buffer got;
    token_buffer_init(&got, 1000, false);
    assert_int_equal(tokenizer_encode(real, text, true, parse_special, &got, NULL), STATUS_OK);
    assert_int_equal(got.n, n);
    assert_memory_equal(got.ids, ids, n * sizeof *ids);
    token_buffer_release(&got);
}

static void test_tokenizer_golden__strings_give_the_published_ids(void **state)
{
    need_real();
    for (size_t i = 0; i < sizeof goldens / sizeof goldens[0]; i++) {
        const struct golden *row = &goldens[i];
        assert_encodes(row->text, false, row->ids, row->n);
        if (row->n_parsed > 0)
            assert_encodes(row->text, true, row->parsed, row->n_parsed);
        else
            assert_encodes(row->text, true, row->ids, row->n);
    }
}

static void test_tokenizer_golden__strings_come_back(void **state)
{
    need_real();
    for (size_t i = 0; i < sizeof goldens / sizeof goldens[0]; i++) {
        uint8_t *text;
        size_t len;
        assert_int_equal(
            detok_all(real, goldens[i].ids, goldens[i].n, true, 1000, &text, &len, NULL),
            STATUS_OK);
        assert_true(slice_equal(slice_of(text, len), goldens[i].text));
        free(text);
    }
}

static void test_tokenizer_golden__a_byte_without_token_is_refused_not_dropped(void **state)
{
    need_real();
    struct token_buffer got;
    struct why why = {.text = ""};
    token_buffer_init(&got, 1000, false);
    assert_int_equal(tokenizer_encode(real, slice_from("some text\x04"), false, false, &got, &why),
                     STATUS_INVALID);
    assert_string_equal(why.text, "byte 0x04 at offset 9 has no token in this model's vocabulary; "
                                  "leave its character out");
    assert_int_equal(got.n, 0);
    token_buffer_release(&got);
}

static void test_tokenizer_golden__random_text_comes_back_whole_and_in_packets(void **state)
{
    need_real();
    uint64_t seed = 62;
    uint8_t *text = malloc(16 * 3000), *back;
    for (int round = 0; round < 30; round++) {
        struct token_buffer whole, streamed;
        struct token_stream *stream;
        size_t len = random_text(&seed, 3000, text), n_back;
        token_buffer_init(&whole, 100000, false);
        token_buffer_init(&streamed, 100000, false);
        assert_int_equal(tokenizer_encode(real, slice_of(text, len), true, true, &whole, NULL),
                         STATUS_OK);
        assert_int_equal(token_stream_create(real, true, true, &stream, NULL), STATUS_OK);
        for (size_t at = 0, n; at < len; at += n) {
            n = 1 + random_below(&seed, 2000);
            if (n > len - at)
                n = len - at;
            assert_int_equal(token_stream_feed(stream, slice_of(text + at, n), &streamed, NULL),
                             STATUS_OK);
        }
        assert_int_equal(token_stream_finish(stream, &streamed, NULL), STATUS_OK);
        assert_int_equal(streamed.n, whole.n);
        assert_memory_equal(streamed.ids, whole.ids, whole.n * sizeof *whole.ids);
        assert_int_equal(detok_all(real, whole.ids, whole.n, true, len, &back, &n_back, NULL),
                         STATUS_OK);
        assert_true(slice_equal(slice_of(back, n_back), slice_of(text, len)));
        free(back);
        token_stream_free(stream);
        token_buffer_release(&whole);
        token_buffer_release(&streamed);
    }
    free(text);
}

static void assert_digest(const uint32_t *ids, size_t n, const char *wanted)
{
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX_BYTES];
    sha256_of(ids, n * sizeof *ids, digest);
    sha256_hex(digest, hex);
    assert_string_equal(hex, wanted);
}

static void assert_gpl_ids(const struct token_buffer *got)
{
    assert_int_equal(got->n, GPL_TOKENS);
    assert_digest(got->ids, 512,
                  "7fb3d191e5cda175435f8a20e709bd46686099f0a4714728cdf9df40122e1b7c");
    assert_digest(got->ids, got->n,
                  "852de624d5f98353b3218e472fbd75a9ed89d21d51367210d855fcbc4aaf2234");
}

static void test_tokenizer_golden__the_gpl_gives_its_7639_ids(void **state)
{
    need_real();
    uint8_t *text = gpl_text(), *back;
    size_t len;
    struct token_buffer got;
    token_buffer_init(&got, 10000, false);
    assert_int_equal(tokenizer_encode(real, slice_of(text, GPL_BYTES), true, false, &got, NULL),
                     STATUS_OK);
    assert_gpl_ids(&got);
    assert_int_equal(detok_all(real, got.ids, got.n, false, GPL_BYTES, &back, &len, NULL),
                     STATUS_OK);
    assert_true(slice_equal(slice_of(back, len), slice_of(text, GPL_BYTES)));
    free(back);
    token_buffer_release(&got);
    free(text);
}

static void test_tokenizer_golden__the_gpl_in_packets_gives_the_same_ids(void **state)
{
    need_real();
    uint8_t *text = gpl_text();
    static const uint32_t packets[] = {1, 7, 100, 3000, 40000};
    uint64_t seed = 61;
    for (size_t i = 0; i < sizeof packets / sizeof packets[0]; i++) {
        struct token_stream *stream;
        struct token_buffer got;
        token_buffer_init(&got, 10000, false);
        assert_int_equal(token_stream_create(real, true, false, &stream, NULL), STATUS_OK);
        for (size_t at = 0, n; at < GPL_BYTES; at += n) {
            n = 1 + random_below(&seed, packets[i]);
            if (n > GPL_BYTES - at)
                n = GPL_BYTES - at;
            assert_int_equal(token_stream_feed(stream, slice_of(text + at, n), &got, NULL),
                             STATUS_OK);
        }
        assert_int_equal(token_stream_finish(stream, &got, NULL), STATUS_OK);
        assert_gpl_ids(&got);
        token_stream_free(stream);
        token_buffer_release(&got);
    }
    free(text);
}

static void test_tokenizer_golden__the_vocabulary_is_read_whole(void **state)
{
    need_real();
    assert_int_equal(vocabulary_n_tokens(real), 49152);
    assert_int_equal(vocabulary_bos_id(real), 1);
    assert_int_equal(vocabulary_eos_id(real), 2);
    assert_false(vocabulary_adds_bos(real));
    for (uint32_t id = 0; id < 49152; id++)
        assert_int_equal(vocabulary_is_end_of_generation(real, id), id == 0 || id == 2 || id == 4);
}

static void test_tokenizer_golden__the_files_template_renders_the_published_prompt(void **state)
{
    need_real();
    static const uint32_t wanted[] = {1,    9690, 198,   2683, 359,  253,  5356, 5646,  11173, 3365,
                                      3511, 308,  34519, 28,   7018, 411,  407,  19712, 8182,  2,
                                      198,  1,    4093,  198,  1780, 314,  260,  3575,  282,   4649,
                                      47,   2,    198,   1,    520,  9531, 198};
    struct chat_template *chat;
    struct token_buffer got;
    struct chat_message message = {.role = slice_from("user"),
                                   .content = slice_from("What is the capital of France?")};
    token_buffer_init(&got, 100, false);
    struct chat_source source = {.text = vocabulary_chat_template(real)};
    struct chat conversation = {.messages = &message, .n_messages = 1, .thinking = -1};
    assert_int_equal(chat_template_create(&source, real, &chat, NULL), STATUS_OK);
    assert_true(slice_equal(
        chat_template_default_system(chat),
        slice_from("You are a helpful AI assistant named SmolLM, trained by Hugging Face")));
    assert_int_equal(chat_template_render(chat, real, &conversation, true, &got, NULL), STATUS_OK);
    assert_int_equal(got.n, sizeof wanted / sizeof wanted[0]);
    assert_memory_equal(got.ids, wanted, sizeof wanted);
    token_buffer_release(&got);
    chat_template_free(chat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokenizer_golden__the_vocabulary_is_read_whole),
        cmocka_unit_test(test_tokenizer_golden__strings_give_the_published_ids),
        cmocka_unit_test(test_tokenizer_golden__strings_come_back),
        cmocka_unit_test(test_tokenizer_golden__a_byte_without_token_is_refused_not_dropped),
        cmocka_unit_test(test_tokenizer_golden__random_text_comes_back_whole_and_in_packets),
        cmocka_unit_test(test_tokenizer_golden__the_gpl_gives_its_7639_ids),
        cmocka_unit_test(test_tokenizer_golden__the_gpl_in_packets_gives_the_same_ids),
        cmocka_unit_test(test_tokenizer_golden__the_files_template_renders_the_published_prompt),
    };
    return cmocka_run_group_tests(tests, open_real, close_real);
}
