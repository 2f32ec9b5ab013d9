/* model/bpe.h: merges one piece of text into tokens: again and again the adjacent pair of lowest
 * rank, leftmost on ties.
 *
 *   symbols  |l|o|w|e|r|  ->  |lo|w|e|r|  ->  |low|e|r|  ->  |low|er|
 *
 * Symbols begin as the bytes of the piece, of SentencePiece as its characters; of the pairs that
 * tokens of one score make, rank is the same. A character that is no token is written as the tokens
 * of its bytes, or as the unknown token where the vocabulary lacks one of those.
 *
 * Short pieces scan their pairs, long ones keep a heap of (rank, left symbol): O(n log n) for n
 * bytes. Working memory grows to the longest piece seen, at most PIECE_WINDOW_BYTES. One thread
 * at a time.
 */
#ifndef QUIRE_MODEL_BPE_H
#define QUIRE_MODEL_BPE_H

#include <stdint.h>

#include "base/slice.h"

struct bpe_symbol;
struct token_buffer;
struct vocabulary;
struct why;

struct bpe {
    const struct vocabulary *vocabulary;
    struct bpe_symbol *symbols; /* [capacity], for long pieces */
    uint64_t *heap;             /* [2 * capacity] rank << 32 | left */
    size_t n_heap, capacity;
    uint64_t n_steps; /* pairs looked at or popped so far: tests bound it */
};

/* the vocabulary outlives it */
void bpe_init(struct bpe *bpe, const struct vocabulary *vocabulary);
void bpe_release(struct bpe *bpe);
/* Appends the tokens of a piece of at least 1 byte; `begin` is its offset in the text, for spans.
 * STATUS_INVALID (a byte that has no token: which and where), STATUS_TOO_LARGE, STATUS_NO_MEMORY;
 * some tokens may then have been appended. */
int bpe_encode(struct bpe *bpe, struct slice piece, uint64_t begin, struct token_buffer *out,
               struct why *why);

#endif
