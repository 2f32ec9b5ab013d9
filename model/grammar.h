/* model/grammar.h: which tokens may come next, under a grammar.
 *
 *   text so far   {"a        state of its automaton   --walk of the tokens' tree-->  mask
 *   token         ge":       its bytes, one by one                                  next state
 *
 * A mask has a bit for each token of the vocabulary, set where the text with that token can still
 * become a text of the grammar; ends of generation where the text is one. Tokens are taken by their
 * bytes, wherever the grammar's borders fall in them. Masks are kept by state, so that one costs a
 * copy where a state comes again (inside a string, between the members of a list), and else a walk.
 *
 * Allocates in create and nowhere else. One thread at a time.
 */
#ifndef QUIRE_MODEL_GRAMMAR_H
#define QUIRE_MODEL_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct grammar;
struct grammar_rules;
struct token_trie;
struct vocabulary;
struct why;

enum grammar_form { GRAMMAR_GBNF, GRAMMAR_JSON_SCHEMA };

/* Reads, compiles, and works out the first mask. vocabulary and trie, which is of it, must outlive
 * *out, which the caller frees with grammar_free. STATUS_INVALID: what gbnf_parse,
 * json_schema_compile and grammar_program_create refuse, a text over GRAMMAR_BYTES_MAX, or a
 * grammar none of whose texts this vocabulary can begin. STATUS_NO_MEMORY. */
int grammar_create(const struct vocabulary *vocabulary, const struct token_trie *trie,
                   enum grammar_form form, struct slice text, struct grammar **out,
                   struct why *why);
void grammar_free(struct grammar *grammar); /* NULL too */

/* What one takes of the host's memory at most, over so many tokens. */
size_t grammar_bytes_max(uint32_t n_tokens);
/* uint32_t words of a mask; bit id % 32 of word id / 32 */
size_t grammar_mask_words(uint32_t n_tokens);
/* What may come now; valid until accept. */
const uint32_t *grammar_mask(const struct grammar *grammar);
bool grammar_may_end(const struct grammar *grammar); /* the text so far is one of the grammar */
bool grammar_may_go_on(const struct grammar *grammar); /* some token but an end may come */
/* Takes a token of the mask, no end of generation, and works out the next mask. STATUS_EXHAUSTED:
 * the grammar is too ambiguous to go on within GRAMMAR_WORK_MAX; the mask is then empty. A grammar
 * that neither may end nor go on is STATUS_PRECONDITION: no token of the vocabulary has a byte that
 * it needs, or its bounds cut all ways off. */
int grammar_accept(struct grammar *grammar, uint32_t id, struct why *why);

#endif
