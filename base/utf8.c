#include "base/utf8.h"

#include <string.h>

enum sequence_kind { SEQUENCE_WHOLE, SEQUENCE_BROKEN, SEQUENCE_UNFINISHED };

/* How many bytes follow a lead byte, and what the first of them may be: that range alone shuts out
 * overlong forms, surrogates and what lies above U+10FFFF. */
static int lead_of(uint8_t lead, uint8_t *low, uint8_t *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (lead >= 0xC2 && lead <= 0xDF)
        return 1;
    if (lead >= 0xE0 && lead <= 0xEF) {
        if (lead == 0xE0)
            *low = 0xA0;
        else if (lead == 0xED)
            *high = 0x9F;
        return 2;
    }
    if (lead >= 0xF0 && lead <= 0xF4) {
        if (lead == 0xF0)
            *low = 0x90;
        else if (lead == 0xF4)
            *high = 0x8F;
        return 3;
    }
    return -1;
}

/* The character or maximal invalid subpart at the front of at least one byte; *n is its length. */
static enum sequence_kind sequence_at(const uint8_t *bytes, size_t len, size_t *n)
{
    *n = 1;
    if (bytes[0] < 0x80)
        return SEQUENCE_WHOLE;
    uint8_t low, high;
    int follow = lead_of(bytes[0], &low, &high);
    if (follow < 0)
        return SEQUENCE_BROKEN;
    for (int i = 0; i < follow; i++) {
        if (*n == len)
            return SEQUENCE_UNFINISHED;
        uint8_t byte = bytes[*n];
        if (byte < low || byte > high)
            return SEQUENCE_BROKEN;
        low = 0x80;
        high = 0xBF;
        ++*n;
    }
    return SEQUENCE_WHOLE;
}

static size_t ascii_run(const uint8_t *bytes, size_t len)
{
    size_t i = 0;
    for (; i + 8 <= len; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        if (word & UINT64_C(0x8080808080808080))
            break;
    }
    while (i < len && bytes[i] < 0x80)
        i++;
    return i;
}

bool utf8_is_valid(const void *bytes, size_t len, size_t *bad_offset)
{
    const uint8_t *at = bytes;
    size_t i = 0;
    while (i < len) {
        i += ascii_run(at + i, len - i);
        if (i == len)
            break;
        size_t n;
        if (sequence_at(at + i, len - i, &n) != SEQUENCE_WHOLE) {
            if (bad_offset != NULL)
                *bad_offset = i;
            return false;
        }
        i += n;
    }
    return true;
}

size_t utf8_complete_len(const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        const uint8_t *tail = at + len - back;
        if ((*tail & 0xC0) == 0x80)
            continue;
        size_t n;
        if (sequence_at(tail, back, &n) == SEQUENCE_UNFINISHED)
            return len - back;
        break;
    }
    return len;
}

size_t utf8_repair(const void *bytes, size_t len, uint8_t *out, size_t *n_replaced)
{
    const uint8_t *at = bytes;
    uint8_t *to = out;
    size_t replaced = 0;
    size_t i = 0;
    while (i < len) {
        size_t n;
        if (sequence_at(at + i, len - i, &n) == SEQUENCE_WHOLE) {
            memcpy(to, at + i, n);
            to += n;
        } else {
            memcpy(to, "\xEF\xBF\xBD", 3);
            to += 3;
            replaced++;
        }
        i += n;
    }
    if (n_replaced != NULL)
        *n_replaced = replaced;
    return (size_t)(to - out);
}

size_t utf8_encode(uint32_t code, uint8_t out[4])
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, code >>= 6)
        out[i] = (uint8_t)(0x80 | (code & 0x3f));
    out[0] = (uint8_t)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | code);
    return n;
}
