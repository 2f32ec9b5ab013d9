#include "model/gguf_parse.h"

#include "base/log.h"
#include "kernels/tensor_type.h"
#include "limits.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "GGUF"
#define ALIGNMENT_DEFAULT 32
#define KV_BYTES_MIN 14     /* empty-but-one-byte key, kind, one byte of value */
#define TENSOR_BYTES_MIN 33 /* one-byte name, one dimension, type, offset */

struct cursor {
    const struct gguf_part *part;
    uint64_t at; /* always <= part->bytes */
    struct why *why;
};

uint32_t gguf_kind_bytes(enum gguf_kind kind)
{
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return (uint32_t)kind < sizeof bytes ? bytes[kind] : 0;
}

const char *gguf_kind_name(enum gguf_kind kind)
{
    static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    return (uint32_t)kind < sizeof names / sizeof *names ? names[kind] : "unknown";
}

static bool is_kind(uint32_t kind)
{
    return kind <= GGUF_F64;
}

static uint64_t left(const struct cursor *cursor)
{
    return cursor->part->bytes - cursor->at;
}

struct gguf_shown gguf_shown(struct slice name)
{
    struct gguf_shown shown;
    log_quote(shown.text, sizeof shown.text, (const char *)name.bytes, name.len);
    return shown;
}

static int truncated(const struct cursor *cursor, const char *what, uint64_t n)
{
    return refuse(cursor->why, STATUS_CORRUPT,
                  "%s: truncated: %s needs %" PRIu64 " bytes at byte %" PRIu64
                  ", the file ends at byte %" PRIu64,
                  cursor->part->path, what, n, cursor->at, cursor->part->bytes);
}

static int take(struct cursor *cursor, void *out, size_t n, const char *what)
{
    if (left(cursor) < n)
        return truncated(cursor, what, n);
    memcpy(out, cursor->part->map + cursor->at, n);
    cursor->at += n;
    return STATUS_OK;
}

static int take_string(struct cursor *cursor, struct slice *out, const char *what)
{
    uint64_t len = 0;
    if (take(cursor, &len, sizeof len, what) < 0)
        return STATUS_CORRUPT;
    if (len > left(cursor))
        return refuse(cursor->why, STATUS_CORRUPT,
                      "%s: %s at byte %" PRIu64 " has a length of %" PRIu64 " bytes, %" PRIu64
                      " are left",
                      cursor->part->path, what, cursor->at - sizeof len, len, left(cursor));
    *out = slice_of(cursor->part->map + cursor->at, len);
    cursor->at += len;
    return STATUS_OK;
}

/* --- values --- */

static int take_strings(struct cursor *cursor, struct gguf_value *value)
{
    if (value->n > left(cursor) / sizeof(uint64_t))
        return refuse(cursor->why, STATUS_CORRUPT,
                      "%s: key %s: an array of %" PRIu64 " strings, %" PRIu64 " bytes are left",
                      cursor->part->path, gguf_shown(value->key).text, value->n, left(cursor));

    value->strings = malloc((value->n > 0 ? value->n : 1) * sizeof *value->strings);
    if (value->strings == NULL)
        return refuse(cursor->why, STATUS_NO_MEMORY,
                      "no memory for an array of %" PRIu64 " strings", value->n);
    for (uint64_t i = 0; i < value->n; i++) {
        struct slice text;
        value->strings[i] = cursor->part->map + cursor->at;
        if (take_string(cursor, &text, "a string of an array") < 0)
            return refuse_prefix(cursor->why, STATUS_CORRUPT, "key %s, element %" PRIu64,
                                 gguf_shown(value->key).text, i);
    }
    return STATUS_OK;
}

static int take_array(struct cursor *cursor, struct gguf_value *value)
{
    uint32_t element;

    if (take(cursor, &element, sizeof element, "the element type of an array") < 0 ||
        take(cursor, &value->n, sizeof value->n, "the length of an array") < 0)
        return refuse_prefix(cursor->why, STATUS_CORRUPT, "key %s", gguf_shown(value->key).text);
    value->bytes = cursor->part->map + cursor->at;
    if (!is_kind(element))
        return refuse(cursor->why, STATUS_CORRUPT, "%s: key %s: an array of unknown type %u",
                      cursor->part->path, gguf_shown(value->key).text, element);
    value->element = element;
    if (element == GGUF_ARRAY)
        return refuse(cursor->why, STATUS_UNSUPPORTED,
                      "%s: key %s: an array of arrays, which no known model uses",
                      cursor->part->path, gguf_shown(value->key).text);
    if (element == GGUF_STRING)
        return take_strings(cursor, value);
    if (value->n > left(cursor) / gguf_kind_bytes(element))
        return refuse(cursor->why, STATUS_CORRUPT,
                      "%s: key %s: an array of %" PRIu64 " %s, %" PRIu64 " bytes are left",
                      cursor->part->path, gguf_shown(value->key).text, value->n,
                      gguf_kind_name(element), left(cursor));
    cursor->at += value->n * gguf_kind_bytes(element);
    return STATUS_OK;
}

