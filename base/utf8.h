/* base/utf8.h: UTF-8 of RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF. NUL is
 * a character. */
#ifndef QUIRE_BASE_UTF8_H
#define QUIRE_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True when all of it is valid; else *bad_offset (if given) is the first byte of the first bad
 * sequence. */
bool utf8_is_valid(const void *bytes, size_t len, size_t *bad_offset);

/* Length of the longest prefix that does not end inside a character that could still become valid;
 * at most 3 bytes less than len. Invalid bytes count as complete. */
size_t utf8_complete_len(const void *bytes, size_t len);

/* Copies with each maximal invalid subpart replaced by U+FFFD (WHATWG). out must hold 3 * len
 * bytes. Returns bytes written; *n_replaced (if given) counts. */
size_t utf8_repair(const void *bytes, size_t len, uint8_t *out, size_t *n_replaced);

/* Writes the bytes of a code point up to U+10FFFF (surrogates too, which are no UTF-8); returns how
 * many. */
size_t utf8_encode(uint32_t code, uint8_t out[4]);

#endif
