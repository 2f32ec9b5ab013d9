/* model/special_table.h: tokens that are found in text as they stand, before any pre-tokenizer
 * sees it.
 *
 *   "Hi<|im_end|>\nBye"          the leftmost match wins; at one place the
 *      ^ at, len, id            longest; of equal texts the lowest id
 *
 * Texts are sorted, so a walk narrows a range of them byte by byte. Thread: read-only after
 * create. The bytes belong to the vocabulary and outlive the table.
 */
#ifndef QUIRE_MODEL_SPECIAL_TABLE_H
#define QUIRE_MODEL_SPECIAL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

/* of one such token's text: bounds the walk at each byte of a text */
#define SPECIAL_BYTES_MAX 1024

struct special {
    struct slice text; /* 1..SPECIAL_BYTES_MAX bytes */
    uint32_t id;
};

struct special_table {
    struct special *sorted; /* [n] by text, each text once */
    size_t n;
    bool first_bytes[256];  /* some text begins so */
};

enum special_outcome {
    SPECIAL_NONE,      /* nothing in `rest`; at = rest.len */
    SPECIAL_FOUND,     /* id at [at, at + len) */
    SPECIAL_UNDECIDED, /* what begins at `at` may become one when more text comes */
};

struct special_match {
    enum special_outcome outcome;
    size_t at, len;
    uint32_t id;
};

struct why;

/* Copies the array of n specials (any order, texts may repeat), not the texts. STATUS_NO_MEMORY. */
int special_table_init(struct special_table *table, const struct special *specials, size_t n,
                       struct why *why);
void special_table_release(struct special_table *table);
/* at_end: no text follows `rest`, so nothing is undecided. */
struct special_match special_table_search(const struct special_table *table, struct slice rest,
                                          bool at_end);
/* The token whose text is exactly this. */
bool special_table_find(const struct special_table *table, struct slice text, uint32_t *id);

#endif
