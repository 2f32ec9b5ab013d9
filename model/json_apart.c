/* Whether at most one of some schemas can hold: by types, or by a property that says which. */
#include <stdlib.h>
#include <string.h>

#include "model/json_compile.h"

#define REFS_FOLLOWED 8

enum { OF_NULL = 1, OF_BOOLEAN = 2, OF_NUMBER = 4, OF_STRING = 8, OF_ARRAY = 16, OF_OBJECT = 32 };
#define OF_ALL 63u

/* The value behind one step of a pointer, [step, end), ~1 and ~0 being / and ~. */
static const json_t *step_into(const json_t *at, const char *step, const char *end)
{
    char name[POINTER_BYTES];
    size_t n = 0;
    while (step < end && n + 1 < sizeof name) {
        bool is_escape = *step == '~' && step + 1 < end && (step[1] == '0' || step[1] == '1');
        name[n++] = !is_escape ? *step : step[1] == '0' ? '~' : '/';
        step += is_escape ? 2 : 1;
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

static bool requires(const json_t *schema, const char *name)
{
    const json_t *required = json_object_get(schema, "required");
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *one = json_string_value(json_array_get(required, i));
        if (one != NULL && strcmp(one, name) == 0)
            return true;
    }
    return false;
}

/* The text that a schema holds for alone; NULL: it is not such a one. */
static const char *only_text(const json_t *schema)
{
    const json_t *list = json_object_get(schema, "enum");
    if (json_array_size(list) == 1)
        return json_string_value(json_array_get(list, 0));
    return json_string_value(json_object_get(schema, "const"));
}

/* Both are objects that require a property for which each has another text. */
static bool has_other_mark(const json_t *a, const json_t *b)
{
    const json_t *of_b = json_object_get(b, "properties");
    const char *name;
    json_t *schema;

    json_object_foreach(json_object_get(a, "properties"), name, schema)
    {
        const char *mark = only_text(schema), *other = only_text(json_object_get(of_b, name));
        if (mark != NULL && other != NULL && strcmp(mark, other) != 0 && requires(a, name) &&
            requires(b, name))
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
            if (both != 0 && !(both == OF_OBJECT && has_other_mark(a, b)) &&
                !(only_text(a) != NULL && only_text(b) != NULL &&
                  strcmp(only_text(a), only_text(b)) != 0))
                return false;
        }
    return true;
}
