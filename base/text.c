#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

#define SHOWN_BYTES 80 /* of a bad value in a refusal: the sentence must keep its end */
#define ID_BYTES 16    /* the same of what is no token id */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

int text_parse_i64(const char *text, int64_t min, int64_t max, int64_t *out, struct why *why)
{
    const char *digits = text + (*text == '-' || *text == '+');
    char *end = NULL;
    errno = 0;
    long long value = is_digit(*digits) ? strtoll(text, &end, 10) : 0;
    if (end == NULL || *end != 0 || errno == ERANGE || value < min || value > max)
        return refuse(why, STATUS_INVALID,
                      "\"%.*s\" is not a whole number from %" PRId64 " to %" PRId64, SHOWN_BYTES,
                      text, min, max);
    *out = value;
    return STATUS_OK;
}

int text_parse_f64(const char *text, double min, double max, double *out, struct why *why)
{
    char *end = NULL;
    double value = 0;
    /* Only digits, signs, a point and an exponent: strtod would also take blanks, hexadecimal, inf
     * and nan. */
    if (*text != 0 && strspn(text, "0123456789+-.eE") == strlen(text))
        value = strtod(text, &end);
    if (end == NULL || end == text || *end != 0 || !isfinite(value) || value < min || value > max)
        return refuse(why, STATUS_INVALID, "\"%.*s\" is not a number from %g to %g", SHOWN_BYTES,
                      text, min, max);
    *out = value;
    return STATUS_OK;
}

/* The power of 1024 that a suffix stands for, as a shift; -1 for no suffix that we know. */
static int shift_of(const char *suffix)
{
    static const char letters[] = "kmgtpe";
    int shift = 0;
    if (*suffix == ' ')
        suffix++;
    if (*suffix != 0) {
        const char *letter = strchr(letters, *suffix | 0x20);
        if (letter != NULL) {
            shift = 10 * (int)(letter - letters + 1);
            suffix++;
            if (*suffix == 'i' || *suffix == 'I')
                suffix++;
        }
    }
    if (*suffix == 'b' || *suffix == 'B')
        suffix++;
    return *suffix == 0 ? shift : -1;
}

int text_parse_bytes(const char *text, uint64_t *out, struct why *why)
{
    size_t whole = strspn(text, "0123456789");
    const char *at = text + whole;
    long double fraction = 0;
    if (whole > 0 && *at == '.' && is_digit(at[1])) {
        long double place = 0.1L;
        for (at++; is_digit(*at); at++, place /= 10)
            fraction += (*at - '0') * place;
    }
    int shift = whole > 0 ? shift_of(at) : -1;
    if (shift < 0)
        return refuse(why, STATUS_INVALID,
                      "\"%.*s\" is not a size in bytes, such as 4096, 512K, 1.5g or 8GiB",
                      SHOWN_BYTES, text);
    errno = 0;
    unsigned long long units = strtoull(text, NULL, 10);
    if (errno == ERANGE || units > UINT64_MAX >> shift)
        return refuse(why, STATUS_INVALID,
                      "\"%.*s\" is more than the 16 EiB that 64 bits can count", SHOWN_BYTES, text);
    uint64_t part = (uint64_t)(fraction * (long double)(UINT64_C(1) << shift));
    uint64_t bytes = ((uint64_t)units << shift);
    *out = part > UINT64_MAX - bytes ? UINT64_MAX : bytes + part;
    return STATUS_OK;
}

/* Steps over blanks and at most one comma; true when there was any of them. */
static bool skip_separator(const char *text, size_t len, size_t *at, bool *comma)
{
    size_t start = *at;
    *comma = false;
    while (*at < len && (is_blank(text[*at]) || (text[*at] == ',' && !*comma))) {
        *comma |= text[*at] == ',';
        ++*at;
    }
    return *at > start;
}

