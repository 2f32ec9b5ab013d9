#include "model/json_schema.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "model/json_compile.h"
#include "model/json_place.h"

#define KEYWORD_BYTES 80 /* shown of a keyword */

/* --- refusals --- */

uint32_t json_refuse(struct json_compile *c, const char *keyword, const char *format, ...)
{
    char text[WHY_BYTES / 2], pointer[POINTER_BYTES + KEYWORD_BYTES];
    uint32_t line, column;
    va_list list;

    if (c->status < 0 || c->rules->status < 0) /* what fails behind a limit is no fault */
        return 0;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    snprintf(pointer, sizeof pointer, "%.*s%s%s", (int)c->n_pointer, c->pointer,
             keyword != NULL ? "/" : "", keyword != NULL ? keyword : "");
    grammar_rules_place(c->source, json_place(c->source, slice_from(pointer)), &line, &column);
    c->status = refuse(c->why, STATUS_INVALID, "line %u, column %u: at #%s: %s", line, column,
                       pointer, text);
    return 0;
}

/* A step of a JSON pointer: ~ and / are escaped. */
static void point(struct json_compile *c, const char *step)
{
    if (c->n_pointer < POINTER_BYTES)
        c->pointer[c->n_pointer++] = '/';
    for (; *step != '\0' && c->n_pointer + 2 < POINTER_BYTES; step++) {
        bool is_escaped = *step == '~' || *step == '/';
        if (is_escaped)
            c->pointer[c->n_pointer++] = '~';
        c->pointer[c->n_pointer++] = *step == '~' ? '0' : *step == '/' ? '1' : *step;
    }
}

uint32_t json_schema_below(struct json_compile *c, const char *key, long index, const char *name,
                           const json_t *schema)
{
    size_t before = c->n_pointer;
    char number[24];

    point(c, key);
    if (index >= 0) {
        snprintf(number, sizeof number, "%ld", index);
        point(c, number);
    }
    if (name != NULL)
        point(c, name);
    uint32_t expr = json_schema_expr(c, schema);
    c->n_pointer = before;
    return expr;
}

/* --- small parts --- */

uint32_t json_count(struct json_compile *c, const json_t *schema, const char *keyword,
                    uint32_t absent)
{
    const json_t *value = json_object_get(schema, keyword);
    double number = value != NULL ? json_number_value(value) : 0;

    if (value == NULL)
        return absent;
    if (!json_is_number(value) || number < 0 || number != floor(number))
        return json_refuse(c, keyword, "it takes a whole number from 0 on");
    if (number > GRAMMAR_REPEAT_MAX)
        return json_refuse(c, keyword, "it is %.0f; at most %d is taken", number,
                           GRAMMAR_REPEAT_MAX);
    return (uint32_t)number;
}

uint32_t json_join(struct json_compile *c, ...)
{
    va_list list;
    va_start(list, c);
    uint32_t all = va_arg(list, uint32_t);
    for (uint32_t next; (next = va_arg(list, uint32_t)) != UINT32_MAX;)
        all = rules_sequence(c->rules, all, next);
    va_end(list);
    return all;
}

uint32_t json_named(struct json_compile *c, uint32_t expr)
{
    uint32_t rule = grammar_rules_name(c->rules, slice_of(NULL, 0));
    grammar_rules_define(c->rules, rule, expr);
    return rules_rule(c->rules, rule);
}

uint32_t json_literal(struct json_compile *c, const json_t *value)
{
    for (size_t digits = 15;; digits++) {
        size_t flags = JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(digits);
        char *text = json_dumps(value, flags);
        if (text == NULL) {
            c->status = refuse(c->why, STATUS_NO_MEMORY, "no memory for a value of the schema");
            return 0;
        }
        bool is_exact = digits == 17 || !json_is_real(value) ||
                        strtod(text, NULL) == json_real_value(value);
        uint32_t expr = is_exact ? rules_text(c->rules, text) : 0;
        free(text);
        if (is_exact)
            return expr;
    }
}

/* --- types --- */

static bool is_of_type(const json_t *value, const char *type)
{
    double number = json_is_number(value) ? json_number_value(value) : 0.5;
    if (strcmp(type, "integer") == 0)
        return json_is_integer(value) || (number < 9e15 && number > -9e15 &&
                                          number == (double)(int64_t)number);
    return (strcmp(type, "string") == 0 && json_is_string(value)) ||
           (strcmp(type, "number") == 0 && json_is_number(value)) ||
           (strcmp(type, "boolean") == 0 && json_is_boolean(value)) ||
           (strcmp(type, "null") == 0 && json_is_null(value)) ||
           (strcmp(type, "object") == 0 && json_is_object(value)) ||
           (strcmp(type, "array") == 0 && json_is_array(value));
}

