#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* Leaves valid UTF-8 of at most WHY_BYTES - 1 bytes in why: file names and peers' words may hold
 * anything. */
static void keep(struct why *why, const char *text, size_t len)
{
    uint8_t repaired[3 * (WHY_BYTES - 1)];
    if (!utf8_is_valid(text, len, NULL)) {
        len = utf8_repair(text, len, repaired, NULL);
        text = (const char *)repaired;
    }
    if (len > WHY_BYTES - 1)
        len = utf8_complete_len(text, WHY_BYTES - 1);
    memcpy(why->text, text, len);
    why->text[len] = 0;
}

/* Returns the length of what fits; a cut leaves no half character behind. */
static size_t format_into(char *out, size_t capacity, const char *format, va_list args)
{
    int len = vsnprintf(out, capacity, format, args);
    if (len < 0)
        return 0;
    if ((size_t)len < capacity)
        return (size_t)len;
    return utf8_complete_len(out, capacity - 1);
}

static void say(struct why *why, const char *format, va_list args)
{
    char text[WHY_BYTES];
    keep(why, text, format_into(text, sizeof text, format, args));
}

int refuse(struct why *why, int status, const char *format, ...)
{
    if (why == NULL)
        return status;
    va_list args;
    va_start(args, format);
    say(why, format, args);
    va_end(args);
    why->numbers = (struct why_numbers){.unit = NULL};
    return status;
}

int refuse_numbers(struct why *why, int status, struct why_numbers numbers, const char *format, ...)
{
    if (why == NULL)
        return status;
    va_list args;
    va_start(args, format);
    say(why, format, args);
    va_end(args);
    why->numbers = numbers;
    return status;
}

int refuse_prefix(struct why *why, int status, const char *format, ...)
{
    if (why == NULL)
        return status;
    char text[2 * WHY_BYTES];
    va_list args;
    va_start(args, format);
    size_t len = format_into(text, WHY_BYTES, format, args);
    va_end(args);
    if (why->text[0] != 0) {
        size_t rest = strlen(why->text);
        memcpy(text + len, ": ", 2);
        memcpy(text + len + 2, why->text, rest);
        len += 2 + rest;
    }
    if (len > WHY_BYTES - 1)
        len = utf8_complete_len(text, WHY_BYTES - 1);
    keep(why, text, len);
    return status;
}

const char *status_text(int status)
{
    switch (status) {
#define STATUS_CASE(name, value, text, grpc)                                                       \
    case value:                                                                                    \
        return text;
        STATUS_LIST(STATUS_CASE)
#undef STATUS_CASE
    default:
        return "unknown status";
    }
}

const char *status_name(int status)
{
    switch (status) {
#define STATUS_CASE(name, value, text, grpc)                                                       \
    case value:                                                                                    \
        return #name;
        STATUS_LIST(STATUS_CASE)
#undef STATUS_CASE
    default:
        return "UNKNOWN";
    }
}

int status_grpc_code(int status)
{
    switch (status) {
#define STATUS_CASE(name, value, text, grpc)                                                       \
    case value:                                                                                    \
        return grpc;
        STATUS_LIST(STATUS_CASE)
#undef STATUS_CASE
    default:
        return 2;
    }
}
