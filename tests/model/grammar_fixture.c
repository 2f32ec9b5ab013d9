#include "tests/model/grammar_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "model/token_trie.h"

struct tongue tongue_create(void)
{
    struct tongue tongue = {.vocabulary = small_vocabulary("gpt-2")};
    assert_int_equal(token_trie_create(tongue.vocabulary, &tongue.trie, NULL), STATUS_OK);
    return tongue;
}

void tongue_free(struct tongue *tongue)
{
    token_trie_free(tongue->trie);
    vocabulary_free(tongue->vocabulary);
}

struct grammar *grammar_of(const struct tongue *tongue, enum grammar_form form, const char *text)
{
    struct why why = {.text = ""};
    struct grammar *grammar = NULL;
    int status = grammar_create(tongue->vocabulary, tongue->trie, form, slice_from(text), &grammar,
                                &why);
    if (status < 0)
        print_message("%s\n", why.text);
    assert_int_equal(status, STATUS_OK);
    return grammar;
}

bool grammar_allows(const struct grammar *grammar, uint32_t id)
{
    return (grammar_mask(grammar)[id / 32] >> id % 32 & 1) != 0;
}

size_t grammar_takes(const struct tongue *tongue, enum grammar_form form, const char *text,
                     const char *said, bool *ends)
{
    struct grammar *grammar = grammar_of(tongue, form, text);
    size_t n = 0, len = strlen(said);
    while (n < len && grammar_allows(grammar, (uint8_t)said[n])) {
        grammar_accept(grammar, (uint8_t)said[n], NULL);
        n++;
    }
    *ends = grammar_may_end(grammar);
    assert_int_equal(*ends, grammar_allows(grammar, FIXTURE_END_OF_TEXT));
    grammar_free(grammar);
    return n;
}

void assert_takes(enum grammar_form form, const char *grammar, const char *text)
{
    struct tongue tongue = tongue_create();
    bool ends;
    size_t n = grammar_takes(&tongue, form, grammar, text, &ends);
    if (n < strlen(text) || !ends)
        fail_msg("%s: took %zu bytes of %s, and %s end there", grammar, n, text,
                 ends ? "may" : "may not");
    tongue_free(&tongue);
}

void assert_takes_not(enum grammar_form form, const char *grammar, const char *text)
{
    struct tongue tongue = tongue_create();
    bool ends;
    size_t n = grammar_takes(&tongue, form, grammar, text, &ends);
    if (n == strlen(text) && ends)
        fail_msg("%s: took %s", grammar, text);
    tongue_free(&tongue);
}

void assert_refuses(enum grammar_form form, const char *text, const char *words)
{
    struct tongue tongue = tongue_create();
    struct why why = {.text = ""};
    struct grammar *grammar = NULL;
    int status = grammar_create(tongue.vocabulary, tongue.trie, form, slice_from(text), &grammar,
                                &why);
    if (status == STATUS_OK)
        fail_msg("%.200s: was taken", text);
    assert_int_equal(status, STATUS_INVALID);
    if (strstr(why.text, words) == NULL)
        fail_msg("%.200s: \"%s\" does not say \"%s\"", text, why.text, words);
    tongue_free(&tongue);
}

size_t random_text_of(struct grammar *grammar, const struct tongue *tongue, uint64_t *state,
                      char *out, size_t size)
{
    size_t n = 0;
    uint32_t n_tokens = vocabulary_n_tokens(tongue->vocabulary);
    for (;;) {
        uint32_t id;
        do
            id = random_below(state, n_tokens);
        while (!grammar_allows(grammar, id));
        if (vocabulary_is_end_of_generation(tongue->vocabulary, id))
            break;
        struct slice bytes = vocabulary_bytes(tongue->vocabulary, id);
        assert_true(n + bytes.len < size);
        memcpy(out + n, bytes.bytes, bytes.len);
        n += bytes.len;
        grammar_accept(grammar, id, NULL);
        if (grammar_may_end(grammar) && !grammar_may_go_on(grammar))
            break;
    }
    out[n] = '\0';
    return n;
}