static bool is_of_types(const json_t *value, const json_t *type)
{
    if (type == NULL)
        return true;
    if (json_is_string(type))
        return is_of_type(value, json_string_value(type));
    for (size_t i = 0; i < json_array_size(type); i++) {
        const json_t *one = json_array_get(type, i);
        if (json_is_string(one) && is_of_type(value, json_string_value(one)))
            return true;
    }
    return false;
}

static uint32_t type_expr(struct json_compile *c, const json_t *schema, const char *type)
{
    if (strcmp(type, "object") == 0)
        return json_object_expr(c, schema);
    if (strcmp(type, "array") == 0)
        return json_array_expr(c, schema);
    if (strcmp(type, "string") == 0)
        return json_string_expr(c, schema);
    if (strcmp(type, "integer") == 0 || strcmp(type, "number") == 0)
        return json_number_expr(c, schema, type[0] == 'i');
    if (strcmp(type, "boolean") == 0)
        return rules_choice(c->rules, rules_text(c->rules, "true"), rules_text(c->rules, "false"));
    if (strcmp(type, "null") == 0)
        return rules_text(c->rules, "null");
    return json_refuse(c, "type", "\"%.40s\" is no type of JSON", type);
}

/* A schema without a type: values of the types that its keywords are about. */
static uint32_t guessed_types(struct json_compile *c, const json_t *schema)
{
    static const char *const types[] = {"object", "array", "string", "number"};
    uint32_t all = 0;
    bool is_first = true;
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        if (!json_keyword_is_about(schema, types[t]))
            continue;
        uint32_t one = type_expr(c, schema, types[t]);
        all = is_first ? one : rules_choice(c->rules, all, one);
        is_first = false;
    }
    return all;
}

static uint32_t types_expr(struct json_compile *c, const json_t *schema)
{
    const json_t *type = json_object_get(schema, "type");
    uint32_t all = 0;

    if (type == NULL)
        return guessed_types(c, schema);
    if (json_is_string(type))
        return type_expr(c, schema, json_string_value(type));
    size_t n = json_array_size(type);
    if (n == 0)
        return json_refuse(c, "type", "it takes the name of a type, or a list of them");
    for (size_t i = 0; i < n && c->status == STATUS_OK && c->rules->status == STATUS_OK; i++) {
        const json_t *one = json_array_get(type, i);
        if (!json_is_string(one))
            return json_refuse(c, "type", "it takes the name of a type, or a list of them");
        for (size_t j = 0; j < i; j++)
            if (json_equal(one, json_array_get(type, j)))
                return json_refuse(c, "type", "it lists \"%.40s\" twice", json_string_value(one));
        uint32_t expr = type_expr(c, schema, json_string_value(one));
        all = i == 0 ? expr : rules_choice(c->rules, all, expr);
    }
    return all;
}

/* --- values, choices, references --- */

static uint32_t const_expr(struct json_compile *c, const json_t *schema)
{
    const json_t *value = json_object_get(schema, "const");
    if (!is_of_types(value, json_object_get(schema, "type")))
        return json_refuse(c, "const", "the value is not of the schema's type");
    return json_literal(c, value);
}

/* Texts are sorted into a tree, so that a thousand of them are as quick as one. */
static uint32_t enum_expr(struct json_compile *c, const json_t *schema)
{
    const json_t *list = json_object_get(schema, "enum"), *type = json_object_get(schema, "type");
    size_t n = json_array_size(list), n_texts = 0;

    if (n == 0)
        return json_refuse(c, "enum", "it takes a list of one value or more");
    struct slice *texts = calloc(n, sizeof *texts);
    if (texts == NULL)
        return json_refuse(c, "enum", "no memory for %zu values", n);
    for (size_t i = 0; i < n && c->status == STATUS_OK; i++) {
        const json_t *value = json_array_get(list, i);
        if (!is_of_types(value, type))
            continue;
        uint32_t literal = json_literal(c, value);
        if (c->status < 0 || c->rules->status < 0)
            break;
        const struct expr *expr = &c->rules->exprs[literal];
        texts[n_texts++] = grammar_rules_keep(
            c->rules, slice_of(c->rules->bytes + expr->a, expr->b));
    }
    uint32_t all = 0;
    if (c->status == STATUS_OK && c->rules->status == STATUS_OK)
        all = n_texts > 0 ? rules_one_of(c->rules, texts, n_texts)
                          : json_refuse(c, "enum", "no value is of the schema's type");
    free(texts);
    return all;
}

