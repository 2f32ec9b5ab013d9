/* tools/json_print.h: one JSON object, printed as it is told.
 *
 * Strings are valid UTF-8 with controls escaped; commas are the printer's business; numbers that
 * JSON has not are null. Errors of the stream are the caller's to check at the end.
 */
#ifndef QUIRE_TOOLS_JSON_PRINT_H
#define QUIRE_TOOLS_JSON_PRINT_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json_print {
    FILE *to;
    bool needs_comma;
};

/* key is NULL inside arrays and at the top; bracket: '{' or '[', closed by '}' or ']' */
void json_print_open(struct json_print *json, const char *key, char bracket);
void json_print_close(struct json_print *json, char bracket);
void json_print_text(struct json_print *json, const char *key, struct slice text);
void json_print_string(struct json_print *json, const char *key, const char *text);
void json_print_uint(struct json_print *json, const char *key, uint64_t number);
void json_print_real(struct json_print *json, const char *key, double number);
void json_print_bool(struct json_print *json, const char *key, bool value);

#endif