static bool parse_id(const char *text, size_t len, size_t *at, uint32_t *out)
{
    size_t start = *at;
    uint64_t id = 0;
    while (*at < len && is_digit(text[*at]) && id <= UINT32_MAX) {
        id = id * 10 + (uint64_t)(text[*at] - '0');
        ++*at;
    }
    *out = (uint32_t)id;
    return *at > start && id <= UINT32_MAX;
}

/* The runs of digits: each id that is read takes one of them whole. */
static size_t ids_bound(const char *text, size_t len)
{
    size_t bound = 0;
    for (size_t i = 0; i < len; i++)
        bound += is_digit(text[i]) && (i == 0 || !is_digit(text[i - 1]));
    return bound;
}

static int append_ids(const char *text, size_t len, uint32_t *ids, size_t *n_ids, size_t *bad)
{
    size_t at = 0;
    bool comma = false;
    skip_separator(text, len, &at, &comma);
    if (comma || at == len) {
        *bad = 0;
        return STATUS_INVALID;
    }
    while (at < len) {
        *bad = at;
        uint32_t id;
        if (!parse_id(text, len, &at, &id))
            return STATUS_INVALID;
        ids[(*n_ids)++] = id;
        *bad = at;
        bool parted = skip_separator(text, len, &at, &comma);
        if (at < len ? !parted : comma)
            return STATUS_INVALID;
    }
    return STATUS_OK;
}

int text_parse_ids(const char *text, size_t len, uint32_t **out, size_t *n, struct why *why)
{
    size_t bound = ids_bound(text, len);
    if (bound == 0)
        return refuse(why, STATUS_INVALID, "there is no token id in this text of %zu bytes", len);
    if (bound > SIZE_MAX / sizeof **out - *n)
        return refuse(why, STATUS_NO_MEMORY, "no memory for %zu token ids", bound);
    uint32_t *ids = realloc(*out, (*n + bound) * sizeof *ids);
    if (ids == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for %zu token ids", bound);
    *out = ids;
    size_t n_new = 0;
    size_t bad = 0;
    if (append_ids(text, len, ids + *n, &n_new, &bad) < 0) {
        size_t n_shown = 0; /* of its line */
        while (n_shown < ID_BYTES && bad + n_shown < len && text[bad + n_shown] != '\n')
            n_shown++;
        return refuse(why, STATUS_INVALID,
                      "\"%.*s\" at byte %zu is no token id: they are whole numbers from 0 to %u "
                      "parted by commas",
                      (int)n_shown, text + bad, bad, UINT32_MAX);
    }
    *n += n_new;
    return STATUS_OK;
}

const char *text_bytes(char out[TEXT_NUMBER_BYTES], uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    int unit = 0;
    double value = (double)bytes;
    while (value >= 1024 || (unit > 0 && value >= 1023.95)) { /* 1023.95 would print as 1024.0 */
        value /= 1024;
        unit++;
    }
    if (unit == 0)
        snprintf(out, TEXT_NUMBER_BYTES, "%" PRIu64 " B", bytes);
    else
        snprintf(out, TEXT_NUMBER_BYTES, "%.1f %s", value, units[unit]);
    return out;
}

const char *text_count(char out[TEXT_NUMBER_BYTES], uint64_t n)
{
    char digits[TEXT_NUMBER_BYTES];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, n);
    char *to = out;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = 0;
    return out;
}

const char *text_duration(char out[TEXT_NUMBER_BYTES], double seconds)
{
    if (!(seconds >= 0 && seconds < 1e12)) {
        snprintf(out, TEXT_NUMBER_BYTES, "?");
        return out;
    }
    uint64_t whole = (uint64_t)(seconds + 0.5);
    uint64_t hours = whole / 3600;
    unsigned minutes = (unsigned)(whole / 60 % 60);
    unsigned rest = (unsigned)(whole % 60);
    if (hours > 0)
        snprintf(out, TEXT_NUMBER_BYTES, "%" PRIu64 ":%02u:%02u", hours, minutes, rest);
    else
        snprintf(out, TEXT_NUMBER_BYTES, "%u:%02u", minutes, rest);
    return out;
}
