#include "clients/c/json_writer.h"

#include "base/utf8.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAP_MIN 512
#define NUMBER_BYTES 40

void json_writer_init(struct json_writer *json)
{
    memset(json, 0, sizeof *json);
}

void json_writer_release(struct json_writer *json)
{
    free(json->text);
    json_writer_init(json);
}

void json_writer_clear(struct json_writer *json)
{
    json->n = 0;
    json->needs_comma = json->failed = false;
}

static void put(struct json_writer *json, const void *bytes, size_t len)
{
    size_t cap = json->cap != 0 ? json->cap : CAP_MIN;
    while (cap - json->n < len)
        cap *= 2;
    if (cap != json->cap) {
        char *grown = json->failed ? NULL : realloc(json->text, cap);
        if (grown == NULL) {
            json->failed = true;
            return;
        }
        json->text = grown;
        json->cap = cap;
    }
    memcpy(json->text + json->n, bytes, len);
    json->n += len;
}

static void put_text(struct json_writer *json, const char *text)
{
    put(json, text, strlen(text));
}

const char *json_writer_line(struct json_writer *json, size_t *len)
{
    put(json, "\n", 1);
    *len = json->n;
    return json->failed ? NULL : json->text;
}

/* --- strings --- */

static void put_escape(struct json_writer *json, uint8_t byte)
{
    static const char shorts[] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f',
                                  ['\r'] = 'r', ['"'] = '"',  ['\\'] = '\\'};
    char out[8];
    int n = byte < sizeof shorts && shorts[byte] != 0 ? sprintf(out, "\\%c", shorts[byte])
                                                      : sprintf(out, "\\u%04x", byte);
    put(json, out, (size_t)n);
}

static bool needs_escape(uint8_t byte)
{
    return byte < 0x20 || byte == 0x7F || byte == '"' || byte == '\\';
}

static void put_valid(struct json_writer *json, const uint8_t *bytes, size_t len)
{
    size_t from = 0;
    for (size_t i = 0; i < len; i++) {
        if (!needs_escape(bytes[i]))
            continue;
        put(json, bytes + from, i - from);
        put_escape(json, bytes[i]);
        from = i + 1;
    }
    put(json, bytes + from, len - from);
}

static void put_string(struct json_writer *json, const void *bytes, size_t len)
{
    static const uint8_t nothing[1];
    if (len == 0)
        bytes = nothing;
    put_text(json, "\"");
    if (utf8_is_valid(bytes, len, NULL)) {
        put_valid(json, bytes, len);
    } else {
        uint8_t *repaired = malloc(3 * len);
        if (repaired == NULL)
            json->failed = true;
        else
            put_valid(json, repaired, utf8_repair(bytes, len, repaired, NULL));
        free(repaired);
    }
    put_text(json, "\"");
}

/* --- values --- */

static void begin_value(struct json_writer *json, const char *key)
{
    if (json->needs_comma)
        put_text(json, ",");
    if (key != NULL) {
        put_string(json, key, strlen(key));
        put_text(json, ":");
    }
    json->needs_comma = true;
}

void json_writer_open(struct json_writer *json, const char *key, char open)
{
    begin_value(json, key);
    put(json, &open, 1);
    json->needs_comma = false;
}

void json_writer_close(struct json_writer *json, char close)
{
    put(json, &close, 1);
    json->needs_comma = true;
}

void json_writer_text(struct json_writer *json, const char *key, const void *bytes, size_t len)
{
    begin_value(json, key);
    put_string(json, bytes, len);
}

void json_writer_bytes(struct json_writer *json, const char *key, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    json_writer_open(json, key, '[');
    for (size_t i = 0; i < len; i++)
        json_writer_uint(json, NULL, at[i]);
    json_writer_close(json, ']');
}

void json_writer_uint(struct json_writer *json, const char *key, uint64_t value)
{
    char text[NUMBER_BYTES];
    begin_value(json, key);
    put(json, text, (size_t)sprintf(text, "%" PRIu64, value));
}

void json_writer_int(struct json_writer *json, const char *key, int64_t value)
{
    char text[NUMBER_BYTES];
    begin_value(json, key);
    put(json, text, (size_t)sprintf(text, "%" PRId64, value));
}

/* The shortest of the forms that give the value back. */
static void put_real(struct json_writer *json, double value, bool is_float)
{
    char text[NUMBER_BYTES];
    if (!isfinite(value)) {
        put_text(json, "null");
        return;
    }
    for (int digits = 6; digits <= 17; digits++) {
        sprintf(text, "%.*g", digits, value);
        double back = strtod(text, NULL);
        if (is_float ? (float)back == (float)value : back == value)
            break;
    }
    put_text(json, text);
}

