#include "tests/model/vocabulary_fixture.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/byte_alphabet.h"

const char *const fixture_families[FIXTURE_FAMILIES] = {
    "gpt-2",       "smollm",         "llama-bpe",    "qwen2",  "tekken", "llama4",
    "deepseek-v3", "deepseek-coder", "deepseek-llm", "default"};

static struct slice keep(struct source_fixture *fixture, const void *text, size_t len)
{
    assert(fixture->n_text + len <= sizeof fixture->text);
    char *at = fixture->text + fixture->n_text;
    memcpy(at, text, len);
    fixture->n_text += len;
    return slice_of(at, len);
}

uint32_t source_fixture_token(struct source_fixture *fixture, const char *text,
                              enum token_kind kind)
{
    uint32_t id = fixture->source.n_tokens++;
    assert(id < FIXTURE_LIST_MAX);
    fixture->source.n_types = fixture->source.n_tokens;
    fixture->tokens[id] = keep(fixture, text, strlen(text));
    fixture->types[id] = kind;
    return id;
}

void source_fixture_merge(struct source_fixture *fixture, const char *merge)
{
    char made[128];
    const char *blank = strchr(merge, ' ');
    size_t left = (size_t)(blank - merge);
    memcpy(made, merge, left);
    strcpy(made + left, blank + 1);
    bool is_known = false;
    for (uint32_t id = 0; id < fixture->source.n_tokens; id++)
        is_known = is_known || slice_equal(fixture->tokens[id], slice_from(made));
    if (!is_known)
        source_fixture_token(fixture, made, TOKEN_NORMAL);
    assert(fixture->source.n_merges < FIXTURE_LIST_MAX);
    fixture->merges[fixture->source.n_merges++] = keep(fixture, merge, strlen(merge));
}

struct source_fixture *source_fixture_create(const char *pre)
{
    struct source_fixture *fixture = calloc(1, sizeof *fixture);
    assert(fixture != NULL);
    fixture->source = (struct vocabulary_source){.model = slice_from("gpt2"),
                                                 .pre = slice_from(pre),
                                                 .tokens = fixture->tokens,
                                                 .types = fixture->types,
                                                 .merges = fixture->merges,
                                                 .bos_id = -1,
                                                 .eos_id = -1,
                                                 .eot_id = -1,
                                                 .eom_id = -1,
                                                 .unknown_id = -1,
                                                 .padding_id = -1,
                                                 .add_bos = -1,
                                                 .add_eos = -1,
                                                 .add_space_prefix = -1};
    for (unsigned byte = 0; byte < 256; byte++) {
        char spelled[3] = "";
        byte_alphabet_encode((uint8_t)byte, (uint8_t *)spelled);
        source_fixture_token(fixture, spelled, TOKEN_NORMAL);
    }
    return fixture;
}

void source_fixture_fill(struct source_fixture *fixture)
{
    static const char *const merges[] = {
        "h e",  "l l",   "he ll", "hell o", "Ġ w",   "o r",       "Ġw or", "l d",  "Ġwor ld",
        "Ġ Ġ",  "ĠĠ ĠĠ", "Ċ Ċ",   "a a",    "aa aa", "aaaa aaaa", "t h",   "th e", "Ġ the",
        "Ġ a",  "i n",   "1 2",   "12 3",   "' s",   "Ã ©",       "ä ½",   "ä½ ł", "å ¥",
        "å¥ ½", "ð Ł",   "ðŁ ĺ",  ". .",    ".. ..", "! !",       "! Ċ",   "Ċ Ġ",  "Ġ Ċ",
        "ĉ ĉ",  "Â ł",   "ã Ģ",   "s t",    "a b",   "ab a",      "b a"};
    source_fixture_token(fixture, "<|endoftext|>", TOKEN_CONTROL);
    source_fixture_token(fixture, "<|im_start|>", TOKEN_CONTROL);
    source_fixture_token(fixture, "<|im_end|>", TOKEN_CONTROL);
    source_fixture_token(fixture, "<tool>", TOKEN_USER_DEFINED);
    source_fixture_token(fixture, "<tool>box", TOKEN_USER_DEFINED);
    for (size_t i = 0; i < sizeof merges / sizeof merges[0]; i++)
        source_fixture_merge(fixture, merges[i]);
    fixture->source.eos_id = FIXTURE_END_OF_TEXT;
    fixture->source.bos_id = FIXTURE_IM_START;
    fixture->source.add_bos = 0;
}

