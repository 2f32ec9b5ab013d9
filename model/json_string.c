#include "base/status.h"
#include "model/json_compile.h"
#include "model/json_pattern.h"

uint32_t json_string_expr(struct json_compile *c, const json_t *schema)
{
    const json_t *pattern = json_object_get(schema, "pattern");
    uint32_t min = json_count(c, schema, "minLength", 0);
    uint32_t max = json_count(c, schema, "maxLength", GRAMMAR_UNBOUNDED);

    if (min > max)
        return json_refuse(c, "minLength", "a string has at least %u characters and at most %u",
                           min, max);
    uint32_t quote = rules_text(c->rules, "\"");
    if (pattern == NULL) {
        if (min == 0 && max == GRAMMAR_UNBOUNDED)
            return c->text;
        return JSON_JOIN(c, quote, rules_repeat(c->rules, c->character, min, max), quote);
    }
    if (min > 0 || max != GRAMMAR_UNBOUNDED)
        return json_refuse(c, "pattern",
                           "beside minLength or maxLength it is not compiled: say the length in "
                           "the pattern, as ^.{1,80}$");
    if (!json_is_string(pattern))
        return json_refuse(c, "pattern", "it takes a regular expression");
    return JSON_JOIN(c, quote, json_pattern_expr(c, pattern), quote);
}
