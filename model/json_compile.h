/* model/json_compile.h: what the files of the JSON schema compiler share. Nobody else includes it.
 *
 * Each function gives an expression, or any id after the first refusal (c->status).
 */
#ifndef QUIRE_MODEL_JSON_COMPILE_H
#define QUIRE_MODEL_JSON_COMPILE_H

#include <jansson.h>

#include "limits.h"
#include "model/grammar_rules.h"

#define POINTER_BYTES 256

enum keyword_use {
    KEYWORD_NOTE,    /* says nothing about values */
    KEYWORD_ALONE,   /* stands with notes only */
    KEYWORD_VALUES,  /* enum and const: stand with type */
    KEYWORD_TYPED,   /* of objects, arrays, strings, numbers; and type */
    KEYWORD_REFUSED,
};

struct json_keyword {
    const char *name;
    enum keyword_use use;
    const char *type; /* of a typed one, where the schema gives none */
};

struct json_ref { /* a schema that some $ref names */
    const json_t *schema;
    uint32_t rule;
};

struct json_compile {
    struct grammar_rules *rules;
    struct slice source; /* the schema's text */
    const json_t *root;
    struct why *why;
    int status;
    char pointer[POINTER_BYTES]; /* of the schema in hand, cut where it is too long */
    size_t n_pointer;
    uint32_t depth;
    struct json_ref *refs; /* [n_refs] */
    uint32_t n_refs, refs_room;
    uint32_t n_compared; /* values and names, by json_are_apart */
    /* expressions that many share */
    uint32_t blank, comma, colon, character, text, integer, number, value;
};

/* --- json_schema.c --- */
uint32_t json_schema_expr(struct json_compile *c, const json_t *schema);
/* Of the schema at `key` (and `index`, unless it is negative) below the one in hand. */
uint32_t json_schema_below(struct json_compile *c, const char *key, long index,
                           const char *name, const json_t *schema);
/* Refuses at the pointer, with "/keyword" behind it unless NULL, and tells line and column of
 * that. */
uint32_t json_refuse(struct json_compile *c, const char *keyword, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A count at `keyword`, at most GRAMMAR_REPEAT_MAX; `absent` where there is none. */
uint32_t json_count(struct json_compile *c, const json_t *schema, const char *keyword,
                    uint32_t absent);
/* a then b then ...; the list ends with UINT32_MAX */
uint32_t json_join(struct json_compile *c, ...);
#define JSON_JOIN(c, ...) json_join(c, __VA_ARGS__, UINT32_MAX)
/* A rule of its own, called. */
uint32_t json_named(struct json_compile *c, uint32_t expr);
/* The JSON text of a value, as short as it is exact. */
uint32_t json_literal(struct json_compile *c, const json_t *value);

/* --- json_keyword.c --- */
/* What the schema goes by: a keyword that stands alone, values, or types; NULL: it holds for
 * everything. */
const struct json_keyword *json_keyword_leader(struct json_compile *c, const json_t *schema);
/* The schema has a keyword about values of the type. */
bool json_keyword_is_about(const json_t *schema, const char *type);

/* --- of one type each --- */
uint32_t json_object_expr(struct json_compile *c, const json_t *schema);  /* json_object.c */
uint32_t json_array_expr(struct json_compile *c, const json_t *schema);   /* json_array.c */
uint32_t json_string_expr(struct json_compile *c, const json_t *schema);  /* json_string.c */
uint32_t json_number_expr(struct json_compile *c, const json_t *schema,
                          bool is_integer);                               /* json_number.c */
/* Of an expression of a pattern, texts of min to max characters: some of them, all where one part
 * alone may vary, by one character at a time. UINT32_MAX: none is found. */
uint32_t json_within(struct json_compile *c, uint32_t expr, uint32_t min,
                     uint32_t max); /* json_length.c */
/* Fills the shared expressions. */
void json_make_shared(struct json_compile *c); /* json_value.c */
/* At most one of the schemas can hold for a value. */
bool json_are_apart(struct json_compile *c, const json_t *schemas); /* json_apart.c */
/* The schema that "#/..." names; NULL: none. */
const json_t *json_resolve(const json_t *root, const char *ref);    /* json_apart.c */

#endif
