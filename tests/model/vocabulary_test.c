#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "limits.h"
#include "model/merge_table.h"
#include "model/special_table.h"
#include "tests/model/vocabulary_fixture.h"

/* Each change spoils a good source; the sentence must say what. */
static void assert_refused(void (*spoil)(struct source_fixture *fixture), int status,
                           const char *sentence)
{
    struct source_fixture *fixture = source_fixture_create("smollm");
    source_fixture_fill(fixture);
    spoil(fixture);
    struct vocabulary *vocabulary = NULL;
    struct why why = {.text = ""};
    assert_int_equal(vocabulary_create(&fixture->source, &vocabulary, &why), status);
    assert_null(vocabulary);
    if (strstr(why.text, sentence) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", why.text, sentence);
    free(fixture);
}

static void spoil_model(struct source_fixture *fixture)
{
    fixture->source.model = slice_from("bert");
}

static void spoil_no_model(struct source_fixture *fixture)
{
    fixture->source.model = slice_from("");
}

static void spoil_pre(struct source_fixture *fixture)
{
    fixture->source.pre = slice_from("gpt-3");
}

static void spoil_no_tokens(struct source_fixture *fixture)
{
    fixture->source.n_tokens = 0;
}

static void spoil_too_many_tokens(struct source_fixture *fixture)
{
    fixture->source.n_tokens = MODEL_VOCABULARY_MAX + 1;
}

static void spoil_types(struct source_fixture *fixture)
{
    fixture->source.n_types = fixture->source.n_tokens - 1;
}

static void spoil_type(struct source_fixture *fixture)
{
    fixture->types[7] = 9;
}

static void spoil_byte(struct source_fixture *fixture)
{
    fixture->tokens['Q'] = slice_from("QQ");
}

static void spoil_byte_kind(struct source_fixture *fixture)
{
    fixture->types['Q'] = TOKEN_CONTROL;
}

static void spoil_long_token(struct source_fixture *fixture)
{
    static char text[TOKEN_BYTES_MAX + 1];
    memset(text, 'x', sizeof text);
    fixture->tokens[FIXTURE_FIRST_MERGED + 40] = slice_of(text, sizeof text);
}

static void spoil_long_special(struct source_fixture *fixture)
{
    static char text[SPECIAL_BYTES_MAX + 1];
    memset(text, 'x', sizeof text);
    fixture->tokens[FIXTURE_TOOL] = slice_of(text, sizeof text);
}

static void spoil_merge_blank(struct source_fixture *fixture)
{
    fixture->merges[2] = slice_from("hell");
}

static void spoil_merge_first_blank(struct source_fixture *fixture)
{
    fixture->merges[2] = slice_from(" h");
}

static void spoil_merge_side(struct source_fixture *fixture)
{
    fixture->merges[2] = slice_from("h zz");
}

static void spoil_merge_character(struct source_fixture *fixture)
{
    fixture->merges[2] = slice_from("h \xE2\x82\xAC");
}

static void spoil_merge_empty(struct source_fixture *fixture)
{
    fixture->merges[0] = slice_from("");
}

static void spoil_eos(struct source_fixture *fixture)
{
    fixture->source.eos_id = fixture->source.n_tokens;
}

static void spoil_bos(struct source_fixture *fixture)
{
    fixture->source.bos_id = -2;
}

static void spoil_add_bos(struct source_fixture *fixture)
{
    fixture->source.bos_id = -1;
    fixture->source.add_bos = 1;
}

static void spoil_add_eos(struct source_fixture *fixture)
{
    fixture->source.eos_id = -1;
    fixture->source.add_eos = 1;
}

static void test_vocabulary__refuses_what_it_does_not_read_by_name(void **state)
{
    assert_refused(spoil_model, STATUS_UNSUPPORTED,
                   "tokenizer.ggml.model is bert; this build reads gpt2 (byte-level "
                   "BPE) and llama (SentencePiece): take a model");
    assert_refused(spoil_no_model, STATUS_UNSUPPORTED, "tokenizer.ggml.model is absent");
    assert_refused(spoil_pre, STATUS_UNSUPPORTED, "tokenizer.ggml.pre is gpt-3, and a guess");
}

static void test_vocabulary__refuses_a_hostile_file_with_numbers(void **state)
{
    assert_refused(spoil_no_tokens, STATUS_CORRUPT, "has 0 tokens");
    assert_refused(spoil_too_many_tokens, STATUS_CORRUPT, "has 1048577 tokens, not 1 to 1048576");
    assert_refused(spoil_types, STATUS_CORRUPT, "token_type has 303 entries for 304 tokens");
    assert_refused(spoil_type, STATUS_CORRUPT, "of token 7 is 9, not 0 to 6");
    assert_refused(spoil_byte, STATUS_CORRUPT, "byte 0x51 has no token");
    assert_refused(spoil_byte_kind, STATUS_CORRUPT, "byte 0x51 has no token");
    char over[64];
    snprintf(over, sizeof over, "has %d bytes, over %d", TOKEN_BYTES_MAX + 1, TOKEN_BYTES_MAX);
    assert_refused(spoil_long_token, STATUS_CORRUPT, over);
    assert_refused(spoil_long_special, STATUS_CORRUPT, "special token 259 has 1025 bytes");
    assert_refused(spoil_merge_blank, STATUS_CORRUPT,
                   "merge 2 of tokenizer.ggml.merges, hell, has no space");
    assert_refused(spoil_merge_first_blank, STATUS_CORRUPT, "has no space");
    assert_refused(spoil_merge_empty, STATUS_CORRUPT, "merge 0 of tokenizer.ggml.merges");
    assert_refused(spoil_merge_side, STATUS_CORRUPT, "needs zz, which is no token");
    assert_refused(spoil_merge_character, STATUS_CORRUPT, "outside the byte alphabet");
    assert_refused(spoil_eos, STATUS_CORRUPT, "eos_token_id is 304 in a vocabulary of 304");
    assert_refused(spoil_bos, STATUS_CORRUPT, "bos_token_id is -2");
    assert_refused(spoil_add_bos, STATUS_CORRUPT,
                   "add_bos_token is true and there is no bos_token_id");
    assert_refused(spoil_add_eos, STATUS_CORRUPT,
                   "add_eos_token is true and there is no eos_token_id");
}

static struct vocabulary *create(struct source_fixture *fixture)
{
    struct vocabulary *vocabulary;
    struct why why = {.text = ""};
    if (vocabulary_create(&fixture->source, &vocabulary, &why) < 0)
        fail_msg("%s", why.text);
    free(fixture);
    return vocabulary;
}

static void test_vocabulary__gives_raw_bytes(void **state)
{
    struct source_fixture *fixture = source_fixture_create("gpt-2");
    source_fixture_fill(fixture);
    uint32_t strange = source_fixture_token(fixture,
                                            "\xEF\xBD\x9C"
                                            "a b",
                                            TOKEN_NORMAL);
    uint32_t empty = source_fixture_token(fixture, "", TOKEN_UNUSED);
    uint32_t blanks = source_fixture_token(fixture, "  ", TOKEN_USER_DEFINED);
    struct vocabulary *vocabulary = create(fixture);

    uint32_t id;
    assert_true(vocabulary_find_plain(vocabulary, slice_from(" world"), &id));
    assert_true(slice_equal(vocabulary_bytes(vocabulary, id), slice_from(" world")));
    assert_true(vocabulary_find_plain(vocabulary, slice_from("\xE4\xBD\xA0"), &id));
    assert_true(slice_equal(vocabulary_bytes(vocabulary, strange), slice_from("\xEF\xBD\x9C"
                                                                              "a b")));
    assert_int_equal(vocabulary_bytes(vocabulary, empty).len, 0);
    assert_true(slice_equal(vocabulary_bytes(vocabulary, blanks), slice_from("  ")));
    assert_true(
        slice_equal(vocabulary_bytes(vocabulary, FIXTURE_IM_END), slice_from("<|im_end|>")));
    assert_int_equal(vocabulary_longest(vocabulary), strlen("<|endoftext|>"));
    vocabulary_free(vocabulary);
}

static void test_vocabulary__knows_special_tokens_by_text(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("gpt-2");
    uint32_t id;
    assert_true(vocabulary_find_special(vocabulary, slice_from("<|im_end|>"), &id));
    assert_int_equal(id, FIXTURE_IM_END);
    assert_true(vocabulary_find_special(vocabulary, slice_from("<tool>"), &id));
    assert_int_equal(id, FIXTURE_TOOL);
    assert_false(vocabulary_find_special(vocabulary, slice_from("hello"), &id));
    assert_false(vocabulary_find_plain(vocabulary, slice_from("<|im_end|>"), &id));
    assert_true(vocabulary_is_control(vocabulary, FIXTURE_IM_END));
    assert_false(vocabulary_is_control(vocabulary, FIXTURE_TOOL));
    vocabulary_free(vocabulary);
}

static void test_vocabulary__ends_generation_at_the_files_ids_and_at_known_texts(void **state)
{
    struct source_fixture *fixture = source_fixture_create("qwen2");
    source_fixture_fill(fixture);
    fixture->source.eot_id = 'x';
    fixture->source.eom_id = 'y';
    uint32_t pad = source_fixture_token(fixture, "<|fim_pad|>", TOKEN_CONTROL);
    uint32_t end = source_fixture_token(fixture,
                                        "<\xEF\xBD\x9C"
                                        "end\xE2\x96\x81of\xE2\x96\x81sentence"
                                        "\xEF\xBD\x9C>",
                                        TOKEN_CONTROL);
    uint32_t other = source_fixture_token(fixture, "<|fim_prefix|>", TOKEN_CONTROL);
    struct vocabulary *vocabulary = create(fixture);
    const uint32_t ends[] = {FIXTURE_END_OF_TEXT, FIXTURE_IM_END, 'x', 'y', pad, end};
    uint32_t n_ends = 0;
    for (uint32_t id = 0; id < vocabulary_n_tokens(vocabulary); id++)
        n_ends += vocabulary_is_end_of_generation(vocabulary, id);
    assert_int_equal(n_ends, sizeof ends / sizeof ends[0]);
    for (size_t i = 0; i < n_ends; i++)
        assert_true(vocabulary_is_end_of_generation(vocabulary, ends[i]));
    assert_false(vocabulary_is_end_of_generation(vocabulary, other));
    assert_false(vocabulary_is_end_of_generation(vocabulary, FIXTURE_IM_START));
    vocabulary_free(vocabulary);
}

static void test_vocabulary__turn_markers_are_control_whatever_the_file_says(void **state)
{
    struct source_fixture *fixture = source_fixture_create("gpt-2");
    source_fixture_fill(fixture);
    fixture->types[FIXTURE_IM_START] = TOKEN_USER_DEFINED;
    fixture->types[FIXTURE_IM_END] = TOKEN_NORMAL;
    struct vocabulary *vocabulary = create(fixture);
    struct special_match match = special_table_search(vocabulary_specials(vocabulary, false),
                                                      slice_from("<|im_start|>x<|im_end|>"), true);
    assert_int_equal(match.outcome, SPECIAL_NONE);
    assert_true(vocabulary_is_control(vocabulary, FIXTURE_IM_START));
    assert_true(vocabulary_is_control(vocabulary, FIXTURE_IM_END));
    vocabulary_free(vocabulary);
}

static void test_vocabulary__a_merge_never_makes_a_control_token(void **state)
{
    struct source_fixture *fixture = source_fixture_create("gpt-2");
    source_fixture_token(fixture, "<s>", TOKEN_CONTROL);
    source_fixture_merge(fixture, "< s");
    source_fixture_merge(fixture, "<s >"); /* makes the control token */
    struct vocabulary *vocabulary = create(fixture);
    uint32_t merged, side;
    assert_true(vocabulary_find_plain(vocabulary, slice_from("<s"), &side));
    assert_int_equal(merge_table_find(vocabulary_merges(vocabulary), '<', 's', &merged), 0);
    assert_int_equal(merge_table_find(vocabulary_merges(vocabulary), side, '>', &merged),
                     MERGE_NONE);
    vocabulary_free(vocabulary);
}

static void test_vocabulary__of_equal_plain_texts_the_last_counts(void **state)
{
    struct source_fixture *fixture = source_fixture_create("gpt-2");
    source_fixture_token(fixture, "dup", TOKEN_NORMAL);
    uint32_t last = source_fixture_token(fixture, "dup", TOKEN_NORMAL), id;
    struct vocabulary *vocabulary = create(fixture);
    assert_true(vocabulary_find_plain(vocabulary, slice_from("dup"), &id));
    assert_int_equal(id, last);
    vocabulary_free(vocabulary);
}

static void test_vocabulary__adds_bos_by_family_unless_the_file_says_otherwise(void **state)
{
    static const struct {
        const char *pre;
        int64_t bos_id;
        int add_bos;
        bool wanted;
    } rows[] = {{"llama-bpe", 5, -1, true},   {"llama-bpe", 5, 0, false},
                {"llama-bpe", -1, -1, false}, {"gpt-2", 5, -1, false},
                {"gpt-2", 5, 1, true},        {"qwen2", 5, -1, false}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct source_fixture *fixture = source_fixture_create(rows[i].pre);
        fixture->source.bos_id = rows[i].bos_id;
        fixture->source.add_bos = rows[i].add_bos;
        struct vocabulary *vocabulary = create(fixture);
        assert_int_equal(vocabulary_adds_bos(vocabulary), rows[i].wanted);
        assert_int_equal(vocabulary_bos_id(vocabulary), rows[i].bos_id);
        assert_false(vocabulary_adds_eos(vocabulary));
        vocabulary_free(vocabulary);
    }
}

static void test_vocabulary__without_types_all_tokens_are_normal(void **state)
{
    struct source_fixture *fixture = source_fixture_create("gpt-2");
    source_fixture_fill(fixture);
    fixture->source.types = NULL;
    fixture->source.n_types = 0;
    fixture->source.padding_id = UINT32_MAX; /* how converters write "none" */
    struct vocabulary *vocabulary = create(fixture);
    uint32_t id;
    assert_true(vocabulary_find_plain(vocabulary, slice_from("<tool>"), &id));
    assert_true(vocabulary_is_control(vocabulary, FIXTURE_IM_END));
    assert_int_equal(vocabulary_padding_id(vocabulary), -1);
    vocabulary_free(vocabulary);
}

static void test_vocabulary__loads_without_a_token_for_a_rare_control_character(void **state)
{
    struct source_fixture *fixture = source_fixture_create("gpt-2");
    fixture->tokens[0x04] = slice_from("QQ");
    struct vocabulary *vocabulary = create(fixture);
    assert_int_equal(vocabulary_byte_ids(vocabulary)[0x04], VOCABULARY_NO_TOKEN);
    assert_int_equal(vocabulary_byte_ids(vocabulary)[0x05], 0x05);
    vocabulary_free(vocabulary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vocabulary__refuses_what_it_does_not_read_by_name),
        cmocka_unit_test(test_vocabulary__refuses_a_hostile_file_with_numbers),
        cmocka_unit_test(test_vocabulary__gives_raw_bytes),
        cmocka_unit_test(test_vocabulary__knows_special_tokens_by_text),
        cmocka_unit_test(test_vocabulary__ends_generation_at_the_files_ids_and_at_known_texts),
        cmocka_unit_test(test_vocabulary__turn_markers_are_control_whatever_the_file_says),
        cmocka_unit_test(test_vocabulary__a_merge_never_makes_a_control_token),
        cmocka_unit_test(test_vocabulary__loads_without_a_token_for_a_rare_control_character),
        cmocka_unit_test(test_vocabulary__of_equal_plain_texts_the_last_counts),
        cmocka_unit_test(test_vocabulary__adds_bos_by_family_unless_the_file_says_otherwise),
        cmocka_unit_test(test_vocabulary__without_types_all_tokens_are_normal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
