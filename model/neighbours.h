/* model/neighbours.h: which characters some token of a SentencePiece vocabulary holds side by side.
 *
 *   tokens "▁low", "er"      pairs  ▁l lo ow er        "▁lower now"  ->  |▁low|er|▁|n|ow|
 *
 * No merge ever crosses a border between two characters that stand together in no token, so text is
 * cut there and the pieces are merged each on its own: the same tokens as of the whole text, and a
 * border depends on two characters alone, never on how the text arrives. A piece of
 * PIECE_WINDOW_BYTES without any border is cut there, as pieces of a pretokenizer are.
 *
 * Thread: read-only after the last add.
 */
#ifndef QUIRE_MODEL_NEIGHBOURS_H
#define QUIRE_MODEL_NEIGHBOURS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct neighbours {
    uint64_t *pairs; /* [mask + 1] left << 32 | right; 0 when empty; at most half full */
    uint64_t mask, n;
    bool has_none; /* U+0000 beside U+0000, whose pair would look empty */
};

struct why;

int neighbours_init(struct neighbours *neighbours, struct why *why); /* STATUS_NO_MEMORY */
void neighbours_release(struct neighbours *neighbours);
/* Adds each pair of characters in the text of a token, which is valid UTF-8. STATUS_NO_MEMORY. */
int neighbours_add(struct neighbours *neighbours, struct slice token, struct why *why);

/* The length of the piece at the start of `rest`, which is valid UTF-8 and not empty; U+2581 counts
 * as a blank. at_end: nothing follows rest. Otherwise STATUS_AGAIN when no border is in hand (never
 * when rest holds a whole window). */
int neighbours_next(const struct neighbours *neighbours, struct slice rest, bool at_end,
                    size_t *len);

#endif