uint32_t piece_fixture_token(struct source_fixture *fixture, const char *text,
                             enum token_kind kind, double score)
{
    uint32_t id = source_fixture_token(fixture, text, kind);
    fixture->scores[id] = score;
    fixture->source.n_scores = fixture->source.n_tokens;
    return id;
}

struct source_fixture *piece_fixture_create(void)
{
    struct source_fixture *fixture = source_fixture_create("");
    fixture->source.model = slice_from("llama");
    fixture->source.n_tokens = 0;
    fixture->source.scores = fixture->scores;
    piece_fixture_token(fixture, "<unk>", TOKEN_UNKNOWN, 0);
    piece_fixture_token(fixture, "<s>", TOKEN_CONTROL, 0);
    piece_fixture_token(fixture, "</s>", TOKEN_CONTROL, 0);
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", byte);
        piece_fixture_token(fixture, text, TOKEN_BYTE, 0);
    }
    return fixture;
}

void piece_fixture_fill(struct source_fixture *fixture)
{
    static const char *const made[] = {"▁t", "he", "in", "▁a", "▁the", "ll", "hell", "▁▁", "▁hell",
                                       "lo", "▁hello", "aa", "aaaa", "你好", "é", "▁world", "wor",
                                       "ld", "▁w", "or", "world", "▁▁▁▁", "12", "...", ".."};
    static const char *const single[] = {"▁", "e", "t", "a", "h", "l", "o", "w", "r", "d", "i", "n",
                                         "1", "2", ".", "你", "好", "é", "x", "T", ",", "s", "'"};
    double score = -1;
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++)
        piece_fixture_token(fixture, made[i], TOKEN_NORMAL, score -= i % 3 == 0 ? 0 : 1);
    for (size_t i = 0; i < sizeof single / sizeof single[0]; i++)
        piece_fixture_token(fixture, single[i], TOKEN_NORMAL, score -= 1);
    piece_fixture_token(fixture, "<tool>", TOKEN_USER_DEFINED, 0);
}

struct vocabulary *small_vocabulary(const char *pre)
{
    struct source_fixture *fixture = source_fixture_create(pre);
    source_fixture_fill(fixture);
    struct vocabulary *vocabulary = NULL;
    int status = vocabulary_create(&fixture->source, &vocabulary, NULL);
    assert(status == STATUS_OK);
    (void)status;
    free(fixture);
    return vocabulary;
}

uint64_t random_next(uint64_t *state)
{
    uint64_t mixed = *state += UINT64_C(0x9E3779B97F4A7C15);
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94D049BB133111EB);
    return mixed ^ mixed >> 31;
}

uint32_t random_below(uint64_t *state, uint32_t n)
{
    return (uint32_t)(random_next(state) % n);
}

/* clang-format off */
static const char *const fragments[] = {
    " ", " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n", "\xC2\xA0", "\xE3\x80\x80",
    "\xE2\x80\x83", "a", "hello", " world", "the", " The", "aaaa", "x", "'s", "'S", "'ll", "'",
    "don't", "'RE", "'\xC5\xBF", "1", "12", "123", "4567", " 7", "\xD9\xA3", "\xC2\xBD", ".", ",",
    "...", "!", "?!", "!\n", "(", ")", "{\"a\":", "--", "$", "+", "=", "_", "\xC3\xA9",
    "e\xCC\x81", "\xD0\x9F\xD1\x80", "\xE4\xBD\xA0\xE5\xA5\xBD", "\xE3\x81\x93", "\xEC\x95\x88",
    "\xE0\xA4\xA8\xE0\xA4\xAE\xE0\xA5\x8D", "\xD9\x85\xD8\xB1", "\xF0\x9F\x98\x80",
    "\xF0\x9F\x91\xA8\xE2\x80\x8D", "\xEF\xBC\x8C", "\xE2\x80\x9C", "\xF3\xA0\x80\x81",
    "\xCD\xB8", "\x01", "\x7F", "\xC2\x85", "\x0B", "<tool>", "<tool>box", "<tool", "<|im_end|>",
    "<|im_", "<", "|>"};
/* clang-format on */

size_t random_text(uint64_t *state, size_t n_fragments, uint8_t *out)
{
    size_t len = 0;
    for (size_t i = 0; i < n_fragments; i++) {
        uint32_t pick = random_below(state, sizeof fragments / sizeof fragments[0] + 1);
        if (pick == sizeof fragments / sizeof fragments[0]) {
            out[len++] = 0; /* NUL is text like any other */
            continue;
        }
        size_t n = strlen(fragments[pick]);
        memcpy(out + len, fragments[pick], n);
        len += n;
    }
    return len;
}