static uint32_t choice_expr(struct json_compile *c, const char *keyword, const json_t *schemas)
{
    size_t n = json_array_size(schemas);
    uint32_t all = 0;

    if (n == 0)
        return json_refuse(c, keyword, "it takes a list of one schema or more");
    if (strcmp(keyword, "allOf") == 0 && n > 1)
        return json_refuse(c, keyword,
                           "%zu schemas at once are not compiled: write one that says it all", n);
    if (strcmp(keyword, "oneOf") == 0 && !json_are_apart(c, schemas))
        return json_refuse(c, keyword,
                           "it cannot be told that no two of these hold at once: give them "
                           "different types, or objects that require a property with different "
                           "values (const or enum), or use anyOf");
    for (size_t i = 0; i < n && c->status == STATUS_OK; i++) {
        uint32_t one =
            json_schema_below(c, keyword, (long)i, NULL, json_array_get(schemas, i));
        all = i == 0 ? one : rules_choice(c->rules, all, one);
    }
    return all;
}

static uint32_t ref_expr(struct json_compile *c, const json_t *ref)
{
    const char *name = json_string_value(ref);
    const json_t *schema = name != NULL ? json_resolve(c->root, name) : NULL;

    if (schema == NULL)
        return json_refuse(c, "$ref", "\"%.100s\" names nothing in this schema; it takes # or "
                                      "#/$defs/NAME, or any other pointer into it",
                           name != NULL ? name : "");
    for (uint32_t i = 0; i < c->n_refs; i++)
        if (c->refs[i].schema == schema)
            return rules_rule(c->rules, c->refs[i].rule);
    if (c->n_refs == c->refs_room) {
        uint32_t room = c->refs_room == 0 ? 16 : 2 * c->refs_room;
        struct json_ref *grown = realloc(c->refs, room * sizeof *grown);
        if (grown == NULL)
            return json_refuse(c, "$ref", "no memory for %u references", room);
        c->refs = grown;
        c->refs_room = room;
    }
    uint32_t rule =
        grammar_rules_name(c->rules, grammar_rules_keep(c->rules, slice_from(name)));
    c->refs[c->n_refs++] = (struct json_ref){schema, rule};
    size_t before = c->n_pointer;
    c->n_pointer = 0;
    if (name[1] == '/') {
        size_t len = strlen(name + 1);
        c->n_pointer = len < POINTER_BYTES ? len : POINTER_BYTES;
        memcpy(c->pointer, name + 1, c->n_pointer);
    }
    uint32_t expr = json_schema_expr(c, schema);
    c->n_pointer = before;
    grammar_rules_define(c->rules, rule, c->status == STATUS_OK ? expr : 0);
    return rules_rule(c->rules, rule);
}

/* --- the whole --- */

static uint32_t led_expr(struct json_compile *c, const struct json_keyword *leader,
                         const json_t *schema)
{
    const json_t *value = json_object_get(schema, leader->name);

    if (strcmp(leader->name, "$ref") == 0)
        return ref_expr(c, value);
    if (leader->use == KEYWORD_ALONE)
        return choice_expr(c, leader->name, value);
    if (strcmp(leader->name, "const") == 0)
        return const_expr(c, schema);
    if (strcmp(leader->name, "enum") == 0)
        return enum_expr(c, schema);
    return types_expr(c, schema);
}

uint32_t json_schema_expr(struct json_compile *c, const json_t *schema)
{
    if (c->status < 0 || c->rules->status < 0)
        return 0;
    if (json_is_true(schema))
        return c->value;
    if (json_is_false(schema))
        return json_refuse(c, NULL, "the schema false holds for no value");
    if (!json_is_object(schema))
        return json_refuse(c, NULL, "a schema is an object, true or false");
    if (c->depth == GRAMMAR_NESTING_MAX)
        return json_refuse(c, NULL, "more than %d schemas in each other", GRAMMAR_NESTING_MAX);
    const struct json_keyword *leader = json_keyword_leader(c, schema);
    if (c->status < 0)
        return 0;
    if (leader == NULL)
        return c->value;
    c->depth++;
    uint32_t expr = led_expr(c, leader, schema);
    c->depth--;
    return expr;
}

int json_schema_compile(struct slice text, struct grammar_rules *rules, struct why *why)
{
    struct json_compile c = {.rules = rules, .source = text, .why = why};
    json_error_t error;

    if (text.len == 0) /* of which Jansson has no place to tell */
        return refuse(why, STATUS_INVALID, "line 1, column 1: the schema is empty");
    json_t *root = json_loadb((const char *)text.bytes, text.len,
                              JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (root == NULL)
        return refuse(why, STATUS_INVALID, "line %d, column %d: %s", error.line, error.column,
                      error.text);
    c.root = root;
    rules->schema = text;
    uint32_t rule = grammar_rules_name(rules, slice_from("#"));
    json_make_shared(&c);
    uint32_t expr = json_schema_expr(&c, root);
    if (c.status == STATUS_OK)
        grammar_rules_define(rules, rule, expr);
    json_decref(root);
    free(c.refs);
    return c.status < 0 ? c.status : grammar_rules_why(rules, why);
}
