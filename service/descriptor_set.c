#include "service/descriptor_set.h"

#include <assert.h>

/* CMake names the file and makes this one depend on it. */
__asm__(".pushsection .rodata\n"
        ".balign 16\n"
        "descriptor_set_begin:\n"
        ".incbin \"" DESCRIPTOR_SET_FILE "\"\n"
        "descriptor_set_end:\n"
        ".popsection\n");
/* Hidden: reached from here and not by the table of global addresses, where arm64's assembler makes
 * one entry of all labels of a section. */
extern const uint8_t descriptor_set_begin[] __attribute__((visibility("hidden")));
extern const uint8_t descriptor_set_end[] __attribute__((visibility("hidden")));

/* Field numbers of google/protobuf/descriptor.proto. */
enum { SET_FILE = 1 };
enum {
    FILE_NAME = 1, FILE_PACKAGE = 2, FILE_IMPORT = 3, FILE_MESSAGE = 4, FILE_ENUM = 5,
    FILE_SERVICE = 6, FILE_EXTENSION = 7
};
enum {
    MESSAGE_FIELD = 2, MESSAGE_NESTED = 3, MESSAGE_ENUM = 4, MESSAGE_EXTENSION = 6,
    MESSAGE_ONEOF = 8
};
enum { NAME = 1, FIELD_EXTENDEE = 2, FIELD_NUMBER = 3, ENUM_VALUE = 2, SERVICE_METHOD = 2 };

struct slice descriptor_set_own(void)
{
    return slice_of(descriptor_set_begin, (size_t)(descriptor_set_end - descriptor_set_begin));
}

/* --- fields --- */

struct field {
    uint64_t number, value; /* value: of a varint */
    struct slice bytes;     /* of what has a length */
};

