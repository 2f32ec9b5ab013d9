/* Grammars over the small vocabulary, whose tokens 0 to 255 are the bytes. */
#ifndef QUIRE_TESTS_GRAMMAR_FIXTURE_H
#define QUIRE_TESTS_GRAMMAR_FIXTURE_H

#include "model/grammar.h"
#include "tests/model/vocabulary_fixture.h"

struct tongue { /* a vocabulary with its tree; free with tongue_free */
    struct vocabulary *vocabulary;
    struct token_trie *trie;
};

struct tongue tongue_create(void);
void tongue_free(struct tongue *tongue);
struct grammar *grammar_of(const struct tongue *tongue, enum grammar_form form, const char *text);
bool grammar_allows(const struct grammar *grammar, uint32_t id);
/* How many bytes of the text the grammar takes, one token each; ends: it may end there. */
size_t grammar_takes(const struct tongue *tongue, enum grammar_form form, const char *grammar,
                     const char *text, bool *ends);
/* The text is one of the grammar's, or is not. */
void assert_takes(enum grammar_form form, const char *grammar, const char *text);
void assert_takes_not(enum grammar_form form, const char *grammar, const char *text);
/* grammar_create refuses with STATUS_INVALID, and the words are in what it says. */
void assert_refuses(enum grammar_form form, const char *grammar, const char *words);
/* A text of the grammar by random tokens, NUL-terminated; at most `size` - 1 bytes, or it fails. */
size_t random_text_of(struct grammar *grammar, const struct tongue *tongue, uint64_t *state,
                      char *out, size_t size);

#endif
