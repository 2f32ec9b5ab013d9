#include "model/arch_reader.h"

#include "kernels/tensor_type.h"
#include "model/gguf_parse.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define KEY_BYTES 128

struct full_key {
    char text[KEY_BYTES];
};

static struct full_key key_of(const struct arch_reader *reader, const char *key)
{
    struct full_key full;
    snprintf(full.text, sizeof full.text, "%s.%s", reader->architecture, key);
    return full;
}

static struct full_key name_of(uint32_t layer, const char *part)
{
    struct full_key full;
    snprintf(full.text, sizeof full.text, "blk.%u.%s", layer, part);
    return full;
}

void arch_fault(struct arch_reader *reader, int status, const char *format, ...)
{
    char text[WHY_BYTES];
    va_list args;

    if (reader->status < 0)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    reader->status = refuse(reader->why, status, "%s", text);
}

/* --- keys --- */

/* An array of one number repeated, as converters write for keys that may differ by layer. 1, 0 or a
 * status. */
static int read_uniform(struct arch_reader *reader, const char *key, uint32_t *out)
{
    const struct gguf_value *value = gguf_find(reader->file, key);
    uint32_t first = 0, next;

    if (value == NULL || value->kind != GGUF_ARRAY)
        return gguf_u32(reader->file, key, out, reader->why);
    if (value->n == 0 || (reader->n_layers != 0 && value->n != reader->n_layers))
        return refuse(reader->why, STATUS_CORRUPT,
                      "key %s is an array of %" PRIu64
                      "; it must hold a number for each of %u layers",
                      key, value->n, reader->n_layers);
    int status = gguf_u32_at(value, key, 0, &first, reader->why);
    for (uint64_t i = 1; i < value->n && status == STATUS_OK; i++) {
        status = gguf_u32_at(value, key, i, &next, reader->why);
        if (status == STATUS_OK && next != first)
            return refuse(reader->why, STATUS_UNSUPPORTED,
                          "key %s differs by layer (%u in layer 0, %u in layer %" PRIu64
                          "); this build reads one "
                          "number for all",
                          key, first, next, i);
    }
    *out = first;
    return status < 0 ? status : 1;
}

static uint32_t read_number(struct arch_reader *reader, const char *key, uint32_t min, uint32_t max,
                            bool required, uint32_t fallback)
{
    struct full_key full = key_of(reader, key);
    uint32_t number = fallback;

    if (reader->status < 0)
        return fallback;
    int found = read_uniform(reader, full.text, &number);
    if (found < 0)
        reader->status = found;
    else if (found == 0 && required)
        arch_fault(reader, STATUS_CORRUPT, "key %s is missing", full.text);
    else if (found == 1 && (number < min || number > max))
        arch_fault(reader, STATUS_CORRUPT, "key %s is %u; it must be %u to %u", full.text, number,
                   min, max);
    return number;
}

uint32_t arch_number(struct arch_reader *reader, const char *key, uint32_t min, uint32_t max)
{
    return read_number(reader, key, min, max, true, min);
}

uint32_t arch_number_or(struct arch_reader *reader, const char *key, uint32_t min, uint32_t max,
                        uint32_t fallback)
{
    return read_number(reader, key, min, max, false, fallback);
}

const struct gguf_value *arch_flags(struct arch_reader *reader, const char *key)
{
    struct full_key full = key_of(reader, key);
    const struct gguf_value *value = gguf_find(reader->file, full.text);

    if (reader->status < 0 || value == NULL || value->kind != GGUF_ARRAY)
        return NULL;
    if (value->element == GGUF_BOOL && value->n == reader->n_layers)
        return value;
    arch_fault(reader, STATUS_CORRUPT,
               "key %s is an array of %" PRIu64 " of %s; it must hold a bool for each of %u layers",
               full.text, value->n, gguf_kind_name(value->element), reader->n_layers);
    return NULL;
}

static float read_real(struct arch_reader *reader, const char *key, double min, double max,
                       bool required, double fallback)
{
    struct full_key full = key_of(reader, key);
    float number = (float)fallback;

    if (reader->status < 0)
        return number;
    int found = gguf_f32(reader->file, full.text, &number, reader->why);
    if (found < 0)
        reader->status = found;
    else if (found == 0 && required)
        arch_fault(reader, STATUS_CORRUPT, "key %s is missing", full.text);
    else if (found == 1 && !(isfinite(number) && number >= min && number <= max))
        arch_fault(reader, STATUS_CORRUPT, "key %s is %g; it must be %g to %g", full.text,
                   (double)number, min, max);
    return number;
}