/* *out is zeroed; what it owns is released with the tables, also after a failure. */
static int take_value(struct cursor *cursor, struct gguf_value *out)
{
    uint32_t kind;

    if (take_string(cursor, &out->key, "the length of a key") < 0 ||
        take(cursor, &kind, sizeof kind, "the type of a value") < 0)
        return STATUS_CORRUPT;
    if (out->key.len == 0 || out->key.len > GGUF_KEY_BYTES_MAX)
        return refuse(cursor->why, STATUS_CORRUPT, "%s: a key of %zu bytes; keys have 1 to %d",
                      cursor->part->path, out->key.len, GGUF_KEY_BYTES_MAX);
    if (!is_kind(kind))
        return refuse(cursor->why, STATUS_CORRUPT, "%s: key %s has the unknown value type %u",
                      cursor->part->path, gguf_shown(out->key).text, kind);
    out->kind = kind;
    out->n = 1;
    out->bytes = cursor->part->map + cursor->at;
    if (kind == GGUF_ARRAY)
        return take_array(cursor, out);
    if (kind == GGUF_STRING) {
        struct slice text;
        if (take_string(cursor, &text, "a string") < 0)
            return refuse_prefix(cursor->why, STATUS_CORRUPT, "key %s", gguf_shown(out->key).text);
        return STATUS_OK;
    }
    if (left(cursor) < gguf_kind_bytes(kind)) {
        truncated(cursor, "a value", gguf_kind_bytes(kind));
        return refuse_prefix(cursor->why, STATUS_CORRUPT, "key %s", gguf_shown(out->key).text);
    }
    cursor->at += gguf_kind_bytes(kind);
    return STATUS_OK;
}

/* --- tensors --- */

static int check_tensor(struct cursor *cursor, const struct gguf_tensor *tensor)
{
    const char *path = cursor->part->path;
    struct gguf_shown name = gguf_shown(tensor->name);
    uint64_t n_values = 1;

    for (uint32_t i = 0; i < tensor->n_dims; i++) {
        if (tensor->dims[i] == 0 || tensor->dims[i] > (uint64_t)INT64_MAX / n_values)
            return refuse(cursor->why, STATUS_CORRUPT,
                          "%s: tensor %s: dimension %u is %" PRIu64
                          "; the product must be 1 to 2^63 - 1",
                          path, name.text, i, tensor->dims[i]);
        n_values *= tensor->dims[i];
    }
    const struct tensor_type_info *type = tensor_type_info(tensor->type);
    if (type == NULL)
        return refuse(cursor->why, STATUS_CORRUPT, "%s: tensor %s has the unknown type %u", path,
                      name.text, tensor->type);
    if (tensor->dims[0] % type->block_values != 0)
        return refuse(cursor->why, STATUS_CORRUPT,
                      "%s: tensor %s: rows of %" PRIu64 " values are not whole %s blocks of %u",
                      path, name.text, tensor->dims[0], type->name, type->block_values);
    return STATUS_OK;
}

static int take_tensor(struct cursor *cursor, struct gguf_tensor *out, uint64_t *offset)
{
    memset(out, 0, sizeof *out);
    if (take_string(cursor, &out->name, "the name of a tensor") < 0 ||
        take(cursor, &out->n_dims, sizeof out->n_dims, "the dimensions of a tensor") < 0)
        return STATUS_CORRUPT;
    if (out->name.len == 0 || out->name.len > GGUF_TENSOR_NAME_BYTES_MAX ||
        memchr(out->name.bytes, 0, out->name.len) != NULL)
        return refuse(cursor->why, STATUS_CORRUPT,
                      "%s: a tensor name of %zu bytes%s; names have 1 to %d and no NUL",
                      cursor->part->path, out->name.len,
                      out->name.len <= GGUF_TENSOR_NAME_BYTES_MAX ? " with NUL" : "",
                      GGUF_TENSOR_NAME_BYTES_MAX);
    if (out->n_dims == 0 || out->n_dims > 4)
        return refuse(cursor->why, STATUS_CORRUPT,
                      "%s: tensor %s has %u dimensions; 1 to 4 are possible", cursor->part->path,
                      gguf_shown(out->name).text, out->n_dims);
    for (uint32_t i = 0; i < 4; i++)
        out->dims[i] = 1;
    if (take(cursor, out->dims, out->n_dims * sizeof *out->dims, "the dimensions of a tensor") <
            0 ||
        take(cursor, &out->type, sizeof out->type, "the type of a tensor") < 0 ||
        take(cursor, offset, sizeof *offset, "the offset of a tensor") < 0)
        return refuse_prefix(cursor->why, STATUS_CORRUPT, "tensor %s", gguf_shown(out->name).text);
    return check_tensor(cursor, out);
}

