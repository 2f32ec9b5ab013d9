#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "limits.h"
#include "model/gbnf.h"
#include "model/grammar_states.h"
#include "model/token_trie.h"
#include "tests/model/grammar_fixture.h"

/* --- the tree of tokens --- */

static void test_token_trie__has_each_token_once_on_the_way_of_its_bytes(void **state)
{
    struct tongue tongue = tongue_create();
    const struct token_trie *trie = tongue.trie;
    uint32_t n_tokens = vocabulary_n_tokens(tongue.vocabulary);
    uint8_t *seen = calloc(n_tokens, 1), path[TOKEN_BYTES_MAX];
    for (uint32_t i = 0; i < trie->n_nodes; i++) {
        const struct trie_node *node = &trie->nodes[i];
        path[node->depth - 1] = node->byte;
        assert_true(node->end > i && node->end <= trie->n_nodes);
        for (uint32_t j = i + 1; j < node->end; j++)
            assert_true(trie->nodes[j].depth > node->depth);
        for (uint32_t t = node->first_token; t < node[1].first_token; t++) {
            assert_true(slice_equal(vocabulary_bytes(tongue.vocabulary, trie->ids[t]),
                                    slice_of(path, node->depth)));
            seen[trie->ids[t]]++;
        }
    }
    for (uint32_t id = 0; id < n_tokens; id++)
        assert_int_equal(seen[id], !vocabulary_is_control(tongue.vocabulary, id) &&
                                       !vocabulary_is_end_of_generation(tongue.vocabulary, id));
    free(seen);
    tongue_free(&tongue);
}

/* --- masks --- */

static const char words[] = "root ::= word (\" \" word)*\n"
                            "word ::= \"hello\" | \"world\" | \"he\" | [aé]{1,3} | \"!\"{2,}";

/* Whether the automaton alone goes on with these bytes. */
static bool goes_on(struct grammar_states *states, uint32_t from, struct slice bytes)
{
    for (size_t i = 0; i < bytes.len && from != STATE_DEAD; i++)
        from = grammar_states_next(states, from, bytes.bytes[i]);
    return from != STATE_DEAD;
}

/* The mask against each token tried alone, along random texts. */
static void test_grammar__a_mask_is_what_each_token_tried_alone_gives(void **state)
{
    struct tongue tongue = tongue_create();
    struct grammar_rules rules;
    struct grammar_program program;
    struct grammar_states states;
    uint64_t random = 7;
    uint32_t n_tokens = vocabulary_n_tokens(tongue.vocabulary);

    grammar_rules_init(&rules);
    assert_int_equal(gbnf_parse(slice_from(words), &rules, NULL), STATUS_OK);
    assert_int_equal(grammar_program_create(&rules, &program, NULL), STATUS_OK);
    assert_int_equal(grammar_states_create(&program, &states, NULL), STATUS_OK);
    for (int again = 0; again < 20; again++) {
        struct grammar *grammar = grammar_of(&tongue, GRAMMAR_GBNF, words);
        uint32_t at = grammar_states_start(&states);
        for (int n = 0; n < 30; n++) {
            uint32_t next = VOCABULARY_NO_TOKEN, n_allowed = 0;
            for (uint32_t id = 0; id < n_tokens; id++) {
                struct slice bytes = vocabulary_bytes(tongue.vocabulary, id);
                bool is_end = vocabulary_is_end_of_generation(tongue.vocabulary, id);
                bool want = is_end ? grammar_states_may_end(&states, at)
                                   : !vocabulary_is_control(tongue.vocabulary, id) &&
                                         goes_on(&states, at, bytes);
                assert_int_equal(grammar_allows(grammar, id), want);
                n_allowed += want && !is_end;
                if (want && !is_end && random_below(&random, n_allowed) == 0)
                    next = id;
            }
            assert_int_equal(grammar_may_go_on(grammar), n_allowed > 0);
            if (next == VOCABULARY_NO_TOKEN)
                break;
            struct slice bytes = vocabulary_bytes(tongue.vocabulary, next);
            for (size_t i = 0; i < bytes.len; i++)
                at = grammar_states_next(&states, at, bytes.bytes[i]);
            assert_int_equal(grammar_accept(grammar, next, NULL), STATUS_OK);
        }
        grammar_free(grammar);
    }
    grammar_states_release(&states);
    grammar_program_release(&program);
    grammar_rules_release(&rules);
    tongue_free(&tongue);
}