static bool read_varint(struct slice *in, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; shift < 64 && in->len > 0; shift += 7) {
        uint8_t byte = *in->bytes;
        *in = slice_of(in->bytes + 1, in->len - 1);
        *out |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* False at the end, and at what is no field that a descriptor has. */
static bool next_field(struct slice *in, struct field *out)
{
    uint64_t key, len;
    if (in->len == 0 || !read_varint(in, &key))
        return false;
    *out = (struct field){.number = key >> 3};
    if ((key & 7) == 0)
        return read_varint(in, &out->value);
    if ((key & 7) != 2 || !read_varint(in, &len) || len > in->len)
        return false;
    out->bytes = slice_of(in->bytes, (size_t)len);
    *in = slice_of(in->bytes + len, in->len - (size_t)len);
    return true;
}

/* The first field of that number; zeros where there is none. */
static struct field field_of(struct slice in, uint64_t number)
{
    struct field field;
    while (next_field(&in, &field))
        if (field.number == number)
            return field;
    return (struct field){.number = number};
}

static struct slice name_of(struct slice descriptor)
{
    return field_of(descriptor, NAME).bytes;
}

/* --- names --- */

/* "a.b.c" within "a.b": true, and *rest is "c". Within nothing everything is itself. */
static bool is_within(struct slice name, struct slice scope, struct slice *rest)
{
    *rest = name;
    if (scope.len == 0)
        return true;
    if (name.len < scope.len + 2 || memcmp(name.bytes, scope.bytes, scope.len) != 0 ||
        name.bytes[scope.len] != '.')
        return false;
    *rest = slice_of(name.bytes + scope.len + 1, name.len - scope.len - 1);
    return true;
}

/* Clients may write ".pkg.Name", as descriptors do. */
static struct slice without_dot(struct slice name)
{
    return name.len > 0 && name.bytes[0] == '.' ? slice_of(name.bytes + 1, name.len - 1) : name;
}

static bool enum_declares(struct slice descriptor, struct slice name)
{
    struct slice rest = descriptor, in_enum, own = name_of(descriptor);
    struct field field;
    bool is_inside = is_within(name, own, &in_enum);

    if (slice_equal(name, own))
        return true;
    while (next_field(&rest, &field))
        if (field.number == ENUM_VALUE &&
            (slice_equal(name_of(field.bytes), name) ||
             (is_inside && slice_equal(name_of(field.bytes), in_enum))))
            return true;
    return false;
}

static bool service_declares(struct slice descriptor, struct slice name)
{
    struct slice rest = descriptor, method, own = name_of(descriptor);
    struct field field;

    if (slice_equal(name, own))
        return true;
    if (!is_within(name, own, &method))
        return false;
    while (next_field(&rest, &field))
        if (field.number == SERVICE_METHOD && slice_equal(name_of(field.bytes), method))
            return true;
    return false;
}

static bool message_declares(struct slice descriptor, struct slice name, bool message_only)
{
    struct slice rest = descriptor, inner, own = name_of(descriptor);
    struct field field;

    if (slice_equal(name, own))
        return true;
    if (!is_within(name, own, &inner))
        return false;
    while (next_field(&rest, &field)) {
        if (field.number == MESSAGE_NESTED) {
            if (message_declares(field.bytes, inner, message_only))
                return true;
        } else if (message_only) {
            continue;
        } else if (field.number == MESSAGE_ENUM) {
            if (enum_declares(field.bytes, inner))
                return true;
        } else if (field.number == MESSAGE_FIELD || field.number == MESSAGE_ONEOF ||
                   field.number == MESSAGE_EXTENSION) {
            if (slice_equal(name_of(field.bytes), inner))
                return true;
        }
    }
    return false;
}

static bool file_declares(struct slice file, struct slice symbol, bool message_only)
{
    struct slice rest = file, name;
    struct field field;

    if (!is_within(symbol, field_of(file, FILE_PACKAGE).bytes, &name))
        return false;
    while (next_field(&rest, &field)) {
        if (field.number == FILE_MESSAGE) {
            if (message_declares(field.bytes, name, message_only))
                return true;
        } else if (message_only) {
            continue;
        } else if (field.number == FILE_ENUM) {
            if (enum_declares(field.bytes, name))
                return true;
        } else if (field.number == FILE_SERVICE) {
            if (service_declares(field.bytes, name))
                return true;
        } else if (field.number == FILE_EXTENSION) {
            if (slice_equal(name_of(field.bytes), name))
                return true;
        }
    }
    return false;
}

/* --- extensions --- */

/* Adds to *n the numbers of the message's extensions below a file (or, nested, a message); with
 * max numbers taken it still counts. */
static void collect_extensions(struct slice scope, bool is_file, struct slice message,
                               int32_t *numbers, size_t max, size_t *n)
{
    const uint64_t extension = is_file ? FILE_EXTENSION : MESSAGE_EXTENSION;
    const uint64_t nested = is_file ? FILE_MESSAGE : MESSAGE_NESTED;
    struct field field;

    while (next_field(&scope, &field)) {
        if (field.number == nested) {
            collect_extensions(field.bytes, false, message, numbers, max, n);
        } else if (field.number == extension) {
            struct slice extendee = field_of(field.bytes, FIELD_EXTENDEE).bytes;
            if (!slice_equal(without_dot(extendee), message))
                continue;
            if (*n < max)
                numbers[*n] = (int32_t)field_of(field.bytes, FIELD_NUMBER).value;
            (*n)++;
        }
    }
}

static bool file_extends(struct slice file, struct slice message, int32_t number)
{
    int32_t numbers[64];
    size_t n = 0;

    collect_extensions(file, true, message, numbers, sizeof numbers / sizeof *numbers, &n);
    assert(n <= sizeof numbers / sizeof *numbers);
    for (size_t i = 0; i < n; i++)
        if (numbers[i] == number)
            return true;
    return false;
}

/* --- the set --- */

struct slice descriptor_set_file(struct slice set, int file)
{
    struct field field;
    while (file >= 0 && next_field(&set, &field))
        if (field.number == SET_FILE && file-- == 0)
            return field.bytes;
    return slice_of(NULL, 0);
}

#define for_each_file(set, idx, file)                                                              \
    for (int idx = 0; idx < DESCRIPTOR_FILES_MAX && ((file) = descriptor_set_file(set, idx)).len;  \
         idx++)

int descriptor_set_named(struct slice set, struct slice file_name)
{
    struct slice file;
    for_each_file(set, i, file)
        if (slice_equal(name_of(file), file_name))
            return i;
    return -1;
}

int descriptor_set_declaring(struct slice set, struct slice symbol)
{
    struct slice file;
    for_each_file(set, i, file)
        if (file_declares(file, without_dot(symbol), false))
            return i;
    return -1;
}

int descriptor_set_extending(struct slice set, struct slice message, int32_t number)
{
    struct slice file;
    for_each_file(set, i, file)
        if (file_extends(file, without_dot(message), number))
            return i;
    return -1;
}

/* A bit for the file and for each of its imports, direct or not. */
static uint64_t with_imports(struct slice set, int file)
{
    uint64_t found = UINT64_C(1) << file, walked = 0;

    while (found != walked) {
        int next = __builtin_ctzll(found & ~walked);
        struct slice rest = descriptor_set_file(set, next);
        struct field field;
        while (next_field(&rest, &field)) {
            int import = field.number == FILE_IMPORT ? descriptor_set_named(set, field.bytes) : -1;
            if (import >= 0)
                found |= UINT64_C(1) << import;
        }
        walked |= UINT64_C(1) << next;
    }
    return found;
}

size_t descriptor_set_take(struct slice set, int file, uint64_t *sent, struct slice *files)
{
    uint64_t own = UINT64_C(1) << file, imports = with_imports(set, file) & ~own & ~*sent;
    size_t n = 0;

    *sent |= own | imports;
    files[n++] = descriptor_set_file(set, file);
    for (; imports != 0; imports &= imports - 1)
        files[n++] = descriptor_set_file(set, __builtin_ctzll(imports));
    return n;
}

bool descriptor_set_has_message(struct slice set, struct slice name)
{
    struct slice file;
    for_each_file(set, i, file)
        if (file_declares(file, without_dot(name), true))
            return true;
    return false;
}

size_t descriptor_set_extensions(struct slice set, struct slice message, int32_t *numbers,
                                 size_t max)
{
    struct slice file;
    size_t n = 0;
    for_each_file(set, i, file)
        collect_extensions(file, true, without_dot(message), numbers, max, &n);
    return n < max ? n : max;
}

size_t descriptor_set_services(struct slice set, struct descriptor_service *services, size_t max)
{
    struct slice file;
    size_t n = 0;
    for_each_file(set, i, file) {
        struct slice rest = file, package = field_of(file, FILE_PACKAGE).bytes;
        struct field field;
        while (n < max && next_field(&rest, &field))
            if (field.number == FILE_SERVICE)
                services[n++] = (struct descriptor_service){package, name_of(field.bytes)};
    }
    return n;
}
