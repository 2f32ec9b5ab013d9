/* Small vocabularies and random texts for the tests of model/. */
#ifndef QUIRE_TESTS_VOCABULARY_FIXTURE_H
#define QUIRE_TESTS_VOCABULARY_FIXTURE_H

#include <stdint.h>

#include "base/status.h"
#include "model/vocabulary.h"

enum { FIXTURE_LIST_MAX = 1024, FIXTURE_TEXT_BYTES = 1 << 18 };

/* A source that owns its lists: 256 byte tokens (id = byte), then whatever is added. Change it
 * before
 * vocabulary_create. */
struct source_fixture {
    struct vocabulary_source source;
    struct slice tokens[FIXTURE_LIST_MAX], merges[FIXTURE_LIST_MAX];
    int32_t types[FIXTURE_LIST_MAX];
    double scores[FIXTURE_LIST_MAX];
    char text[FIXTURE_TEXT_BYTES];
    size_t n_text;
};

struct source_fixture *source_fixture_create(const char *pre); /* free() it */
uint32_t source_fixture_token(struct source_fixture *fixture, const char *text,
                              enum token_kind kind);
/* "h e": adds the merge, and the token that it makes when there is none. */
void source_fixture_merge(struct source_fixture *fixture, const char *merge);

/* A vocabulary of a few English and UTF-8 merges and these specials: */
enum {
    FIXTURE_END_OF_TEXT = 256, /* <|endoftext|> control, eos */
    FIXTURE_IM_START,          /* <|im_start|> control, bos (not added) */
    FIXTURE_IM_END,            /* <|im_end|> control */
    FIXTURE_TOOL,              /* <tool> user-defined */
    FIXTURE_TOOL_BOX,          /* <tool>box user-defined */
    FIXTURE_FIRST_MERGED,
};
void source_fixture_fill(struct source_fixture *fixture);
struct vocabulary *small_vocabulary(const char *pre); /* asserts; free with vocabulary_free */

enum { FIXTURE_FAMILIES = 10 };
/* one name of each pre-tokenizer family */
/* SentencePiece: <unk>, <s>, </s>, the 256 bytes, then whatever is added. */
enum {
    PIECE_UNKNOWN,
    PIECE_BOS,
    PIECE_EOS,
    PIECE_FIRST_BYTE,
    PIECE_FIRST = PIECE_FIRST_BYTE + 256,
};
struct source_fixture *piece_fixture_create(void); /* free() it */
uint32_t piece_fixture_token(struct source_fixture *fixture, const char *text,
                             enum token_kind kind, double score);
/* a few English and UTF-8 pieces, <tool> user-defined */
void piece_fixture_fill(struct source_fixture *fixture);

extern const char *const fixture_families[FIXTURE_FAMILIES];

uint64_t random_next(uint64_t *state);
uint32_t random_below(uint64_t *state, uint32_t n);
/* n_fragments of scripts, blanks, digits, marks, emoji, specials: valid UTF-8. Returns its length;
 * out holds 16 bytes a fragment. */
size_t random_text(uint64_t *state, size_t n_fragments, uint8_t *out);

#endif