static void test_grammar__a_token_may_cross_borders_of_the_grammar(void **state)
{
    struct tongue tongue = tongue_create();
    struct grammar *grammar =
        grammar_of(&tongue, GRAMMAR_GBNF, "root ::= \"h\" x \"wor\" \"ld\"\nx ::= \"ello\" \" \"");
    uint32_t hello, world;
    assert_true(vocabulary_find_plain(tongue.vocabulary, slice_from("hello"), &hello));
    assert_true(vocabulary_find_plain(tongue.vocabulary, slice_from(" world"), &world));
    assert_true(grammar_allows(grammar, hello));
    assert_false(grammar_allows(grammar, world));
    assert_false(grammar_allows(grammar, FIXTURE_IM_START)); /* control: never */
    assert_int_equal(grammar_accept(grammar, hello, NULL), STATUS_OK);
    assert_true(grammar_allows(grammar, world));
    assert_false(grammar_may_end(grammar));
    assert_int_equal(grammar_accept(grammar, world, NULL), STATUS_OK);
    assert_true(grammar_may_end(grammar));
    assert_false(grammar_may_go_on(grammar));
    assert_true(grammar_allows(grammar, FIXTURE_END_OF_TEXT));
    grammar_free(grammar);
    tongue_free(&tongue);
}

/* --- states --- */

/* Frames and states do not all fit: what is behind is forgotten, what is open is not. */
static void test_grammar__a_long_text_goes_through_full_pools(void **state)
{
    static const char text[] = "root ::= pair{0,3000}\n"
                               "pair ::= \"(\" pair \")\" | [a-z] [0-9]{0,9} \"!\"";
    struct tongue tongue = tongue_create();
    struct grammar *grammar = grammar_of(&tongue, GRAMMAR_GBNF, text);
    uint64_t random = 3;
    for (int i = 0; i < 3000; i++) {
        char piece[64] = "";
        int depth = (int)random_below(&random, 12);
        memset(piece, '(', (size_t)depth);
        piece[depth] = (char)('a' + random_below(&random, 26));
        size_t n = (size_t)depth + 1;
        for (uint32_t d = random_below(&random, 10); d > 0; d--)
            piece[n++] = (char)('0' + random_below(&random, 10));
        piece[n++] = '!';
        memset(piece + n, ')', (size_t)depth);
        n += (size_t)depth;
        for (size_t j = 0; j < n; j++) {
            assert_true(grammar_allows(grammar, (uint8_t)piece[j]));
            assert_int_equal(grammar_accept(grammar, (uint8_t)piece[j], NULL), STATUS_OK);
        }
        assert_true(grammar_may_end(grammar));
    }
    assert_false(grammar_may_go_on(grammar));
    grammar_free(grammar);
    tongue_free(&tongue);
}

static void test_grammar__depth_is_bounded_and_what_is_open_can_be_closed(void **state)
{
    struct tongue tongue = tongue_create();
    struct grammar *grammar =
        grammar_of(&tongue, GRAMMAR_GBNF, "root ::= \"(\" root \")\" | \"x\"");
    int depth = 0;
    while (grammar_allows(grammar, '(') && depth < 100000) {
        assert_int_equal(grammar_accept(grammar, '(', NULL), STATUS_OK);
        depth++;
    }
    assert_in_range(depth, 1000, 5000);
    assert_int_equal(grammar_accept(grammar, 'x', NULL), STATUS_OK);
    for (; depth > 0; depth--)
        assert_int_equal(grammar_accept(grammar, ')', NULL), STATUS_OK);
    assert_true(grammar_may_end(grammar));
    grammar_free(grammar);
    tongue_free(&tongue);
}

