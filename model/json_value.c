/* The grammar of JSON itself: what schemas are made of. */
#include "model/json_compile.h"

#define INDENT_MAX 20 /* blanks behind a line's end: a model that may write more may never stop */
#define DIGITS_MAX 15 /* behind the first: whole numbers below 10^16 */

static uint32_t class_of(struct json_compile *c, const char *characters)
{
    struct code_range ranges[32];
    size_t n = 0;
    for (; *characters != '\0'; characters += 2, n++) /* pairs of first and last */
        ranges[n] = (struct code_range){(uint8_t)characters[0], (uint8_t)characters[1]};
    return rules_class(c->rules, ranges, n, false);
}

static uint32_t text_of(struct json_compile *c, const char *text)
{
    return rules_text(c->rules, text);
}

static uint32_t optional(struct json_compile *c, uint32_t expr)
{
    return rules_repeat(c->rules, expr, 0, 1);
}

/* A character of a string, an escape being one: what no escape needs, a short escape, \uXXXX of
 * anything but a surrogate, or of a pair of them. */
static uint32_t character(struct json_compile *c)
{
    static const struct code_range escaped[] = {{0, 0x1f}, {'"', '"'}, {'\\', '\\'}};
    uint32_t hex = class_of(c, "09AFaf"), hex2 = rules_repeat(c->rules, hex, 2, 2);
    uint32_t all = rules_class(c->rules, escaped, 3, true);
    uint32_t no_d = JSON_JOIN(c, class_of(c, "09ACEFacef"), rules_repeat(c->rules, hex, 3, 3));
    uint32_t d_low = JSON_JOIN(c, class_of(c, "DDdd"), class_of(c, "07"), hex2);
    uint32_t pair = JSON_JOIN(c, class_of(c, "DDdd"), class_of(c, "89ABab"), hex2,
                              text_of(c, "\\u"), class_of(c, "DDdd"), class_of(c, "CFcf"), hex2);
    uint32_t code = rules_choice(c->rules, rules_choice(c->rules, no_d, d_low), pair);
    uint32_t escape = rules_choice(c->rules, class_of(c, "\"\"\\\\//bbffnnrrtt"),
                                   JSON_JOIN(c, text_of(c, "u"), code));
    return rules_choice(c->rules, all, JSON_JOIN(c, text_of(c, "\\"), escape));
}

static uint32_t whole(struct json_compile *c)
{
    uint32_t digits = rules_repeat(c->rules, class_of(c, "09"), 0, DIGITS_MAX);
    uint32_t some = rules_choice(c->rules, text_of(c, "0"),
                                 JSON_JOIN(c, class_of(c, "19"), digits));
    return JSON_JOIN(c, optional(c, text_of(c, "-")), some);
}

static uint32_t real(struct json_compile *c)
{
    uint32_t digit = class_of(c, "09");
    uint32_t fraction = JSON_JOIN(c, text_of(c, "."), rules_repeat(c->rules, digit, 1, 16));
    uint32_t exponent = JSON_JOIN(c, class_of(c, "EEee"), optional(c, class_of(c, "++--")),
                                  rules_repeat(c->rules, digit, 1, 2));
    return JSON_JOIN(c, c->integer, optional(c, fraction), optional(c, exponent));
}

/* open, items parted by commas or none, close */
static uint32_t list(struct json_compile *c, const char *open, uint32_t item, const char *close)
{
    uint32_t more = rules_repeat(c->rules, JSON_JOIN(c, c->comma, item), 0, GRAMMAR_UNBOUNDED);
    uint32_t items = JSON_JOIN(c, item, more, c->blank);
    return JSON_JOIN(c, text_of(c, open), c->blank, optional(c, items), text_of(c, close));
}

void json_make_shared(struct json_compile *c)
{
    struct grammar_rules *rules = c->rules;
    uint32_t indent = rules_repeat(rules, class_of(c, "  \t\t"), 0, INDENT_MAX);
    uint32_t line = JSON_JOIN(c, text_of(c, "\n"), indent);
    c->blank = json_named(c, optional(c, rules_choice(rules, text_of(c, " "), line)));
    c->comma = json_named(c, JSON_JOIN(c, text_of(c, ","), c->blank));
    c->colon = json_named(c, JSON_JOIN(c, text_of(c, ":"), optional(c, text_of(c, " "))));
    c->character = json_named(c, character(c));
    c->text = json_named(
        c, JSON_JOIN(c, text_of(c, "\""),
                     rules_repeat(rules, c->character, 0, GRAMMAR_UNBOUNDED), text_of(c, "\"")));
    c->integer = json_named(c, whole(c));
    c->number = json_named(c, real(c));

    uint32_t rule = grammar_rules_name(rules, slice_of(NULL, 0));
    c->value = rules_rule(rules, rule);
    uint32_t member = json_named(c, JSON_JOIN(c, c->text, c->colon, c->value));
    uint32_t all = rules_choice(rules, c->text, c->number);
    all = rules_choice(rules, all, list(c, "{", member, "}"));
    all = rules_choice(rules, all, list(c, "[", c->value, "]"));
    all = rules_choice(rules, all, text_of(c, "true"));
    all = rules_choice(rules, all, text_of(c, "false"));
    all = rules_choice(rules, all, text_of(c, "null"));
    grammar_rules_define(rules, rule, all);
}