/* data_start is aligned; on entry tensor->bytes is unset. */
static int place_tensor(struct cursor *cursor, struct gguf_tensor *tensor, uint64_t data_start,
                        uint64_t offset, uint64_t alignment)
{
    const struct gguf_part *part = cursor->part;
    uint64_t bytes = tensor_type_bytes(tensor->type, tensor->dims[0],
                                       tensor->dims[1] * tensor->dims[2] * tensor->dims[3]);

    if (bytes == 0)
        return refuse(cursor->why, STATUS_CORRUPT, "%s: tensor %s: its size in bytes overflows",
                      part->path, gguf_shown(tensor->name).text);
    if (offset % alignment != 0)
        return refuse(cursor->why, STATUS_CORRUPT,
                      "%s: tensor %s: offset %" PRIu64 " is no multiple of the alignment %" PRIu64,
                      part->path, gguf_shown(tensor->name).text, offset, alignment);
    if (data_start > part->bytes || offset > part->bytes - data_start ||
        bytes > part->bytes - data_start - offset)
        return refuse(cursor->why, STATUS_CORRUPT,
                      "%s: tensor %s: %" PRIu64 " bytes at offset %" PRIu64
                      " of the data (which begins at byte %" PRIu64
                      ") reach beyond the file of %" PRIu64 " bytes: is the download complete?",
                      part->path, gguf_shown(tensor->name).text, bytes, offset, data_start,
                      part->bytes);
    tensor->bytes = part->map + data_start + offset;
    tensor->n_bytes = bytes;
    return STATUS_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct gguf_tensor *x = *(const struct gguf_tensor *const *)a,
                             *y = *(const struct gguf_tensor *const *)b;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int check_overlaps(const struct gguf_part *part, const struct gguf_tensor *tensors,
                          uint64_t n, struct why *why)
{
    if (n < 2)
        return STATUS_OK;
    const struct gguf_tensor **sorted = malloc(n * sizeof(struct gguf_tensor *));
    if (sorted == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory to sort %" PRIu64 " tensors", n);
    for (uint64_t i = 0; i < n; i++)
        sorted[i] = &tensors[i];
    qsort(sorted, n, sizeof *sorted, by_place);

    int status = STATUS_OK;
    for (uint64_t i = 1; i < n && status == STATUS_OK; i++)
        if (sorted[i - 1]->bytes + sorted[i - 1]->n_bytes > sorted[i]->bytes)
            status =
                refuse(why, STATUS_CORRUPT, "%s: tensors %s and %s overlap at byte %" PRIu64,
                       part->path, gguf_shown(sorted[i - 1]->name).text,
                       gguf_shown(sorted[i]->name).text, (uint64_t)(sorted[i]->bytes - part->map));
    free(sorted);
    return status;
}

/* --- the file --- */

static int read_alignment(const struct gguf_part *part, const struct gguf_value *values, uint64_t n,
                          uint64_t *out, struct why *why)
{
    uint32_t alignment = ALIGNMENT_DEFAULT;

    for (uint64_t i = 0; i < n; i++) {
        if (!slice_equal(values[i].key, slice_from("general.alignment")))
            continue;
        if (values[i].kind != GGUF_U32)
            return refuse(why, STATUS_CORRUPT, "%s: general.alignment is a %s; it must be a u32",
                          part->path, gguf_kind_name(values[i].kind));
        memcpy(&alignment, values[i].bytes, sizeof alignment);
    }
    if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > GGUF_ALIGNMENT_MAX)
        return refuse(why, STATUS_CORRUPT,
                      "%s: general.alignment is %u; it must be a power of two up to %u", part->path,
                      alignment, GGUF_ALIGNMENT_MAX);
    *out = alignment;
    return STATUS_OK;
}

static int take_header(struct cursor *cursor, uint32_t *version, uint64_t *n_tensors,
                       uint64_t *n_kv)
{
    const char *path = cursor->part->path;
    char magic[4];

    if (cursor->part->bytes < sizeof magic || memcmp(cursor->part->map, MAGIC, sizeof magic) != 0)
        return refuse(cursor->why, STATUS_CORRUPT,
                      "%s is not a GGUF file: it does not begin with \"%s\"", path, MAGIC);
    take(cursor, magic, sizeof magic, "the magic number");
    if (take(cursor, version, sizeof *version, "the version") < 0)
        return STATUS_CORRUPT;
    if ((*version & 0xFFFF) == 0)
        return refuse(cursor->why, STATUS_UNSUPPORTED,
                      "%s is a GGUF file of the other endianness (version word %#x); this build "
                      "reads little-endian files",
                      path, *version);
    if (*version != 2 && *version != 3)
        return refuse(cursor->why, STATUS_UNSUPPORTED,
                      "%s is GGUF version %u; this build reads versions 2 and 3", path, *version);
    if (take(cursor, n_tensors, sizeof *n_tensors, "the number of tensors") < 0 ||
        take(cursor, n_kv, sizeof *n_kv, "the number of keys") < 0)
        return STATUS_CORRUPT;
    if (*n_kv > left(cursor) / KV_BYTES_MIN)
        return refuse(cursor->why, STATUS_CORRUPT,
                      "%s: %" PRIu64 " keys cannot stand in the %" PRIu64 " bytes left", path,
                      *n_kv, left(cursor));
    if (*n_tensors > left(cursor) / TENSOR_BYTES_MIN)
        return refuse(cursor->why, STATUS_CORRUPT,
                      "%s: %" PRIu64 " tensors cannot stand in the %" PRIu64 " bytes left", path,
                      *n_tensors, left(cursor));
    return STATUS_OK;
}

static int take_tensors(struct cursor *cursor, uint32_t part_idx, uint64_t n, uint64_t alignment,
                        struct gguf_tables *tables)
{
    struct gguf_tensor *grown =
        realloc(tables->tensors, (tables->n_tensors + n + 1) * sizeof *grown);
    uint64_t *offsets = malloc((n + 1) * sizeof *offsets);
    int status = STATUS_OK;

    if (grown != NULL)
        tables->tensors = grown;
    if (grown == NULL || offsets == NULL) {
        free(offsets);
        return refuse(cursor->why, STATUS_NO_MEMORY, "no memory for %" PRIu64 " tensors", n);
    }
    struct gguf_tensor *first = grown + tables->n_tensors;
    for (uint64_t i = 0; i < n && status == STATUS_OK; i++)
        status = take_tensor(cursor, &first[i], &offsets[i]);

    uint64_t data_start = (cursor->at + alignment - 1) / alignment * alignment;
    for (uint64_t i = 0; i < n && status == STATUS_OK; i++) {
        first[i].file_idx = part_idx;
        status = place_tensor(cursor, &first[i], data_start, offsets[i], alignment);
    }
    free(offsets);
    if (status == STATUS_OK)
        status = check_overlaps(cursor->part, first, n, cursor->why);
    if (status == STATUS_OK)
        tables->n_tensors += n;
    return status;
}

int gguf_parse(const struct gguf_part *part, uint32_t part_idx, bool keep_values,
               struct gguf_tables *tables, struct why *why)
{
    struct cursor cursor = {.part = part, .why = why};
    struct gguf_tables scratch = {0}, *into = keep_values ? tables : &scratch;
    uint64_t n_tensors, n_kv, alignment = ALIGNMENT_DEFAULT;
    uint32_t version;

    int status = take_header(&cursor, &version, &n_tensors, &n_kv);
    if (status < 0)
        return status;
    into->values = calloc(n_kv + 1, sizeof *into->values);
    if (into->values == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for %" PRIu64 " keys", n_kv);
    while (into->n_values < n_kv && status == STATUS_OK)
        status = take_value(&cursor, &into->values[into->n_values++]);
    if (status == STATUS_OK)
        status = read_alignment(part, into->values, into->n_values, &alignment, why);
    if (status == STATUS_OK)
        status = take_tensors(&cursor, part_idx, n_tensors, alignment, tables);
    gguf_tables_release(&scratch);
    return status;
}

void gguf_tables_release(struct gguf_tables *tables)
{
    for (uint64_t i = 0; i < tables->n_values; i++)
        free(tables->values[i].strings);
    free(tables->values);
    free(tables->tensors);
    memset(tables, 0, sizeof *tables);
}
