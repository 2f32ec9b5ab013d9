/* model/character.h: one character of text that is known to be UTF-8. */
#ifndef QUIRE_MODEL_CHARACTER_H
#define QUIRE_MODEL_CHARACTER_H

#include <stddef.h>
#include <stdint.h>

#define CHARACTER_BLANK 0x2581 /* how SentencePiece writes U+0020, and so the same to it */

/* Its code point, of U+2581 that of a blank; *n: its bytes. */
static inline uint32_t character_at(const uint8_t *bytes, size_t *n)
{
    uint32_t c = bytes[0];
    if (c < 0x80) {
        *n = 1;
        return c;
    }
    if (c < 0xE0) {
        *n = 2;
        return (c & 0x1F) << 6 | (bytes[1] & 0x3Fu);
    }
    if (c < 0xF0) {
        *n = 3;
        c = (c & 0x0F) << 12 | (bytes[1] & 0x3Fu) << 6 | (bytes[2] & 0x3Fu);
        return c == CHARACTER_BLANK ? ' ' : c;
    }
    *n = 4;
    return (c & 0x07) << 18 | (bytes[1] & 0x3Fu) << 12 | (bytes[2] & 0x3Fu) << 6 |
           (bytes[3] & 0x3Fu);
}

#endif
