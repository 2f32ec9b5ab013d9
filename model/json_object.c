/* Objects: members in the order of `properties`, those that are not required may be left out. A
 * schema that names no member and says nothing of others is any object.
 *
 *   first[i]   nothing is written yet, member i is next      first[n]: the others, or nothing
 *   more[i]    something is, so a comma comes before it      more[n]
 */
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/utf8.h"
#include "model/json_compile.h"

#define EXCLUDED_NAME_MAX 256 /* code points of a name that other names must differ from */

static bool is_required(const json_t *schema, const char *name)
{
    const json_t *required = json_object_get(schema, "required");
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *one = json_string_value(json_array_get(required, i));
        if (one != NULL && strcmp(one, name) == 0)
            return true;
    }
    return false;
}

/* --- names that are not of a list --- */

struct name {
    uint32_t codes[EXCLUDED_NAME_MAX];
    uint32_t n;
};

static int by_codes(const void *left, const void *right)
{
    const struct name *a = left, *b = right;
    for (uint32_t i = 0; i < a->n && i < b->n; i++)
        if (a->codes[i] != b->codes[i])
            return a->codes[i] < b->codes[i] ? -1 : 1;
    return (a->n > b->n) - (a->n < b->n);
}

static bool decode(const char *text, struct name *out)
{
    out->n = 0;
    for (const uint8_t *at = (const uint8_t *)text; *at != 0;) {
        uint32_t n = *at < 0x80 ? 0 : *at < 0xe0 ? 1 : *at < 0xf0 ? 2 : 3;
        uint32_t code = n == 0 ? *at : *at & (0x3fu >> n);
        for (at++; n > 0; n--, at++)
            code = code << 6 | (*at & 0x3f);
        if (out->n == EXCLUDED_NAME_MAX)
            return false;
        out->codes[out->n++] = code;
    }
    return true;
}

static bool wants_escape(const struct name *name)
{
    for (uint32_t i = 0; i < name->n; i++)
        if (name->codes[i] < ' ' || name->codes[i] == '"' || name->codes[i] == '\\')
            return true;
    return false;
}

/* The rest of a name and its quote, behind `depth` characters that names[0..n), sorted, share. */
static uint32_t other_rest(struct json_compile *c, const struct name *names, size_t n,
                           uint32_t depth, uint32_t plain)
{
    struct code_range taken[GRAMMAR_CLASS_RANGES_MAX] = {{0, 0x1f}, {'"', '"'}, {'\\', '\\'}};
    size_t n_taken = 3, i = 0;
    bool is_name = n > 0 && names[0].n == depth;
    uint32_t quote = rules_text(c->rules, "\""), all = 0;
    bool is_first = true;

    if (is_name)
        i = 1;
    else {
        all = quote;
        is_first = false;
    }
    while (i < n && c->status == STATUS_OK && c->rules->status == STATUS_OK) {
        size_t begin = i;
        uint32_t code = names[i].codes[depth];
        while (i < n && names[i].codes[depth] == code)
            i++;
        if (n_taken == GRAMMAR_CLASS_RANGES_MAX)
            return json_refuse(c, "properties", "more than %d characters that names go on with",
                               GRAMMAR_CLASS_RANGES_MAX - 3);
        taken[n_taken++] = (struct code_range){code, code};
        uint32_t same = rules_class(c->rules, &(struct code_range){code, code}, 1, false);
        uint32_t rest =
            JSON_JOIN(c, same, other_rest(c, names + begin, i - begin, depth + 1, plain));
        all = is_first ? rest : rules_choice(c->rules, all, rest);
        is_first = false;
    }
    uint32_t other = JSON_JOIN(c, rules_class(c->rules, taken, n_taken, true), plain, quote);
    return json_named(c, is_first ? other : rules_choice(c->rules, all, other));
}

/* A name that is not one of the properties', without escapes, so that it is none of them in
 * disguise. */