float arch_real(struct arch_reader *reader, const char *key, double min, double max)
{
    return read_real(reader, key, min, max, true, min);
}

float arch_real_or(struct arch_reader *reader, const char *key, double min, double max,
                   double fallback)
{
    return read_real(reader, key, min, max, false, fallback);
}

bool arch_flag_or(struct arch_reader *reader, const char *key, bool fallback)
{
    struct full_key full = key_of(reader, key);
    bool flag = fallback;

    if (reader->status < 0)
        return flag;
    int found = gguf_bool(reader->file, full.text, &flag, reader->why);
    if (found < 0)
        reader->status = found;
    return flag;
}

struct slice arch_text_or(struct arch_reader *reader, const char *key, const char *fallback)
{
    struct full_key full = key_of(reader, key);
    struct slice text = slice_from(fallback);

    if (reader->status < 0)
        return text;
    int found = gguf_string(reader->file, full.text, &text, reader->why);
    if (found < 0)
        reader->status = found;
    return text;
}

/* --- tensors --- */

static const struct gguf_tensor *find(struct arch_reader *reader, const char *name, uint64_t n_in,
                                      uint64_t n_out, uint64_t n)
{
    if (reader->status < 0)
        return NULL;
    const struct gguf_tensor *tensor = gguf_tensor_find(reader->file, name);
    if (tensor == NULL) {
        arch_fault(reader, STATUS_CORRUPT, "tensor %s is missing", name);
        return NULL;
    }
    char times[32];
    snprintf(times, sizeof times, " %" PRIu64 " times", n);
    reader->uses_tensor[tensor - gguf_tensor_at(reader->file, 0)] = true;
    if (tensor->dims[0] != n_in || tensor->dims[1] != n_out || tensor->dims[2] != n ||
        tensor->dims[3] != 1)
        arch_fault(reader, STATUS_CORRUPT,
                   "tensor %s has the shape [%" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64
                   "]; the keys imply [%" PRIu64 ", %" PRIu64 "]%s",
                   name, tensor->dims[0], tensor->dims[1], tensor->dims[2], tensor->dims[3], n_in,
                   n_out, n > 1 ? times : "");
    return tensor;
}

static void check_matrices(struct arch_reader *reader, const char *name, uint64_t n_in,
                           uint64_t n_out, uint64_t n)
{
    const struct gguf_tensor *tensor = find(reader, name, n_in, n_out, n);
    if (tensor == NULL || reader->status < 0)
        return;
    const struct tensor_type_info *type = tensor_type_info(tensor->type);
    if (!type->is_read)
        arch_fault(reader, STATUS_UNSUPPORTED,
                   "%s is %s, which this build cannot read; use a file of %s", name, type->name,
                   tensor_type_read_list());
}

void arch_matrix(struct arch_reader *reader, const char *name, uint64_t n_in, uint64_t n_out)
{
    check_matrices(reader, name, n_in, n_out, 1);
}

void arch_vector(struct arch_reader *reader, const char *name, uint64_t n)
{
    const struct gguf_tensor *tensor = find(reader, name, n, 1, 1);
    if (tensor == NULL || reader->status < 0)
        return;
    if (!tensor_type_is_float(tensor->type))
        arch_fault(reader, STATUS_UNSUPPORTED, "%s is %s; a vector must be F32, F16 or BF16", name,
                   tensor_type_info(tensor->type)->name);
}

bool arch_has(const struct arch_reader *reader, const char *name)
{
    return gguf_tensor_find(reader->file, name) != NULL;
}

void arch_layer_matrix(struct arch_reader *reader, uint32_t layer, const char *part, uint64_t n_in,
                       uint64_t n_out)
{
    struct full_key name = name_of(layer, part);
    arch_matrix(reader, name.text, n_in, n_out);
}

void arch_layer_matrices(struct arch_reader *reader, uint32_t layer, const char *part,
                         uint64_t n_in, uint64_t n_out, uint64_t n)
{
    struct full_key name = name_of(layer, part);
    check_matrices(reader, name.text, n_in, n_out, n);
}

void arch_layer_vector(struct arch_reader *reader, uint32_t layer, const char *part, uint64_t n)
{
    struct full_key name = name_of(layer, part);
    arch_vector(reader, name.text, n);
}

bool arch_layer_has(const struct arch_reader *reader, uint32_t layer, const char *part)
{
    struct full_key name = name_of(layer, part);
    return arch_has(reader, name.text);
}
