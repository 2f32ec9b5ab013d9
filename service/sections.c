#include "service/sections.h"

#include "base/utf8.h"

#include <stdbool.h>

static bool is_continuation(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

/* Behind a whole line end; between \r and \n is inside of one. */
static bool is_line_cut(const uint8_t *bytes, size_t at)
{
    return bytes[at - 1] == '\n' || (bytes[at - 1] == '\r' && bytes[at] != '\n');
}

/* Behind a line end whose line holds nothing but blanks. */
static bool is_blank_line_cut(const uint8_t *bytes, size_t at)
{
    if (!is_line_cut(bytes, at))
        return false;
    size_t i = at - 1;
    if (i > 0 && bytes[i] == '\n' && bytes[i - 1] == '\r')
        i--;
    while (i > 0 && is_blank(bytes[i - 1]))
        i--;
    return i > 0 && (bytes[i - 1] == '\n' || bytes[i - 1] == '\r');
}

static bool is_word_cut(const uint8_t *bytes, size_t at)
{
    return (is_blank(bytes[at - 1]) && !is_blank(bytes[at])) || is_line_cut(bytes, at);
}

/* Ideographic full stop, and full-width ! and ?: no blank follows them. */
static bool ends_wide_sentence(const uint8_t *bytes, size_t at)
{
    if (at < 3)
        return false;
    const uint8_t *last = bytes + at - 3;
    return (last[0] == 0xe3 && last[1] == 0x80 && last[2] == 0x82) ||
           (last[0] == 0xef && last[1] == 0xbc && (last[2] == 0x81 || last[2] == 0x9f));
}

static bool is_sentence_cut(const uint8_t *bytes, size_t at)
{
    if (ends_wide_sentence(bytes, at))
        return true;
    if (!is_word_cut(bytes, at))
        return false;
    size_t i = at;
    while (i > 0 && (is_blank(bytes[i - 1]) || bytes[i - 1] == '\n' || bytes[i - 1] == '\r'))
        i--;
    while (i > 0 && (bytes[i - 1] == '"' || bytes[i - 1] == '\'' || bytes[i - 1] == ')'))
        i--;
    return i > 0 && (bytes[i - 1] == '.' || bytes[i - 1] == '!' || bytes[i - 1] == '?');
}

/* Bytes of the character, or of the invalid sequence, at the front of text: an invalid one is the
 * longest run that some character begins with, and at least one. */
static size_t sequence_len(struct slice text)
{
    for (size_t n = 1; n <= 4 && n <= text.len; n++)
        if (utf8_is_valid(text.bytes, n, NULL))
            return n;
    size_t n = 1;
    while (n < 3 && n < text.len && utf8_complete_len(text.bytes, n + 1) == 0)
        n++;
    return n;
}

/* The last place at or before `at` where a sequence begins. A byte that continues belongs to a lead
 * at most three bytes before it, or stands alone. */
static size_t border_before(struct slice text, size_t at)
{
    size_t from = at;
    for (size_t back = 1; back <= 3 && back <= at && is_continuation(text.bytes[from]); back++)
        from--;
    if (is_continuation(text.bytes[from]))
        return at;
    while (from < at) {
        size_t n = sequence_len(slice_of(text.bytes + from, text.len - from));
        if (from + n > at)
            break;
        from += n;
    }
    return from;
}

size_t sections_cut(struct slice text, size_t limit)
{
    static bool (*const is_cut[])(const uint8_t *, size_t) = {is_blank_line_cut, is_line_cut,
                                                              is_sentence_cut, is_word_cut};
    if (text.len <= limit)
        return text.len;
    for (size_t kind = 0; kind < sizeof is_cut / sizeof is_cut[0]; kind++)
        for (size_t at = limit; at > limit / 2; at--)
            if (is_cut[kind](text.bytes, at))
                return at;
    size_t cut = border_before(text, limit);
    return cut > 0 ? cut : sequence_len(text);
}

size_t sections_unrepaired(struct slice text, size_t repaired)
{
    static const size_t replacement_bytes = 3;
    size_t from = 0; /* both count up to the same border: in text, and in what it becomes */
    size_t to = 0;

    while (from < text.len) {
        size_t valid = 0;
        struct slice rest = slice_of(text.bytes + from, text.len - from);
        if (utf8_is_valid(rest.bytes, rest.len, &valid))
            valid = rest.len;
        if (repaired - to < valid)
            return border_before(text, from + (repaired - to));
        from += valid;
        to += valid;
        if (repaired - to < replacement_bytes || from == text.len)
            break;
        from += sequence_len(slice_of(text.bytes + from, text.len - from));
        to += replacement_bytes;
    }
    return from;
}
