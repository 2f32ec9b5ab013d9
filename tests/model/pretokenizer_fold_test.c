/* Families of several stages, folded into one pattern each, against their stages as published: each
 * stage is applied inside the pieces (matches and gaps) of the one before, the piece being its
 * whole subject. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/status.h"
#include "model/pretokenizer.h"
#include "tests/model/vocabulary_fixture.h"

enum { STAGES_MAX = 6, BORDERS_MAX = 4096, ROUNDS = 10000, CHARACTERS_MAX = 14 };

#define GPT_2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define CJK "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"
#define CASED                                                                                      \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{"    \
    "293}"                                                                                         \
    "\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}"          \
    "\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{"    \
    "52F}"                                                                                         \
    "\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{"     \
    "1CBA}"                                                                                        \
    "\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}"                 \
    "\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}"                 \
    "\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}"         \
    "\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}"        \
    "\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}"        \
    "\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}"          \
    "\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}"        \
    "\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}"         \
    "\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}\\x{A771}-\\x{"    \
    "A787}"                                                                                        \
    "\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{"   \
    "FF3A}"                                                                                        \
    "\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}"           \
    "\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"

static const struct staged {
    const char *name;
    const char *stages[STAGES_MAX]; /* NULL ends */
} families[] = {
    {"smollm", {"\\p{N}", GPT_2}},
    {"default", {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT_2, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {"deepseek-v3",
     {"\\p{N}{1,3}", "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
      "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*"
      "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
    {"deepseek-coder", {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK, "\\p{N}"}},
    {"deepseek-llm",
     {"[\\r\\n]", "\\s?[" CASED "]+",
      "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+",
      "\\s+$", CJK, "\\p{N}+"}},
};

/* One or two of each set that any of the patterns tells from the others; blanks and what stands at
 * both ends of a range more often. */
static const uint32_t characters[] = {
    ' ',    ' ',    ' ',    '\t',    '\n',    '\r',    0x0B,    0x85,   0xA0,   0x1680, 0x2003,
    0x2003, 0x2028, 0x202F, 0x3000,  0x3000,  0x3000,  'a',     'Z',    's',    't',    'l',
    '\'',   '\'',   '0',    '1',     '2',     '3',     0x663,   0xBD,   0x2160, 0x3007, 0x3220,
    0x4E00, 0x9FA5, 0x9FA6, 0x9FFF,  0x3041,  0x30A1,  0x3099,  0x309B, 0x30A0, 0x30FB, 0x30FC,
    0x3040, 0x3098, 0xAC00, 0xD7A3,  0xD7FF,  0xABFF,  0x800,   0x7FF,  0xE9,   0xC9,   0xAA,
    0x1C5,  0x2B0,  0x3A9,  0x1E00,  0x1F16,  0x10A0,  0x13A0,  0x2102, 0x2183, 0x2C00, 0xA640,
    0xFB01, 0xFF21, 0xFF41, 0xFF01,  0xFF11,  0xFF3B,  0x201C,  0x3001, 0x3002, 0x2026, '!',
    '.',    '$',    '+',    '<',     '~',     '|',     '_',     0xA9,   0x20AC, 0x301,  0x93F,
    0x20DD, 0xE01,  0x627,  0x5D0,   0x928,   0x1F600, 0x200D,  0xFE0F, 0x0,    0x7F,   0x378,
    0x2FFF, 0xE000, 0xF900, 0x20000, 0x10400, 0x1E900, 0x10FFFF};

struct borders {
    size_t at[BORDERS_MAX]; /* end of each piece */
    size_t n;
};

static size_t put(uint32_t c, uint8_t *out)
{
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (uint8_t)(0x80 | (c & 0x3F));
    out[0] = (uint8_t)((0xF0u << (4 - n)) | c);
    return n;
}

static size_t characters_text(uint64_t *seed, uint8_t *out)
{
    size_t n = 1 + random_below(seed, CHARACTERS_MAX), len = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t pick = random_below(seed, sizeof characters / sizeof *characters);
        size_t n_same = random_below(seed, 5) == 0 ? 1 + random_below(seed, 4) : 1;
        for (size_t j = 0; j < n_same; j++)
            len += put(characters[pick], out + len);
    }
    return len;
}

/* The pieces of text, given on to the stages that follow or noted. */
static void split_staged(pcre2_code *const *stages, size_t n_stages, struct slice text, size_t base,
                         struct borders *out)
{
    if (n_stages == 0) {
        assert_true(out->n < BORDERS_MAX);
        out->at[out->n++] = base + text.len;
        return;
    }
    pcre2_match_data *found = pcre2_match_data_create_from_pattern(stages[0], NULL);
    size_t at = 0;
    while (at < text.len) {
        int n = pcre2_match(stages[0], text.bytes, text.len, at, 0, found, NULL);
        PCRE2_SIZE *span = pcre2_get_ovector_pointer(found);
        size_t ends[2] = {n < 0 ? text.len : span[0], n < 0 ? text.len : span[1]};
        for (int i = 0; i < 2; i++) {
            if (ends[i] > at)
                split_staged(stages + 1, n_stages - 1, slice_of(text.bytes + at, ends[i] - at),
                             base + at, out);
            at = ends[i];
        }
    }
    pcre2_match_data_free(found);
}

static void split_folded(const struct pretokenizer *pretokenizer, struct piece_matcher *matcher,
                         struct slice text, struct borders *out)
{
    out->n = 0;
    for (size_t at = 0; at < text.len;) {
        size_t len = 0;
        struct slice rest = slice_of(text.bytes + at, text.len - at);
        assert_int_equal(pretokenizer_next(pretokenizer, matcher, rest, true, &len, NULL),
                         STATUS_OK);
        assert_true(out->n < BORDERS_MAX);
        out->at[out->n++] = at += len;
    }
}

static void fail_with(const char *name, struct slice text, const struct borders *got,
                      const struct borders *wanted)
{
    print_error("%s:", name);
    for (size_t i = 0; i < text.len; i++)
        print_error(" %02X", text.bytes[i]);
    print_error("\n  stages:");
    for (size_t i = 0; i < wanted->n; i++)
        print_error(" %zu", wanted->at[i]);
    print_error("\n  folded:");
    for (size_t i = 0; i < got->n; i++)
        print_error(" %zu", got->at[i]);
    fail_msg("%s", "pieces differ");
}

static void assert_folds(const struct staged *family, uint64_t seed)
{
    pcre2_code *stages[STAGES_MAX];
    size_t n_stages = 0;
    for (; n_stages < STAGES_MAX && family->stages[n_stages] != NULL; n_stages++) {
        int error;
        PCRE2_SIZE offset;
        stages[n_stages] =
            pcre2_compile((PCRE2_SPTR)family->stages[n_stages], PCRE2_ZERO_TERMINATED,
                          PCRE2_UTF | PCRE2_UCP, &error, &offset, NULL);
        assert_non_null(stages[n_stages]);
    }
    struct pretokenizer *pretokenizer;
    struct piece_matcher *matcher;
    assert_int_equal(pretokenizer_create(slice_from(family->name), &pretokenizer, NULL), STATUS_OK);
    assert_int_equal(piece_matcher_create(pretokenizer, &matcher, NULL), STATUS_OK);
    for (int round = 0; round < ROUNDS; round++) {
        uint8_t text[4 * 4 * CHARACTERS_MAX + 16 * 40];
        size_t len = round % 4 == 0 ? random_text(&seed, 1 + random_below(&seed, 40), text)
                                    : characters_text(&seed, text);
        struct borders got, wanted = {.n = 0};
        split_staged(stages, n_stages, slice_of(text, len), 0, &wanted);
        split_folded(pretokenizer, matcher, slice_of(text, len), &got);
        if (got.n != wanted.n || memcmp(got.at, wanted.at, wanted.n * sizeof *wanted.at) != 0)
            fail_with(family->name, slice_of(text, len), &got, &wanted);
    }
    piece_matcher_free(matcher);
    pretokenizer_free(pretokenizer);
    for (size_t i = 0; i < n_stages; i++)
        pcre2_code_free(stages[i]);
}

static void test_pretokenizer_fold__one_pattern_equals_the_stages_as_published(void **state)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        assert_folds(&families[i], 7 + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pretokenizer_fold__one_pattern_equals_the_stages_as_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
