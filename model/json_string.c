/* Strings: by length, by pattern, by format. */
#include <string.h>

#include "base/status.h"
#include "model/json_compile.h"
#include "model/json_pattern.h"

/* --- formats (RFC 3339, 4122, 2673, 4291, 5321, 1123), some texts of each as a pattern --- */

#define LEAP_YEAR "(?:[1-9]\\d(?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)"
#define DATE                                                                                       \
    "(?:[1-9]\\d{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|"       \
    "[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))|" LEAP_YEAR "-02-29)"
#define TIME                                                                                       \
    "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,6})?(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)"
#define BYTE "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define HEX "[0-9a-f]"
#define H "[0-9a-f]{1,4}"
#define LABEL "[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?"
#define HOST LABEL "(?:\\." LABEL "){0,4}"
#define NUMBER "\\d{1,4}"
#define HMS                                                                                        \
    "T(?:" NUMBER "H(?:" NUMBER "M(?:" NUMBER "S)?)?|" NUMBER "M(?:" NUMBER "S)?|" NUMBER "S)"
#define YMD                                                                                        \
    "(?:" NUMBER "Y(?:" NUMBER "M(?:" NUMBER "D)?)?|" NUMBER "M(?:" NUMBER "D)?|" NUMBER "D)"

static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", "^" DATE "$"},
    {"time", "^" TIME "$"},
    {"date-time", "^" DATE "T" TIME "$"},
    {"duration", "^P(?:" YMD "(?:" HMS ")?|" HMS "|" NUMBER "W)$"},
    {"uuid", "^" HEX "{8}(?:-" HEX "{4}){3}-" HEX "{12}$"},
    {"ipv4", "^" BYTE "(?:\\." BYTE "){3}$"},
    {"ipv6", "^(?:(?:" H ":){7}" H "|(?:" H ":){1,7}:|(?:" H ":){1,6}:" H "|(?:" H ":){1,5}(?::" H
             "){2}|(?:" H ":){1,4}(?::" H "){3}|::(?:" H "(?::" H "){0,6})?)$"},
    {"hostname", "^" HOST "$"},
    {"email", "^[A-Za-z0-9_]{1,30}(?:[.+-][A-Za-z0-9_]{1,30}){0,2}@" LABEL "(?:\\." LABEL
              "){0,3}\\.[a-z]{2,12}$"},
};

/* Empty: none is known for it, or the schema has none. */
static struct slice pattern_of_format(const json_t *schema)
{
    const char *format = json_string_value(json_object_get(schema, "format"));
    for (size_t i = 0; format != NULL && i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, format) == 0)
            return slice_from(formats[i].pattern);
    return slice_of(NULL, 0);
}

uint32_t json_string_expr(struct json_compile *c, const json_t *schema)
{
    const json_t *pattern = json_object_get(schema, "pattern");
    uint32_t min = json_count(c, schema, "minLength", 0);
    uint32_t max = json_count(c, schema, "maxLength", GRAMMAR_UNBOUNDED);
    struct slice wanted = pattern_of_format(schema);

    if (min > max)
        return json_refuse(c, "minLength", "a string has at least %u characters and at most %u",
                           min, max);
    if (pattern != NULL && !json_is_string(pattern))
        return json_refuse(c, "pattern", "it takes a regular expression");
    if (pattern != NULL) /* it says more than a format */
        wanted = slice_of(json_string_value(pattern), json_string_length(pattern));
    uint32_t quote = rules_text(c->rules, "\"");
    if (pattern != NULL || wanted.len > 0)
        return JSON_JOIN(c, quote,
                         json_pattern_expr(c, pattern != NULL ? "pattern" : "format", wanted, min,
                                           max),
                         quote);
    if (min == 0 && max == GRAMMAR_UNBOUNDED)
        return c->text;
    return JSON_JOIN(c, quote, rules_repeat(c->rules, c->character, min, max), quote);
}
