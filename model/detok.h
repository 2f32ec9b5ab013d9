/* model/detok.h: token ids to text, one by one, never a part of a character.
 *
 *   tokens   |E4 BD|  |A0 E5|  |A5 BD|          bytes of each token
 *   text          ""      "你"      "好"         what a push may show; at most 3 bytes wait
 *
 * Where the vocabulary adds a space prefix (SentencePiece), the blank that a text begins with is
 * that prefix and shows as nothing; control tokens before it do not count.
 *
 * Bytes that are not UTF-8 become U+FFFD, one for each maximal invalid part. Control tokens show
 * nothing unless asked for. The texts of all pushes and the flush, joined, are the repaired text
 * of the joined bytes without that blank.
 */
#ifndef QUIRE_MODEL_DETOK_H
#define QUIRE_MODEL_DETOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct vocabulary;
struct why;

#define DETOK_PENDING_BYTES 3
#define DETOK_FLUSH_BYTES 3 /* that detok_flush writes at most */

struct detok {
    const struct vocabulary *vocabulary;
    bool shows_control;
    bool drops_blank; /* nothing was shown yet of a text that begins here */
    uint8_t n_pending;
    uint8_t pending[DETOK_PENDING_BYTES]; /* the start of a character */
};

/* begins_text: what comes is a text of its own, and not the rest of one. */
void detok_init(struct detok *detok, const struct vocabulary *vocabulary, bool shows_control,
                bool begins_text);
/* The bytes that a token adds, repaired or not; id below the vocabulary's n_tokens. They belong to
 * the vocabulary. A token is given to this or to detok_push, not to both. */
struct slice detok_bytes(struct detok *detok, uint32_t id);
/* Bytes that a push of this token writes at most; id below the vocabulary's n_tokens. */
size_t detok_bound(const struct vocabulary *vocabulary, uint32_t id);
/* Writes what can be shown now; out holds detok_bound bytes. id below the vocabulary's n_tokens.
 * Returns bytes written. */
size_t detok_push(struct detok *detok, uint32_t id, uint8_t *out);
/* The end: what still waits becomes U+FFFD. Returns bytes written; the detok starts anew. */
size_t detok_flush(struct detok *detok, uint8_t out[DETOK_FLUSH_BYTES]);

/* A whole text at once. STATUS_INVALID (an id beyond the vocabulary: which), STATUS_TOO_LARGE
 * (over max_bytes), STATUS_NO_MEMORY. The caller frees *out with free(). */
int detok_all(const struct vocabulary *vocabulary, const uint32_t *ids, size_t n,
              bool shows_control, size_t max_bytes, uint8_t **out, size_t *len, struct why *why);

#endif
