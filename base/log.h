/* base/log.h: one line a record, key=value, to standard error. The text of users is never logged.
 *
 *   ts=2026-11-24T07:00:00.123Z level=info event=ready address=127.0.0.1:7070 pages=512
 *
 * log_write(LOG_INFO, "ready", "address=%s pages=%u", ...): the format is `key=%..` pairs parted by
 * one blank. A value from outside goes through log_quote. Thread-safe: each line is one write(2).
 */
#ifndef QUIRE_BASE_LOG_H
#define QUIRE_BASE_LOG_H

#include <stddef.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_NONE };

/* LOG_JSON: the same records, each a JSON object: {"ts":"...","level":"info","event":"ready",...};
 * what is a number in JSON is one there, every other value a string. */
enum log_format { LOG_PAIRS, LOG_JSON };
void log_set_format(enum log_format format); /* default LOG_PAIRS */
void log_set_level(enum log_level level);                   /* default LOG_INFO */
int log_level_parse(const char *text, enum log_level *out); /* STATUS_INVALID */
void log_write(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Quotes and escapes a text, only when it needs that (so that JSON has a string there, too); cuts
 * with "..." at n. Returns out. */
const char *log_quote(char *out, size_t n, const char *value, size_t len);

#endif
