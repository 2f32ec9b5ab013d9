#include "model/gguf.h"
#include "model/gguf_parse.h"

#include "limits.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

static int wrong_kind(const struct gguf_value *value, const char *key, const char *wanted,
                      struct why *why)
{
    return refuse(why, STATUS_CORRUPT, "key %s is %s %s; it must be %s", key,
                  value->kind == GGUF_ARRAY ? "an" : "a", gguf_kind_name(value->kind), wanted);
}

/* Any integer kind: true with sign and magnitude. */
static bool read_integer(const struct gguf_value *value, bool *negative, uint64_t *magnitude)
{
    int64_t number;
    uint64_t u64;
    uint32_t u32;
    uint16_t u16;
    int32_t i32;
    int16_t i16;

    switch (value->kind) {
    case GGUF_U8:
        number = value->bytes[0];
        break;
    case GGUF_I8:
        number = (int8_t)value->bytes[0];
        break;
    case GGUF_U16:
        memcpy(&u16, value->bytes, sizeof u16);
        number = u16;
        break;
    case GGUF_I16:
        memcpy(&i16, value->bytes, sizeof i16);
        number = i16;
        break;
    case GGUF_U32:
        memcpy(&u32, value->bytes, sizeof u32);
        number = u32;
        break;
    case GGUF_I32:
        memcpy(&i32, value->bytes, sizeof i32);
        number = i32;
        break;
    case GGUF_I64:
        memcpy(&number, value->bytes, sizeof number);
        break;
    case GGUF_U64:
        memcpy(&u64, value->bytes, sizeof u64);
        *negative = false;
        *magnitude = u64;
        return true;
    default:
        return false;
    }
    *negative = number < 0;
    *magnitude = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    return true;
}

static int take_unsigned(const struct gguf_value *value, const char *key, uint64_t max,
                         uint64_t *out, struct why *why)
{
    bool negative;
    uint64_t magnitude;

    if (!read_integer(value, &negative, &magnitude))
        return wrong_kind(value, key, "an integer", why);
    if ((negative && magnitude > 0) || magnitude > max)
        return refuse(why, STATUS_CORRUPT, "key %s is %s%" PRIu64 "; it must be 0 to %" PRIu64, key,
                      negative ? "-" : "", magnitude, max);
    *out = magnitude;
    return 1;
}

/* 1 found, 0 absent, STATUS_CORRUPT. */
static int read_unsigned(const struct gguf *file, const char *key, uint64_t max, uint64_t *out,
                         struct why *why)
{
    const struct gguf_value *value = gguf_find(file, key);
    return value == NULL ? 0 : take_unsigned(value, key, max, out, why);
}

int gguf_u32(const struct gguf *file, const char *key, uint32_t *out, struct why *why)
{
    uint64_t number;
    int found = read_unsigned(file, key, UINT32_MAX, &number, why);
    if (found == 1)
        *out = (uint32_t)number;
    return found;
}

int gguf_u64(const struct gguf *file, const char *key, uint64_t *out, struct why *why)
{
    return read_unsigned(file, key, UINT64_MAX, out, why);
}

int gguf_u32_at(const struct gguf_value *array, const char *key, uint64_t i, uint32_t *out,
                struct why *why)
{
    struct gguf_value element = {.kind = array->element,
                                 .bytes = array->bytes + i * gguf_kind_bytes(array->element)};
    uint64_t number;
    int status = take_unsigned(&element, key, UINT32_MAX, &number, why);
    if (status < 0)
        return refuse_prefix(why, status, "element %" PRIu64 " of %" PRIu64, i, array->n);
    *out = (uint32_t)number;
    return STATUS_OK;
}

int gguf_f32(const struct gguf *file, const char *key, float *out, struct why *why)
{
    const struct gguf_value *value = gguf_find(file, key);
    double wide;

    if (value == NULL)
        return 0;
    if (value->kind == GGUF_F32) {
        memcpy(out, value->bytes, sizeof *out);
        return 1;
    }
    if (value->kind != GGUF_F64)
        return wrong_kind(value, key, "a number (f32)", why);
    memcpy(&wide, value->bytes, sizeof wide);
    *out = (float)wide;
    return 1;
}

int gguf_bool(const struct gguf *file, const char *key, bool *out, struct why *why)
{
    const struct gguf_value *value = gguf_find(file, key);

    if (value == NULL)
        return 0;
    if (value->kind != GGUF_BOOL)
        return wrong_kind(value, key, "a bool", why);
    *out = value->bytes[0] != 0;
    return 1;
}

bool gguf_bool_at(const struct gguf_value *array, uint64_t i)
{
    assert(array->element == GGUF_BOOL && i < array->n);
    return array->bytes[i] != 0;
}

int gguf_string(const struct gguf *file, const char *key, struct slice *out, struct why *why)
{
    const struct gguf_value *value = gguf_find(file, key);
    uint64_t len;

    if (value == NULL)
        return 0;
    if (value->kind != GGUF_STRING)
        return wrong_kind(value, key, "a string", why);
    memcpy(&len, value->bytes, sizeof len);
    *out = slice_of(value->bytes + sizeof len, len);
    return 1;
}
