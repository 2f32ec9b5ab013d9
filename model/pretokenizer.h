/* model/pretokenizer.h: cuts text into the pieces that byte-pair merging never crosses.
 *
 *   "Hello world  foo"  ->  |Hello| world| | foo|          pattern of the gpt-2 family
 *
 * Each family is one PCRE2 pattern that matches at every character (pretokenizer_family.h), so
 * pieces follow each other without gaps.
 *
 * A match sees PIECE_WINDOW_BYTES of text (less, down to a character border) and no more: a
 * longer piece is cut there. So pieces depend on the text alone, never on how it arrives, and
 * the work for one piece is bounded. Only a run without any border that long (64 KiB of one
 * letter, say) is cut otherwise than by the bare pattern.
 *
 * Thread: struct pretokenizer is read-only after create; struct piece_matcher belongs to one
 * thread at a time.
 */
#ifndef QUIRE_MODEL_PRETOKENIZER_H
#define QUIRE_MODEL_PRETOKENIZER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

#define PIECE_WINDOW_BYTES 65536

struct pretokenizer;
struct piece_matcher; /* PCRE2's match data, limits and JIT stack */
struct why;

/* name: tokenizer.ggml.pre; empty: the family `default`. STATUS_UNSUPPORTED lists the known names;
 * STATUS_NO_MEMORY. */
int pretokenizer_create(struct slice name, struct pretokenizer **out, struct why *why);
void pretokenizer_free(struct pretokenizer *pretokenizer);
/* a whole piece that is a token stays whole */
bool pretokenizer_ignores_merges(const struct pretokenizer *pretokenizer);
/* unless the file says otherwise */
bool pretokenizer_adds_bos(const struct pretokenizer *pretokenizer);

int piece_matcher_create(const struct pretokenizer *pretokenizer, struct piece_matcher **out,
                         struct why *why);
void piece_matcher_free(struct piece_matcher *matcher);

/* The length of the piece at the start of `rest`, which is valid UTF-8 and not empty. at_end:
 * nothing follows rest. Otherwise STATUS_AGAIN when the border is not decided by the text in
 * hand (never when rest holds a whole window). STATUS_INVALID when the pattern runs over its
 * limits. */
int pretokenizer_next(const struct pretokenizer *pretokenizer, struct piece_matcher *matcher,
                      struct slice rest, bool at_end, size_t *len, struct why *why);

#endif