/* Alternatives that all begin alike: as many parses as the limit, and one more. */
static void test_grammar__parses_of_the_limit_and_one_more(void **state)
{
    for (int over = 0; over < 2; over++) {
        size_t n = GRAMMAR_PARSES_MAX + (size_t)over;
        char *text = malloc(16 + 16 * n), *at = stpcpy(text, "root ::= ");
        for (size_t i = 0; i < n; i++)
            at += sprintf(at, "%s[a-c]{%zu}", i > 0 ? "|" : "", 1 + i % 3);
        if (over)
            assert_refuses(GRAMMAR_GBNF, text, "more than 1024 ways at once");
        else
            assert_takes(GRAMMAR_GBNF, text, "abc");
        free(text);
    }
}

/* Each character adds a way in which all before may be read. */
static void test_grammar__ambiguity_that_grows_is_bounded_and_told(void **state)
{
    struct tongue tongue = tongue_create();
    struct grammar *grammar =
        grammar_of(&tongue, GRAMMAR_GBNF, "root ::= s \"!\"\ns ::= \"a\" s s | \"a\"");
    struct why why = {.text = ""};
    uint32_t n = 0;
    for (; n < 2 * GRAMMAR_PARSES_MAX && grammar_accept(grammar, 'a', &why) == STATUS_OK; n++)
        ;
    assert_in_range(n, GRAMMAR_PARSES_MAX / 4, GRAMMAR_PARSES_MAX);
    assert_non_null(strstr(why.text, "in more ways than are followed at once"));
    assert_false(grammar_may_go_on(grammar));
    grammar_free(grammar);
    tongue_free(&tongue);
}

/* Many parses, each with much to go through for every byte of every token. */
static void test_grammar__a_mask_that_takes_too_long_is_refused(void **state)
{
    for (uint32_t n = 5; n <= 60; n += 55) {
        char text[8192], *at = stpcpy(text, "root ::= x{3}\nx ::= ");
        for (uint32_t i = 0; i < n; i++)
            at += sprintf(at, "%s[^%c] o \"!\"", i > 0 ? "|" : "", '0' + (char)(i % 40));
        at = stpcpy(at, "\no ::= ");
        for (uint32_t i = 0; i < 120; i++)
            at = stpcpy(at, "\"\"? ");
        if (n == 5)
            assert_takes(GRAMMAR_GBNF, text, "x!z!y!");
        else
            assert_refuses(GRAMMAR_GBNF, text, "more than 262144 steps");
    }
}

static void test_grammar__a_text_that_no_token_can_say_is_refused(void **state)
{
    struct source_fixture *fixture = source_fixture_create("gpt-2");
    source_fixture_fill(fixture);
    fixture->types['\x07'] = TOKEN_CONTROL;
    struct tongue tongue;
    struct grammar *grammar = NULL;
    struct why why = {.text = ""};
    assert_int_equal(vocabulary_create(&fixture->source, &tongue.vocabulary, NULL), STATUS_OK);
    assert_int_equal(token_trie_create(tongue.vocabulary, &tongue.trie, NULL), STATUS_OK);
    assert_int_equal(grammar_create(tongue.vocabulary, tongue.trie, GRAMMAR_GBNF,
                                    slice_from("root ::= \"\\x07\""), &grammar, &why),
                     STATUS_INVALID);
    assert_non_null(strstr(why.text, "no token of this model"));
    grammar = grammar_of(&tongue, GRAMMAR_GBNF, "root ::= \"a\" \"\\x07\"");
    assert_int_equal(grammar_accept(grammar, 'a', &why), STATUS_PRECONDITION);
    assert_non_null(strstr(why.text, "after 1 tokens"));
    grammar_free(grammar);
    tongue_free(&tongue);
    free(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token_trie__has_each_token_once_on_the_way_of_its_bytes),
        cmocka_unit_test(test_grammar__a_mask_is_what_each_token_tried_alone_gives),
        cmocka_unit_test(test_grammar__a_token_may_cross_borders_of_the_grammar),
        cmocka_unit_test(test_grammar__a_long_text_goes_through_full_pools),
        cmocka_unit_test(test_grammar__depth_is_bounded_and_what_is_open_can_be_closed),
        cmocka_unit_test(test_grammar__parses_of_the_limit_and_one_more),
        cmocka_unit_test(test_grammar__ambiguity_that_grows_is_bounded_and_told),
        cmocka_unit_test(test_grammar__a_mask_that_takes_too_long_is_refused),
        cmocka_unit_test(test_grammar__a_text_that_no_token_can_say_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
