/* model/stop.h: ends a text at the first of some strings, wherever token borders fall.
 *
 *   stop "END"      pushes  "the E"   "N"   "D of"
 *                   shown   "the "    ""    (matched: the text is "the ")
 *
 * Works on text that comes out of detok, so both sides are whole characters and nothing shown
 * ends inside one. What could still become a stop string is held back, at most STOP_BYTES_MAX -
 * 1 bytes. After each push the strings are searched in what is held and what is new: the
 * earliest start wins, at one place the longest. One thread at a time; no allocation.
 */
#ifndef QUIRE_MODEL_STOP_H
#define QUIRE_MODEL_STOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "limits.h"

struct why;

struct stop {
    uint32_t n_strings, n_held;
    int matched;                                /* index of the string that ended the text, -1 */
    uint16_t lengths[STOP_STRINGS_MAX];
    uint8_t strings[STOP_STRINGS_MAX][STOP_BYTES_MAX];
    uint8_t held[STOP_BYTES_MAX];               /* [n_held] a proper prefix of some string */
};

/* Copies the strings; none is allowed, then all is shown at once. STATUS_INVALID: too many,
 * empty, too long, not UTF-8. */
int stop_init(struct stop *stop, const struct slice *strings, size_t n, struct why *why);
/* Bytes that a push of `len` bytes, and the flush, write at most. */
size_t stop_bound(const struct stop *stop, size_t len);
/* Takes text and writes what can be shown; out holds stop_bound(stop, text.len) bytes and is not
 * text itself. Returns bytes written. When stop->matched becomes >= 0 the text has ended: what
 * follows the match is dropped, later pushes write nothing. */
size_t stop_push(struct stop *stop, struct slice text, uint8_t *out);
/* The end without a match: writes what is held. */
size_t stop_flush(struct stop *stop, uint8_t *out);

#endif