static uint32_t other_name(struct json_compile *c, const json_t *properties)
{
    static const struct code_range escaped[] = {{0, 0x1f}, {'"', '"'}, {'\\', '\\'}};
    size_t n_max = json_object_size(properties), n = 0;
    const char *key;
    json_t *value;

    struct name *names = malloc((n_max + 1) * sizeof *names);
    if (names == NULL)
        return json_refuse(c, "properties", "no memory for %zu names", n_max);
    json_object_foreach((json_t *)properties, key, value)
    {
        if (!decode(key, &names[n])) {
            free(names);
            return json_refuse(c, "properties",
                               "a name of more than %d characters beside additionalProperties",
                               EXCLUDED_NAME_MAX);
        }
        n += !wants_escape(&names[n]); /* else no name without escapes is this one */
    }
    qsort(names, n, sizeof *names, by_codes);
    uint32_t plain = rules_repeat(c->rules, rules_class(c->rules, escaped, 3, true), 0,
                                  GRAMMAR_UNBOUNDED);
    uint32_t rest = other_rest(c, names, n, 0, plain);
    free(names);
    return JSON_JOIN(c, rules_text(c->rules, "\""), rest);
}

/* A name under `propertyNames`, which says what a string is. */
static uint32_t name_of_schema(struct json_compile *c, const json_t *names)
{
    static const char *const known[] = {"type", "minLength", "maxLength", "pattern"};
    const char *keyword;
    json_t *value;

    if (!json_is_object(names))
        return json_refuse(c, "propertyNames", "it takes an object that is a schema");
    json_object_foreach((json_t *)names, keyword, value)
    {
        size_t i = 0;
        while (i < sizeof known / sizeof *known && strcmp(known[i], keyword) != 0)
            i++;
        bool is_other_type = i == 0 && (!json_is_string(value) ||
                                        strcmp(json_string_value(value), "string") != 0);
        if (i == sizeof known / sizeof *known || is_other_type)
            return json_refuse(c, "propertyNames",
                               "of names minLength, maxLength, pattern and the type string are "
                               "compiled, not \"%.40s\"", keyword);
    }
    return json_object_size(names) == 0
               ? c->text
               : json_schema_below(c, "propertyNames", -1, NULL, names);
}

/* --- members --- */

struct members {
    uint32_t *exprs; /* [n] */
    bool *required;  /* [n] */
    size_t n;
    bool has_others, wants_other; /* at least one of those */
    uint32_t other; /* a member that is not named */
    uint32_t most;  /* of those, where there are no other members */
};

static uint32_t member_expr(struct json_compile *c, const char *name, uint32_t value)
{
    json_t *text = json_string_nocheck(name);
    if (text == NULL)
        return json_refuse(c, "properties", "no memory for a name");
    uint32_t key = json_literal(c, text);
    json_decref(text);
    return json_named(c, JSON_JOIN(c, key, c->colon, value));
}

static void add_named(struct json_compile *c, const json_t *schema, struct members *members)
{
    const json_t *properties = json_object_get(schema, "properties");
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)properties, name, value)
    {
        members->required[members->n] = is_required(schema, name);
        if (json_is_false(value) && !members->required[members->n])
            continue; /* it may not be there */
        uint32_t expr = json_schema_below(c, "properties", -1, name, value);
        members->exprs[members->n++] = member_expr(c, name, expr);
    }
}

/* Required names that have no schema of their own. */
static void add_required(struct json_compile *c, const json_t *schema, struct members *members)
{
    const json_t *required = json_object_get(schema, "required"), *properties =
        json_object_get(schema, "properties");
    const json_t *others = json_object_get(schema, "additionalProperties");

    for (size_t i = 0; i < json_array_size(required) && c->status == STATUS_OK &&
                       c->rules->status == STATUS_OK; i++) {
        const char *name = json_string_value(json_array_get(required, i));
        bool is_again = false;
        for (size_t j = 0; j < i && name != NULL && !is_again; j++)
            is_again = strcmp(json_string_value(json_array_get(required, j)), name) == 0;
        if (name == NULL) {
            json_refuse(c, "required", "it takes a list of names");
            return;
        }
        if (is_again || json_object_get(properties, name) != NULL)
            continue;
        if (json_is_false(others)) {
            json_refuse(c, "required", "\"%.80s\" is no property, and there may be no others",
                        name);
            return;
        }
        uint32_t value = others == NULL
                             ? c->value
                             : json_schema_below(c, "additionalProperties", -1, NULL, others);
        members->required[members->n] = true;
        members->exprs[members->n++] = member_expr(c, name, value);
    }
}

