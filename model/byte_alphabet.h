/* model/byte_alphabet.h: how byte-level vocabularies spell bytes as printable characters.
 *
 *   bytes 33..126, 161..172, 174..255   spell themselves (U+0021.., U+00A1.., U+00AE..)
 *   the other 68 in increasing order    U+0100, U+0101, ...: blank is U+0120, newline U+010A
 */
#ifndef QUIRE_MODEL_BYTE_ALPHABET_H
#define QUIRE_MODEL_BYTE_ALPHABET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

/* Writes the bytes that `text` spells; out holds text.len bytes. False when some character is
 * not of the alphabet (then out and *len mean nothing). */
bool byte_alphabet_decode(struct slice text, uint8_t *out, size_t *len);

/* Writes the character of one byte, 1 or 2 bytes of UTF-8; returns how many. */
size_t byte_alphabet_encode(uint8_t byte, uint8_t out[2]);

#endif
