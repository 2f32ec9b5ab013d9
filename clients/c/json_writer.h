/* clients/c/json_writer.h: one JSON object a line, from values or straight from protobuf messages.
 *
 *   {"event":"delta","text":"a\nb","tokens":[198,42]}
 *
 * Strings are always valid UTF-8 (bad bytes become U+FFFD) and one line: controls are escaped.
 * Numbers that JSON has not (infinities, NaN) are null; 64-bit integers stand in full. Commas are
 * the writer's business. Grows in memory; a failed growth is remembered and the text is then NULL.
 */
#ifndef QUIRE_CLIENTS_C_JSON_WRITER_H
#define QUIRE_CLIENTS_C_JSON_WRITER_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_writer {
    char *text; /* owned */
    size_t n, cap;
    bool needs_comma, failed;
};

void json_writer_init(struct json_writer *json);
void json_writer_release(struct json_writer *json);
void json_writer_clear(struct json_writer *json); /* keeps the memory */

/* The text with a newline behind it; NULL when memory was out. Valid until the next call. */
const char *json_writer_line(struct json_writer *json, size_t *len);

/* open: '{' or '['; key NULL inside arrays and at the top */
void json_writer_open(struct json_writer *json, const char *key, char open);
void json_writer_close(struct json_writer *json, char close);
void json_writer_text(struct json_writer *json, const char *key, const void *bytes, size_t len);
void json_writer_bytes(struct json_writer *json, const char *key, const void *bytes, size_t len);
void json_writer_uint(struct json_writer *json, const char *key, uint64_t value);
void json_writer_int(struct json_writer *json, const char *key, int64_t value);
void json_writer_real(struct json_writer *json, const char *key, double value);
void json_writer_float(struct json_writer *json, const char *key, float value); /* as many digits */
void json_writer_bool(struct json_writer *json, const char *key, bool value);

/* The fields of a message, by their names in the .proto: nested messages as objects, enums by name
 * without prefix and in lower case ("prefill"), fields called `bytes` as numbers, what is optional
 * and absent not at all. Writes no braces: those are the caller's. */
void json_writer_fields(struct json_writer *json, const ProtobufCMessage *message);

/* "prefill" of PHASE_PREFILL = 3; "7" of a value that the .proto does not know. */
const char *json_writer_enum_name(const ProtobufCEnumDescriptor *type, int value, char out[64]);

#endif
