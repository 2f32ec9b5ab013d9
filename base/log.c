#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log_json.h"
#include "base/status.h"
#include "base/utf8.h"

#define LINE_BYTES 2048 /* with the newline; one write of so little is not torn on a pipe */

static const char *const level_names[] = {"debug", "info", "warn", "error", "none"};

static _Atomic int lowest_level = LOG_INFO;
static _Atomic int line_format = LOG_PAIRS;

void log_set_format(enum log_format format)
{
    atomic_store_explicit(&line_format, format, memory_order_relaxed);
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&lowest_level, level, memory_order_relaxed);
}

int log_level_parse(const char *text, enum log_level *out)
{
    for (int level = LOG_DEBUG; level <= LOG_NONE; level++) {
        if (strcmp(text, level_names[level]) == 0) {
            *out = (enum log_level)level;
            return STATUS_OK;
        }
    }
    return STATUS_INVALID;
}

static size_t write_stamp(char *out, size_t capacity)
{
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t len = strftime(out, capacity, "ts=%Y-%m-%dT%H:%M:%S", &utc);
    return len + (size_t)snprintf(out + len, capacity - len, ".%03ldZ", now.tv_nsec / 1000000);
}

/* A record is one line, whatever a value that nobody quoted brings along. */
static void flatten(char *line, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((uint8_t)line[i] < 0x20 || line[i] == 0x7F)
            line[i] = ' ';
    }
}

void log_write(enum log_level level, const char *event, const char *format, ...)
{
    if ((int)level < atomic_load_explicit(&lowest_level, memory_order_relaxed) || level >= LOG_NONE)
        return;

    char line[LINE_BYTES];
    size_t len = write_stamp(line, sizeof line);
    int n =
        snprintf(line + len, sizeof line - len, " level=%s event=%.64s", level_names[level], event);
    len += (size_t)n;
    if (format != NULL && format[0] != 0) {
        line[len++] = ' ';
        va_list args;
        va_start(args, format);
        n = vsnprintf(line + len, sizeof line - len, format, args);
        va_end(args);
        if (n > 0 && (size_t)n < sizeof line - len)
            len += (size_t)n;
        else if (n > 0)
            len += utf8_complete_len(line + len, sizeof line - len - 1);
    }
    flatten(line, len);
    ssize_t written;
    if (atomic_load_explicit(&line_format, memory_order_relaxed) == LOG_JSON) {
        char object[LOG_JSON_BYTES_OF(LINE_BYTES)];
        len = log_json_line(line, len, object);
        written = write(STDERR_FILENO, object, len);
    } else {
        line[len++] = '\n'; /* in place of the NUL */
        written = write(STDERR_FILENO, line, len);
    }
    (void)written; /* there is nowhere to say that the log is gone */
}

/* One character of a value as it is written between quotes; returns the bytes of the value that it
 * stands for. */
static size_t escape(char out[20], const uint8_t *at, size_t len, size_t *n_out)
{
    static const char named[] = "\"\"\\\\\nn\rr\tt";
    for (const char *pair = named; *pair != 0; pair += 2) {
        if (*at == (uint8_t)pair[0]) {
            out[0] = '\\';
            out[1] = pair[1];
            *n_out = 2;
            return 1;
        }
    }
    size_t n = *at < 0x80 ? 1 : *at < 0xE0 ? 2 : *at < 0xF0 ? 3 : 4;
    bool printable = n <= len && utf8_is_valid(at, n, NULL) && *at >= 0x20 && *at != 0x7F &&
                     !(*at == 0xC2 && at[1] < 0xA0); /* U+0080..9F steer terminals too */
    if (printable) {
        memcpy(out, at, n);
        *n_out = n;
        return n;
    }
    *n_out = (size_t)snprintf(out, 20, "\\x%02x", *at);
    return 1;
}

/* A text of digits is quoted too, or a reader of LOG_JSON would meet an id that is a string in one
 * record and a number in the next. */
static bool needs_quotes(const uint8_t *value, size_t len)
{
    bool reads_as_number = true;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = value[i];
        if (c <= 0x20 || c >= 0x7F || c == '"' || c == '\\' || c == '=')
            return true;
        reads_as_number &= (c >= '0' && c <= '9') || c == '-' || c == '.';
    }
    return reads_as_number;
}

const char *log_quote(char *out, size_t n, const char *value, size_t len)
{
    const uint8_t *at = (const uint8_t *)value;
    size_t quote = needs_quotes(at, len) ? 1 : 0;
    size_t ending = quote + 1; /* closing quote and NUL */
    if (n < 2 * quote + 4)
        return n > 0 ? (*out = 0, out) : out;

    size_t to = 0;
    size_t cut = quote; /* as far as may stay when "..." has to follow */
    if (quote)
        out[to++] = '"';
    size_t i = 0;
    while (i < len) {
        char piece[20];
        size_t n_piece;
        size_t taken = escape(piece, at + i, len - i, &n_piece);
        if (to + n_piece + ending > n)
            break;
        memcpy(out + to, piece, n_piece);
        to += n_piece;
        if (to + 3 + ending <= n)
            cut = to;
        i += taken;
    }
    if (i < len) {
        memcpy(out + cut, "...", 3);
        to = cut + 3;
    }
    if (quote)
        out[to++] = '"';
    out[to] = 0;
    return out;
}
