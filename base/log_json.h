/* base/log_json.h: a record of the log, pairs parted by blanks, as one JSON object. */
#ifndef QUIRE_BASE_LOG_JSON_H
#define QUIRE_BASE_LOG_JSON_H

#include <stddef.h>

/* Each byte may become six, each pair gets four quotes at most. */
#define LOG_JSON_BYTES_OF(line_bytes) (8 * (line_bytes) + 4)

/* line: [len] key=value key="value \n ..." as log_write makes them; no control characters. Writes
 * the object and a newline to out [LOG_JSON_BYTES_OF(len)]; returns bytes. A pair that was cut is
 * closed. */
size_t log_json_line(const char *line, size_t len, char *out);

#endif
