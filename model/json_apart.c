/* Whether at most one of some schemas can hold: by types, or by a property that says which. */
#include <stdlib.h>
#include <string.h>

#include "model/json_compile.h"

#define REFS_FOLLOWED 8
#define MARKS_MAX 64 /* values of one property that are compared with others' */
#define COMPARED_MAX (1u << 20) /* for a whole schema; beyond, all is taken for alike */

enum { OF_NULL = 1, OF_BOOLEAN = 2, OF_NUMBER = 4, OF_STRING = 8, OF_ARRAY = 16, OF_OBJECT = 32 };
#define OF_ALL 63u

static int hex_of(char digit)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *at = digit != '\0' ? strchr(digits, digit) : NULL;
    return at != NULL ? (int)(at - digits) % 16 : -1;
}

/* %HH of a URI, by which a $ref may spell any byte; anything else is itself. */
static char take_byte(const char **at, const char *end)
{
    const char *text = *at;
    bool is_spelled =
        end - text > 2 && *text == '%' && hex_of(text[1]) >= 0 && hex_of(text[2]) >= 0;
    *at += is_spelled ? 3 : 1;
    return is_spelled ? (char)(hex_of(text[1]) << 4 | hex_of(text[2])) : *text;
}

/* The value behind one step of a pointer, [step, end), ~1 and ~0 being / and ~. */
static const json_t *step_into(const json_t *at, const char *step, const char *end)
{
    char name[POINTER_BYTES];
    size_t n = 0;
    while (step < end && n + 1 < sizeof name) {
        name[n++] = take_byte(&step, end);
        if (n > 1 && name[n - 2] == '~' && (name[n - 1] == '0' || name[n - 1] == '1')) {
            n--;
            name[n - 1] = name[n] == '0' ? '~' : '/';
        }
    }
    name[n] = '\0';
    if (step < end)
        return NULL;
    if (!json_is_array(at))
        return json_object_get(at, name);
    char *rest;
    unsigned long index = strtoul(name, &rest, 10);
    return name[0] >= '0' && name[0] <= '9' && *rest == '\0' ? json_array_get(at, index) : NULL;
}

const json_t *json_resolve(const json_t *root, const char *ref)
{
    const json_t *at = root;
    if (*ref++ != '#')
        return NULL;
    while (*ref == '/' && at != NULL) {
        const char *step = ref + 1, *end = strchr(step, '/');
        end = end != NULL ? end : step + strlen(step);
        at = step_into(at, step, end);
        ref = end;
    }
    return *ref == '\0' ? at : NULL;
}

static const json_t *follow(const struct json_compile *c, const json_t *schema)
{
    for (int i = 0; i < REFS_FOLLOWED && schema != NULL; i++) {
        const char *ref = json_string_value(json_object_get(schema, "$ref"));
        if (ref == NULL)
            return schema;
        schema = json_resolve(c->root, ref);
    }
    return NULL;
}

static uint32_t type_of_value(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return OF_OBJECT;
    case JSON_ARRAY:
        return OF_ARRAY;
    case JSON_STRING:
        return OF_STRING;
    case JSON_INTEGER:
    case JSON_REAL:
        return OF_NUMBER;
    case JSON_NULL:
        return OF_NULL;
    default:
        return OF_BOOLEAN;
    }
}

static uint32_t type_of_name(const json_t *name)
{
    static const char *const names[] = {"null",  "boolean", "number",
                                        "string", "array",   "object"};
    const char *text = json_string_value(name);
    for (uint32_t i = 0; text != NULL && i < 6; i++)
        if (strcmp(text, names[i]) == 0)
            return 1u << i;
    return text != NULL && strcmp(text, "integer") == 0 ? OF_NUMBER : OF_ALL;
}

/* Types of the values that may hold. */
static uint32_t types_of(const json_t *schema)
{
    const json_t *type = json_object_get(schema, "type"), *list = json_object_get(schema, "enum");
    const json_t *value = json_object_get(schema, "const");
    uint32_t types = 0;

    if (value != NULL)
        return type_of_value(value);
    for (size_t i = 0; i < json_array_size(list); i++)
        types |= type_of_value(json_array_get(list, i));
    for (size_t i = 0; i < json_array_size(type); i++)
        types |= type_of_name(json_array_get(type, i));
    if (types != 0)
        return types;
    return json_is_string(type) ? type_of_name(type) : OF_ALL;
}

struct values { /* that a schema holds for alone, as `const` or `enum` has them */
    const json_t *value, *list;
    size_t n; /* 0: it is not such a one, or has too many to compare */
};

static struct values values_of(const json_t *schema)
{
    struct values values = {json_object_get(schema, "const"), json_object_get(schema, "enum"), 1};
    if (values.value == NULL)
        values.n = json_array_size(values.list) <= MARKS_MAX ? json_array_size(values.list) : 0;
    return values;
}

static const json_t *value_at(const struct values *values, size_t i)
{
    return values->value != NULL ? values->value : json_array_get(values->list, i);
}

/* Not of those that are equal to some that are written otherwise, as 1 and 1.0 are. */
static bool is_plain(const json_t *value)
{
    return !json_is_real(value) && (type_of_value(value) & (OF_ARRAY | OF_OBJECT)) == 0;
}

/* Counts n comparisons. False: they are more than are made. */
static bool may_compare(struct json_compile *c, size_t n)
{
    if (c->n_compared + n > COMPARED_MAX)
        return false;
    c->n_compared += (uint32_t)n;
    return true;
}

/* Each holds for some values alone, and none of those are the other's. */
static bool have_other_values(struct json_compile *c, const json_t *a, const json_t *b)
{
    struct values of_a = values_of(a), of_b = values_of(b);
    if (of_a.n == 0 || of_b.n == 0 || !may_compare(c, of_a.n * of_b.n))
        return false;
    for (size_t i = 0; i < of_a.n; i++)
        for (size_t j = 0; j < of_b.n; j++) {
            const json_t *one = value_at(&of_a, i), *other = value_at(&of_b, j);
            if (!is_plain(one) || !is_plain(other) || json_equal(one, other))
                return false;
        }
    return true;
}

static bool requires(struct json_compile *c, const json_t *schema, const char *name)
{
    const json_t *required = json_object_get(schema, "required");
    if (!may_compare(c, json_array_size(required)))
        return false;
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *one = json_string_value(json_array_get(required, i));
        if (one != NULL && strcmp(one, name) == 0)
            return true;
    }
    return false;
}

/* Both are objects that require a property for which each has other values. */
static bool has_other_mark(struct json_compile *c, const json_t *a, const json_t *b)
{
    const json_t *of_b = json_object_get(b, "properties");
    const char *name;
    json_t *schema;

    json_object_foreach(json_object_get(a, "properties"), name, schema)
    {
        const json_t *other = json_object_get(of_b, name);
        if (other != NULL && have_other_values(c, schema, other) && requires(c, a, name) &&
            requires(c, b, name))
            return true;
    }
    return false;
}

bool json_are_apart(struct json_compile *c, const json_t *schemas)
{
    size_t n = json_array_size(schemas);

    if (n > GRAMMAR_CLASS_RANGES_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++) {
            const json_t *a = follow(c, json_array_get(schemas, i));
            const json_t *b = follow(c, json_array_get(schemas, j));
            if (!json_is_object(a) || !json_is_object(b))
                return false;
            uint32_t both = types_of(a) & types_of(b);
            if (both != 0 && !(both == OF_OBJECT && has_other_mark(c, a, b)) &&
                !have_other_values(c, a, b))
                return false;
        }
    return true;
}
