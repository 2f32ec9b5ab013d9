/* The keywords of JSON schemas, and which of them a schema goes by. */
#include <string.h>

#include "base/status.h"
#include "model/json_compile.h"

static const struct json_keyword keywords[] = {
    {"title", KEYWORD_NOTE, NULL},
    {"description", KEYWORD_NOTE, NULL},
    {"default", KEYWORD_NOTE, NULL},
    {"examples", KEYWORD_NOTE, NULL},
    {"deprecated", KEYWORD_NOTE, NULL},
    {"discriminator", KEYWORD_NOTE, NULL}, /* of OpenAPI: which of oneOf a property means */
    {"readOnly", KEYWORD_NOTE, NULL},
    {"writeOnly", KEYWORD_NOTE, NULL},
    {"format", KEYWORD_NOTE, NULL},
    {"contentEncoding", KEYWORD_NOTE, NULL},
    {"contentMediaType", KEYWORD_NOTE, NULL},
    {"$schema", KEYWORD_NOTE, NULL},
    {"$id", KEYWORD_NOTE, NULL},
    {"$comment", KEYWORD_NOTE, NULL},
    {"$defs", KEYWORD_NOTE, NULL},
    {"definitions", KEYWORD_NOTE, NULL},
    {"$ref", KEYWORD_ALONE, NULL},
    {"anyOf", KEYWORD_ALONE, NULL},
    {"oneOf", KEYWORD_ALONE, NULL},
    {"allOf", KEYWORD_ALONE, NULL},
    {"enum", KEYWORD_VALUES, NULL},
    {"const", KEYWORD_VALUES, NULL},
    {"type", KEYWORD_TYPED, NULL},
    {"properties", KEYWORD_TYPED, "object"},
    {"required", KEYWORD_TYPED, "object"},
    {"additionalProperties", KEYWORD_TYPED, "object"},
    {"propertyNames", KEYWORD_TYPED, "object"},
    {"minProperties", KEYWORD_TYPED, "object"},
    {"maxProperties", KEYWORD_TYPED, "object"},
    {"items", KEYWORD_TYPED, "array"},
    {"prefixItems", KEYWORD_TYPED, "array"},
    {"minItems", KEYWORD_TYPED, "array"},
    {"maxItems", KEYWORD_TYPED, "array"},
    {"uniqueItems", KEYWORD_TYPED, "array"},
    {"minLength", KEYWORD_TYPED, "string"},
    {"maxLength", KEYWORD_TYPED, "string"},
    {"pattern", KEYWORD_TYPED, "string"},
    {"minimum", KEYWORD_TYPED, "number"},
    {"maximum", KEYWORD_TYPED, "number"},
    {"exclusiveMinimum", KEYWORD_TYPED, "number"},
    {"exclusiveMaximum", KEYWORD_TYPED, "number"},
    {"multipleOf", KEYWORD_TYPED, "number"},
};

static enum keyword_use use_of(const char *name, const struct json_keyword **out)
{
    *out = NULL;
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (strcmp(keywords[i].name, name) == 0) {
            *out = &keywords[i];
            return keywords[i].use;
        }
    return strncmp(name, "x-", 2) == 0 ? KEYWORD_NOTE : KEYWORD_REFUSED;
}

const struct json_keyword *json_keyword_leader(struct json_compile *c, const json_t *schema)
{
    const struct json_keyword *leader = NULL, *typed = NULL, *keyword;
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)schema, name, value)
    {
        enum keyword_use use = use_of(name, &keyword);
        if (use == KEYWORD_REFUSED) {
            json_refuse(c, name, "this keyword is not compiled to a grammar");
            return NULL;
        }
        if (use == KEYWORD_NOTE)
            continue;
        bool is_beside = leader != NULL && (leader->use != KEYWORD_TYPED || use != KEYWORD_TYPED);
        bool is_type = strcmp(name, "type") == 0 ||
                       (leader != NULL && strcmp(leader->name, "type") == 0);
        bool has_values = use == KEYWORD_VALUES ||
                          (leader != NULL && leader->use == KEYWORD_VALUES);
        if (use == KEYWORD_TYPED && strcmp(name, "type") != 0)
            typed = keyword;
        if (is_beside && !(is_type && has_values && typed == NULL)) {
            json_refuse(c, name, "it stands beside \"%s\", and the two together are not compiled",
                        use == KEYWORD_VALUES && typed != NULL ? typed->name : leader->name);
            return NULL;
        }
        if (leader == NULL || use == KEYWORD_VALUES)
            leader = keyword;
    }
    return leader;
}

bool json_keyword_is_about(const json_t *schema, const char *type)
{
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (keywords[i].type != NULL && strcmp(keywords[i].type, type) == 0 &&
            json_object_get(schema, keywords[i].name) != NULL)
            return true;
    return false;
}