void json_writer_real(struct json_writer *json, const char *key, double value)
{
    begin_value(json, key);
    put_real(json, value, false);
}

void json_writer_float(struct json_writer *json, const char *key, float value)
{
    begin_value(json, key);
    put_real(json, (double)value, true);
}

void json_writer_bool(struct json_writer *json, const char *key, bool value)
{
    begin_value(json, key);
    put_text(json, value ? "true" : "false");
}

/* --- messages --- */

/* "PHASE_" of PHASE_PREFILL, PHASE_WAITING: what all names share up to an underscore. */
static size_t common_prefix(const ProtobufCEnumDescriptor *type)
{
    const char *first = type->values[0].name;
    size_t shared = type->n_values > 1 ? strlen(first) : 0;
    for (unsigned i = 1; i < type->n_values; i++) {
        size_t n = 0;
        while (n < shared && type->values[i].name[n] == first[n])
            n++;
        shared = n;
    }
    while (shared > 0 && first[shared - 1] != '_')
        shared--;
    return shared;
}

const char *json_writer_enum_name(const ProtobufCEnumDescriptor *type, int value, char out[64])
{
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(type, value);
    if (known == NULL) {
        snprintf(out, 64, "%d", value);
        return out;
    }
    snprintf(out, 64, "%s", known->name + common_prefix(type));
    for (char *at = out; *at != 0; at++)
        *at = (char)tolower((unsigned char)*at);
    return out;
}

/* One value of a field; a string of bytes is text unless the field says that it is bytes. */
static void put_value(struct json_writer *json, const ProtobufCFieldDescriptor *field,
                      const char *key, const void *value)
{
    char name[64];
    const ProtobufCBinaryData *bytes = value;
    const ProtobufCMessage *message;
    switch (field->type) {
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        json_writer_uint(json, key, *(const uint32_t *)value);
        return;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        json_writer_uint(json, key, *(const uint64_t *)value);
        return;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        json_writer_int(json, key, *(const int32_t *)value);
        return;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        json_writer_int(json, key, *(const int64_t *)value);
        return;
    case PROTOBUF_C_TYPE_FLOAT:
        json_writer_float(json, key, *(const float *)value);
        return;
    case PROTOBUF_C_TYPE_DOUBLE:
        json_writer_real(json, key, *(const double *)value);
        return;
    case PROTOBUF_C_TYPE_BOOL:
        json_writer_bool(json, key, *(const protobuf_c_boolean *)value != 0);
        return;
    case PROTOBUF_C_TYPE_ENUM:
        json_writer_enum_name(field->descriptor, *(const int *)value, name);
        json_writer_text(json, key, name, strlen(name));
        return;
    case PROTOBUF_C_TYPE_STRING:
        json_writer_text(json, key, *(char *const *)value, strlen(*(char *const *)value));
        return;
    case PROTOBUF_C_TYPE_BYTES:
        if (strcmp(field->name, "bytes") == 0)
            json_writer_bytes(json, key, bytes->data, bytes->len);
        else
            json_writer_text(json, key, bytes->data, bytes->len);
        return;
    case PROTOBUF_C_TYPE_MESSAGE:
        message = *(const ProtobufCMessage *const *)value;
        json_writer_open(json, key, '{');
        json_writer_fields(json, message);
        json_writer_close(json, '}');
        return;
    }
}

static size_t value_bytes(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default:
        return 8; /* 64-bit numbers and pointers */
    }
}

static bool is_present(const ProtobufCFieldDescriptor *field, const char *message)
{
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0)
        return *(const uint32_t *)(const void *)(message + field->quantifier_offset) == field->id;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return *(void *const *)(const void *)(message + field->offset) != NULL;
    return true;
}

void json_writer_fields(struct json_writer *json, const ProtobufCMessage *message)
{
    const char *base = (const char *)message;
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        const void *value = base + field->offset;
        if (field->label != PROTOBUF_C_LABEL_REPEATED) {
            if (is_present(field, base))
                put_value(json, field, field->name, value);
            continue;
        }
        size_t n = *(const size_t *)(const void *)(base + field->quantifier_offset);
        const char *values = *(const char *const *)value;
        json_writer_open(json, field->name, '[');
        for (size_t k = 0; k < n; k++)
            put_value(json, field, NULL, values + k * value_bytes(field->type));
        json_writer_close(json, ']');
    }
}
