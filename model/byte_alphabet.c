#include "model/byte_alphabet.h"

/* The bytes without a printable character of their own: 0..32, 127..160 and 173. */
enum {
    STANDS_FOR_0 = 256,
    STANDS_FOR_127 = STANDS_FOR_0 + 33,
    STANDS_FOR_173 = STANDS_FOR_127 + 34,
};

static bool spells_itself(uint32_t byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) ||
           (byte >= 174 && byte <= 255);
}

static bool byte_of_character(uint32_t character, uint8_t *out)
{
    if (character < STANDS_FOR_0) {
        *out = (uint8_t)character;
        return spells_itself(character);
    }
    if (character < STANDS_FOR_127)
        *out = (uint8_t)(character - STANDS_FOR_0);
    else if (character < STANDS_FOR_173)
        *out = (uint8_t)(character - STANDS_FOR_127 + 127);
    else
        *out = 173;
    return character <= STANDS_FOR_173;
}

bool byte_alphabet_decode(struct slice text, uint8_t *out, size_t *len)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; n++) {
        uint32_t character = text.bytes[i++];
        if (character >= 0x80) {
            /* the alphabet ends at U+0143: two bytes of UTF-8 reach it */
            if (character < 0xC2 || character > 0xC5 || i == text.len ||
                (text.bytes[i] & 0xC0) != 0x80)
                return false;
            character = (character & 0x1F) << 6 | (text.bytes[i++] & 0x3Fu);
        }
        if (!byte_of_character(character, &out[n]))
            return false;
    }
    *len = n;
    return true;
}

size_t byte_alphabet_encode(uint8_t byte, uint8_t out[2])
{
    uint32_t character = byte;
    if (byte <= 32)
        character = STANDS_FOR_0 + byte;
    else if (byte >= 127 && byte <= 160)
        character = STANDS_FOR_127 + (byte - 127u);
    else if (byte == 173)
        character = STANDS_FOR_173;

    if (character < 0x80) {
        out[0] = (uint8_t)character;
        return 1;
    }
    out[0] = (uint8_t)(0xC0 | character >> 6);
    out[1] = (uint8_t)(0x80 | (character & 0x3F));
    return 2;
}