static void add_others(struct json_compile *c, const json_t *schema, struct members *members)
{
    const json_t *others = json_object_get(schema, "additionalProperties"), *properties =
        json_object_get(schema, "properties");

    const json_t *names = json_object_get(schema, "propertyNames");
    size_t n_required = json_array_size(json_object_get(schema, "required"));

    if (names != NULL && members->n > 0) {
        json_refuse(c, "propertyNames", "beside properties it is not compiled");
        return;
    }
    members->has_others =
        others != NULL ? !json_is_false(others) : properties == NULL && n_required == 0;
    if (!members->has_others)
        return;
    if (n_required > 0 && json_object_size(properties) < n_required) {
        json_refuse(c, "required", "names without a schema beside additionalProperties: list all "
                                   "required names in properties");
        return;
    }
    uint32_t name = c->text;
    if (names != NULL)
        name = name_of_schema(c, names);
    else if (json_object_size(properties) > 0)
        name = other_name(c, properties);
    uint32_t value = others == NULL
                         ? c->value
                         : json_schema_below(c, "additionalProperties", -1, NULL, others);
    members->other = json_named(c, JSON_JOIN(c, name, c->colon, value));
}

/* --- the whole --- */

/* Names may come twice, so what counts members can only be held where none are made up. */
static void check_counts(struct json_compile *c, const json_t *schema, struct members *members)
{
    uint32_t n_required = 0, min = json_count(c, schema, "minProperties", 0);
    uint32_t most = members->most = json_count(c, schema, "maxProperties", GRAMMAR_UNBOUNDED);
    for (size_t i = 0; i < members->n; i++)
        n_required += members->required[i];
    members->wants_other = min == 1 && members->n == 0 && members->has_others && most > 0;
    if (min > n_required && !members->wants_other)
        json_refuse(c, "minProperties",
                    "it is %u, and only %u are required: a grammar cannot count the others", min,
                    n_required);
    if (most != GRAMMAR_UNBOUNDED && members->n > 0 && (members->has_others || most < members->n))
        json_refuse(c, "maxProperties", "it is %u: a grammar cannot count which of %zu are there",
                    most, members->n);
}

static uint32_t members_expr(struct json_compile *c, const struct members *members)
{
    struct grammar_rules *rules = c->rules;
    uint32_t most = members->most, more = rules_empty(rules), first = rules_empty(rules);

    if (members->has_others && most > 0) {
        bool is_bound = most != GRAMMAR_UNBOUNDED;
        more = rules_repeat(rules, json_named(c, JSON_JOIN(c, c->comma, members->other)), 0,
                            is_bound ? most - 1 : most);
        first = rules_repeat(rules, JSON_JOIN(c, members->other, more), members->wants_other, 1);
    }
    for (size_t i = members->n; i-- > 0 && rules->status == STATUS_OK;) {
        uint32_t with = JSON_JOIN(c, members->exprs[i], more);
        first = json_named(c, members->required[i] ? with : rules_choice(rules, with, first));
        uint32_t next = JSON_JOIN(c, c->comma, members->exprs[i]);
        if (!members->required[i])
            next = rules_repeat(rules, next, 0, 1);
        more = json_named(c, JSON_JOIN(c, next, more));
    }
    return first;
}

uint32_t json_object_expr(struct json_compile *c, const json_t *schema)
{
    const json_t *properties = json_object_get(schema, "properties"), *required =
        json_object_get(schema, "required");
    struct members members = {.n = 0};
    uint32_t inside = 0;

    if (properties != NULL && !json_is_object(properties))
        return json_refuse(c, "properties", "it takes an object of schemas");
    if (required != NULL && !json_is_array(required))
        return json_refuse(c, "required", "it takes a list of names");
    size_t room = json_object_size(properties) + json_array_size(required) + 1;
    members.exprs = malloc(room * sizeof *members.exprs);
    members.required = malloc(room * sizeof *members.required);
    if (members.exprs == NULL || members.required == NULL)
        json_refuse(c, "properties", "no memory for %zu members", room);
    if (c->status == STATUS_OK)
        add_named(c, schema, &members);
    if (c->status == STATUS_OK)
        add_required(c, schema, &members);
    if (c->status == STATUS_OK)
        add_others(c, schema, &members);
    if (c->status == STATUS_OK)
        check_counts(c, schema, &members);
    if (c->status == STATUS_OK)
        inside = members_expr(c, &members);
    free(members.exprs);
    free(members.required);
    return JSON_JOIN(c, rules_text(c->rules, "{"), c->blank, inside, c->blank,
                     rules_text(c->rules, "}"));
}
