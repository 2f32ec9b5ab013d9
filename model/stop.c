#include "model/stop.h"

#include <assert.h>
#include <string.h>

#include "base/status.h"
#include "base/utf8.h"

int stop_init(struct stop *stop, const struct slice *strings, size_t n, struct why *why)
{
    stop->n_strings = stop->n_held = 0;
    stop->matched = -1;
    if (n > STOP_STRINGS_MAX)
        return refuse(why, STATUS_INVALID, "%zu stop strings; at most %d are allowed", n,
                      STOP_STRINGS_MAX);
    for (size_t i = 0; i < n; i++) {
        struct slice string = strings[i];
        size_t bad = 0;
        if (string.len == 0)
            return refuse(why, STATUS_INVALID,
                          "stop string %zu is empty: it would end every answer "
                          "before its start; leave it out",
                          i);
        if (string.len > STOP_BYTES_MAX)
            return refuse(why, STATUS_INVALID,
                          "stop string %zu has %zu bytes; at most %d are allowed", i, string.len,
                          STOP_BYTES_MAX);
        if (!utf8_is_valid(string.bytes, string.len, &bad))
            return refuse(why, STATUS_INVALID,
                          "stop string %zu is not UTF-8: byte 0x%02X at offset %zu", i,
                          string.bytes[bad], bad);
        memcpy(stop->strings[i], string.bytes, string.len);
        stop->lengths[i] = (uint16_t)string.len;
    }
    stop->n_strings = (uint32_t)n;
    return STATUS_OK;
}

size_t stop_bound(const struct stop *stop, size_t len)
{
    return stop->n_held + len;
}

/* First occurrence of any string in text[0, len), the longest there; false when there is none. */
static bool find_match(const struct stop *stop, const uint8_t *text, size_t len, size_t *at,
                       int *matched)
{
    *at = len;
    *matched = -1;
    for (uint32_t i = 0; i < stop->n_strings; i++) {
        const uint8_t *found = memmem(text, len, stop->strings[i], stop->lengths[i]);
        if (found == NULL)
            continue;
        size_t here = (size_t)(found - text);
        bool is_longer = *matched >= 0 && here == *at && stop->lengths[i] > stop->lengths[*matched];
        if (here < *at || is_longer) {
            *at = here;
            *matched = (int)i;
        }
    }
    return *matched >= 0;
}

/* Length of the longest suffix of text[0, len) that begins some string without being one. */
static size_t held_len(const struct stop *stop, const uint8_t *text, size_t len)
{
    size_t longest = 0;
    for (uint32_t i = 0; i < stop->n_strings; i++) {
        size_t n = stop->lengths[i] - 1u;
        if (n > len)
            n = len;
        for (; n > longest; n--)
            if (memcmp(text + len - n, stop->strings[i], n) == 0)
                longest = n;
    }
    return longest;
}

size_t stop_push(struct stop *stop, struct slice text, uint8_t *out)
{
    if (stop->matched >= 0 || text.len == 0)
        return 0;
    memcpy(out, stop->held, stop->n_held);
    memcpy(out + stop->n_held, text.bytes, text.len);
    size_t n = stop->n_held + text.len, at;
    if (find_match(stop, out, n, &at, &stop->matched)) {
        stop->n_held = 0;
        return at;
    }
    size_t n_held = held_len(stop, out, n);
    assert(n_held < STOP_BYTES_MAX);
    memcpy(stop->held, out + n - n_held, n_held);
    stop->n_held = (uint32_t)n_held;
    return n - n_held;
}

size_t stop_flush(struct stop *stop, uint8_t *out)
{
    size_t n = stop->n_held;
    memcpy(out, stop->held, n);
    stop->n_held = 0;
    return n;
}
