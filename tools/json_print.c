#include "tools/json_print.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <math.h>

#define PIECE_BYTES 256

static void put_escaped(FILE *to, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] == '"' || bytes[i] == '\\')
            fprintf(to, "\\%c", bytes[i]);
        else if (bytes[i] < 0x20 || bytes[i] == 0x7f)
            fprintf(to, "\\u%04x", bytes[i]);
        else
            putc(bytes[i], to);
    }
}

static void put_string(FILE *to, struct slice text)
{
    putc('"', to);
    for (size_t at = 0; at < text.len;) {
        uint8_t clean[3 * PIECE_BYTES];
        size_t n = text.len - at;
        if (n > PIECE_BYTES)
            n = utf8_complete_len(text.bytes + at, PIECE_BYTES);
        put_escaped(to, clean, utf8_repair(text.bytes + at, n, clean, NULL));
        at += n;
    }
    putc('"', to);
}

static void begin(struct json_print *json, const char *key)
{
    if (json->needs_comma)
        fputs(", ", json->to);
    json->needs_comma = true;
    if (key != NULL) {
        put_string(json->to, slice_from(key));
        fputs(": ", json->to);
    }
}

void json_print_open(struct json_print *json, const char *key, char bracket)
{
    begin(json, key);
    putc(bracket, json->to);
    json->needs_comma = false;
}

void json_print_close(struct json_print *json, char bracket)
{
    putc(bracket, json->to);
    json->needs_comma = true;
}

void json_print_text(struct json_print *json, const char *key, struct slice text)
{
    begin(json, key);
    put_string(json->to, text);
}

void json_print_string(struct json_print *json, const char *key, const char *text)
{
    json_print_text(json, key, slice_from(text));
}

void json_print_uint(struct json_print *json, const char *key, uint64_t number)
{
    begin(json, key);
    fprintf(json->to, "%" PRIu64, number);
}

void json_print_real(struct json_print *json, const char *key, double number)
{
    begin(json, key);
    if (isfinite(number))
        fprintf(json->to, "%.9g", number);
    else
        fputs("null", json->to);
}

void json_print_bool(struct json_print *json, const char *key, bool value)
{
    begin(json, key);
    fputs(value ? "true" : "false", json->to);
}
