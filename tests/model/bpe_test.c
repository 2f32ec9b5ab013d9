#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "model/bpe.h"
#include "model/merge_table.h"
#include "model/token_buffer.h"
#include "tests/model/vocabulary_fixture.h"

/* The rule as it is written: find the pair of lowest rank, leftmost on ties, again and again. */
static size_t encode_naively(const struct vocabulary *vocabulary, struct slice piece, uint32_t *ids)
{
    size_t n = piece.len;
    for (size_t i = 0; i < n; i++)
        ids[i] = vocabulary_byte_ids(vocabulary)[piece.bytes[i]];
    for (;;) {
        uint32_t lowest = MERGE_NONE, becomes = 0;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t merged;
            uint32_t rank =
                merge_table_find(vocabulary_merges(vocabulary), ids[i], ids[i + 1], &merged);
            if (rank < lowest) {
                lowest = rank;
                becomes = merged;
                at = i;
            }
        }
        if (lowest == MERGE_NONE)
            return n;
        ids[at] = becomes;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

/* A vocabulary of random merges over a few letters, so that pairs compete. */
static struct vocabulary *random_vocabulary(uint64_t *seed)
{
    struct source_fixture *fixture = source_fixture_create("gpt-2");
    for (int i = 0; i < 60; i++) {
        struct slice sides[2];
        char merge[64];
        size_t len = 0;
        for (int side = 0; side < 2; side++) {
            uint32_t n_made = fixture->source.n_tokens - 256;
            uint32_t pick = random_below(seed, 4 + n_made);
            sides[side] = fixture->tokens[pick < 4 ? 'a' + pick : 256 + pick - 4];
        }
        if (sides[0].len + sides[1].len > 40)
            continue;
        memcpy(merge, sides[0].bytes, sides[0].len);
        len = sides[0].len;
        merge[len++] = ' ';
        memcpy(merge + len, sides[1].bytes, sides[1].len);
        merge[len + sides[1].len] = '\0';
        source_fixture_merge(fixture, merge);
    }
    struct vocabulary *vocabulary;
    assert_int_equal(vocabulary_create(&fixture->source, &vocabulary, NULL), STATUS_OK);
    free(fixture);
    return vocabulary;
}

static void test_bpe__short_and_long_pieces_follow_the_written_rule(void **state)
{
    uint64_t seed = 3;
    for (int round = 0; round < 300; round++) {
        struct vocabulary *vocabulary = random_vocabulary(&seed);
        struct bpe bpe;
        bpe_init(&bpe, vocabulary);
        for (int text = 0; text < 20; text++) {
            uint8_t piece[200];
            uint32_t wanted[200];
            size_t len = 1 + random_below(&seed, text % 2 == 0 ? 34 : 200);
            for (size_t i = 0; i < len; i++)
                piece[i] = (uint8_t)('a' + random_below(&seed, 4));
            size_t n = encode_naively(vocabulary, slice_of(piece, len), wanted);

            struct token_buffer got;
            token_buffer_init(&got, 1000, true);
            assert_int_equal(bpe_encode(&bpe, slice_of(piece, len), 5, &got, NULL), STATUS_OK);
            assert_int_equal(got.n, n);
            assert_memory_equal(got.ids, wanted, n * sizeof *wanted);
            for (size_t i = 0, at = 5; i < n; i++) {
                assert_int_equal(got.spans[i].begin, at);
                at += vocabulary_bytes(vocabulary, got.ids[i]).len;
                assert_int_equal(got.spans[i].end, at);
            }
            token_buffer_release(&got);
        }
        bpe_release(&bpe);
        vocabulary_free(vocabulary);
    }
}

static void test_bpe__the_longest_piece_takes_few_steps(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("gpt-2");
    struct bpe bpe;
    struct token_buffer out;
    uint8_t *piece = malloc(65536);
    memset(piece, 'a', 65536);
    bpe_init(&bpe, vocabulary);
    token_buffer_init(&out, 65536, false);
    assert_int_equal(bpe_encode(&bpe, slice_of(piece, 65536), 0, &out, NULL), STATUS_OK);
    assert_int_equal(out.n, 65536 / 8);
    assert_true(bpe.n_steps <= 2 * 65536);
    token_buffer_release(&out);
    bpe_release(&bpe);
    free(piece);
    vocabulary_free(vocabulary);
}

static void test_bpe__only_llama_takes_a_whole_piece_that_no_merge_reaches(void **state)
{
    static const char *const families[] = {"llama-bpe", "qwen2"};
    for (int i = 0; i < 2; i++) {
        struct source_fixture *fixture = source_fixture_create(families[i]);
        uint32_t whole = source_fixture_token(fixture, "xyz", TOKEN_NORMAL);
        struct vocabulary *vocabulary;
        assert_int_equal(vocabulary_create(&fixture->source, &vocabulary, NULL), STATUS_OK);
        struct bpe bpe;
        struct token_buffer out;
        bpe_init(&bpe, vocabulary);
        token_buffer_init(&out, 8, false);
        assert_int_equal(bpe_encode(&bpe, slice_from("xyz"), 0, &out, NULL), STATUS_OK);
        assert_int_equal(out.n, i == 0 ? 1 : 3);
        assert_int_equal(out.ids[0], i == 0 ? whole : (uint32_t)'x');
        token_buffer_release(&out);
        bpe_release(&bpe);
        vocabulary_free(vocabulary);
        free(fixture);
    }
}

static void test_bpe__the_first_of_two_equal_merges_wins(void **state)
{
    struct merge_table table;
    assert_int_equal(merge_table_init(&table, 3, NULL), STATUS_OK);
    merge_table_add(&table, 1, 2, 0, 10);
    merge_table_add(&table, 1, 2, 1, 11);
    merge_table_add(&table, 2, 1, 2, 12);
    uint32_t merged;
    assert_int_equal(merge_table_find(&table, 1, 2, &merged), 0);
    assert_int_equal(merged, 10);
    assert_int_equal(merge_table_find(&table, 2, 1, &merged), 2);
    assert_int_equal(merge_table_find(&table, 2, 2, &merged), MERGE_NONE);
    merge_table_release(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bpe__short_and_long_pieces_follow_the_written_rule),
        cmocka_unit_test(test_bpe__the_longest_piece_takes_few_steps),
        cmocka_unit_test(test_bpe__only_llama_takes_a_whole_piece_that_no_merge_reaches),
        cmocka_unit_test(test_bpe__the_first_of_two_equal_merges_wins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
