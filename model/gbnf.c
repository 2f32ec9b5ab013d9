#include "model/gbnf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "base/utf8.h"
#include "limits.h"

#define NOT_HEX UINT32_MAX
#define LITERAL_PIECE 60

struct parser {
    struct slice text;
    size_t at;
    uint32_t depth; /* of groups */
    struct grammar_rules *rules;
    struct why *why;
    int status;
};

/* --- where and what --- */

static uint32_t fail_at(struct parser *p, size_t at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The first failure stays; what fails behind a limit of the rules is no fault of its own. */
static uint32_t fail_at(struct parser *p, size_t at, const char *format, ...)
{
    char text[WHY_BYTES / 2];
    uint32_t line, column;
    va_list list;

    if (p->status < 0 || p->rules->status < 0)
        return 0;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    grammar_rules_place(p->text, at, &line, &column);
    p->status = refuse(p->why, STATUS_INVALID, "line %u, column %u: %s", line, column, text);
    return 0;
}

static bool is_over(const struct parser *p)
{
    return p->status < 0 || p->at >= p->text.len;
}

static int peek(const struct parser *p)
{
    return is_over(p) ? -1 : p->text.bytes[p->at];
}

static bool take(struct parser *p, const char *word)
{
    size_t n = strlen(word);
    if (p->status < 0 || p->text.len - p->at < n || memcmp(p->text.bytes + p->at, word, n) != 0)
        return false;
    p->at += n;
    return true;
}

/* Blanks and comments; line ends too where they mean nothing. */
static void skip(struct parser *p, bool over_lines)
{
    for (;;) {
        int c = peek(p);
        if (c == '#')
            while (peek(p) != '\n' && peek(p) >= 0)
                p->at++;
        else if (c == ' ' || c == '\t' || (over_lines && (c == '\n' || c == '\r')))
            p->at++;
        else
            return;
    }
}

/* --- characters --- */

static uint32_t hex_value(int c)
{
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0');
    if (c >= 'a' && c <= 'f')
        return (uint32_t)(c - 'a' + 10);
    return c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10) : NOT_HEX;
}

static uint32_t take_hex(struct parser *p, uint32_t n_digits)
{
    uint32_t code = 0;
    size_t begin = p->at;
    for (uint32_t i = 0; i < n_digits; i++) {
        uint32_t digit = hex_value(peek(p));
        if (digit == NOT_HEX)
            return fail_at(p, p->at, "this escape takes %u hexadecimal digits", n_digits);
        code = code << 4 | digit;
        p->at++;
    }
    if (code > CODE_POINT_MAX || (code >= 0xd800 && code <= 0xdfff))
        return fail_at(p, begin, "U+%04X is no character", code);
    return code;
}

static uint32_t take_escape(struct parser *p)
{
    static const char names[] = "nrt\\\"[]-^", values[] = "\n\r\t\\\"[]-^";
    size_t begin = p->at - 1;
    int c = peek(p);
    p->at += c >= 0;
    if (c == 'x')
        return take_hex(p, 2);
    if (c == 'u')
        return take_hex(p, 4);
    if (c == 'U')
        return take_hex(p, 8);
    const char *name = c > 0 ? strchr(names, c) : NULL;
    if (name == NULL)
        return fail_at(p, begin, "unknown escape: there are \\n \\r \\t \\\\ \\\" \\[ \\] \\- \\^ "
                                 "\\xHH \\uHHHH \\UHHHHHHHH");
    return (uint8_t)values[name - names];
}

/* One character, or what an escape stands for. The text is UTF-8 and not at its end. */
static uint32_t take_character(struct parser *p)
{
    uint32_t first = p->text.bytes[p->at++];
    if (first == '\\')
        return take_escape(p);
    uint32_t n = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    uint32_t code = n == 0 ? first : first & (0x3fu >> n);
    for (uint32_t i = 0; i < n; i++)
        code = code << 6 | (p->text.bytes[p->at++] & 0x3f);
    return code;
}

/* --- terms --- */

static uint32_t alternatives(struct parser *p, bool in_group);

static uint32_t take_literal(struct parser *p)
{
    size_t begin = p->at - 1, n = 0;
    uint8_t bytes[LITERAL_PIECE + 4];
    uint32_t all = rules_empty(p->rules);
    while (peek(p) != '"') {
        if (is_over(p) || peek(p) == '\n')
            return fail_at(p, begin, "this literal has no closing quote in its line");
        n += utf8_encode(take_character(p), bytes + n);
        if (n >= LITERAL_PIECE) {
            all = rules_sequence(p->rules, all, rules_bytes(p->rules, slice_of(bytes, n)));
            n = 0;
        }
    }
    p->at++;
    return n == 0 ? all : rules_sequence(p->rules, all, rules_bytes(p->rules, slice_of(bytes, n)));
}

static uint32_t take_class(struct parser *p)
{
    struct code_range ranges[GRAMMAR_CLASS_RANGES_MAX];
    size_t begin = p->at - 1, n = 0;
    bool inverted = take(p, "^");
    while (peek(p) != ']') {
        if (is_over(p) || peek(p) == '\n')
            return fail_at(p, begin, "this class has no closing ] in its line");
        if (n == GRAMMAR_CLASS_RANGES_MAX)
            return fail_at(p, p->at, "a class has more than %d ranges", GRAMMAR_CLASS_RANGES_MAX);
        size_t at = p->at;
        uint32_t first = take_character(p), last = first;
        bool is_range = peek(p) == '-' && p->at + 1 < p->text.len &&
                        p->text.bytes[p->at + 1] != ']';
        if (is_range) {
            p->at++;
            last = take_character(p);
        }
        if (p->status == STATUS_OK && last < first)
            return fail_at(p, at, "this range ends before it begins");
        ranges[n++] = (struct code_range){first, last};
    }
    p->at++;
    uint32_t class = rules_class(p->rules, ranges, n, inverted);
    if (p->rules->status == STATUS_OK && p->rules->exprs[class].b == 0)
        return fail_at(p, begin, "this class holds no character");
    return class;
}

static bool is_name(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '-' || c == '_';
}

static struct slice take_name(struct parser *p)
{
    size_t begin = p->at;
    while (is_name(peek(p)))
        p->at++;
    return slice_of(p->text.bytes + begin, p->at - begin);
}

static uint32_t find_rule(struct parser *p, struct slice name)
{
    struct grammar_rules *rules = p->rules;
    for (uint32_t i = 0; i < rules->n_rules; i++)
        if (slice_equal(rules->rules[i].name, name))
            return i;
    return grammar_rules_name(rules, name);
}

static uint32_t take_group(struct parser *p)
{
    size_t begin = p->at - 1;
    if (p->depth == GRAMMAR_NESTING_MAX)
        return fail_at(p, begin, "more than %d groups in each other", GRAMMAR_NESTING_MAX);
    p->depth++;
    uint32_t group = alternatives(p, true);
    p->depth--;
    if (!take(p, ")"))
        return fail_at(p, begin, "this group has no closing )");
    return group;
}

static uint32_t take_term(struct parser *p)
{
    if (take(p, "\""))
        return take_literal(p);
    if (take(p, "["))
        return take_class(p);
    if (take(p, "("))
        return take_group(p);
    if (take(p, "."))
        return rules_class(p->rules, NULL, 0, true);
    return rules_rule(p->rules, find_rule(p, take_name(p)));
}

static bool begins_term(const struct parser *p)
{
    int c = peek(p);
    return c == '"' || c == '[' || c == '(' || c == '.' || is_name(c);
}

/* --- repetition --- */

static uint32_t take_number(struct parser *p)
{
    size_t begin = p->at;
    uint32_t number = 0;
    while (peek(p) >= '0' && peek(p) <= '9') {
        number = number * 10 + (uint32_t)(peek(p) - '0');
        if (number > GRAMMAR_REPEAT_MAX)
            return fail_at(p, begin, "a repetition is bounded by %d at most; * has no bound",
                           GRAMMAR_REPEAT_MAX);
        p->at++;
    }
    if (p->at == begin)
        return fail_at(p, begin, "a number is expected here");
    return number;
}

static uint32_t take_bounds(struct parser *p, uint32_t term)
{
    size_t begin = p->at - 1;
    skip(p, false);
    uint32_t min = take_number(p), max = min;
    skip(p, false);
    if (take(p, ",")) {
        skip(p, false);
        max = peek(p) == '}' ? GRAMMAR_UNBOUNDED : take_number(p);
        skip(p, false);
    }
    if (!take(p, "}"))
        return fail_at(p, begin, "this repetition has no closing }");
    if (max < min)
        return fail_at(p, begin, "this repetition has at least %u and at most %u", min, max);
    return rules_repeat(p->rules, term, min, max);
}

static uint32_t take_repeated(struct parser *p, bool in_group)
{
    uint32_t term = take_term(p), n_repeats = 0;
    for (; p->status == STATUS_OK; n_repeats++) {
        skip(p, in_group);
        if (n_repeats > GRAMMAR_NESTING_MAX)
            return fail_at(p, p->at, "more than %d repetitions of each other",
                           GRAMMAR_NESTING_MAX);
        if (take(p, "*"))
            term = rules_repeat(p->rules, term, 0, GRAMMAR_UNBOUNDED);
        else if (take(p, "+"))
            term = rules_repeat(p->rules, term, 1, GRAMMAR_UNBOUNDED);
        else if (take(p, "?"))
            term = rules_repeat(p->rules, term, 0, 1);
        else if (take(p, "{"))
            term = take_bounds(p, term);
        else
            return term;
    }
    return term;
}

/* --- rules --- */

static uint32_t sequence(struct parser *p, bool in_group)
{
    uint32_t all = 0;
    bool is_empty = true;
    for (skip(p, in_group); begins_term(p); skip(p, in_group)) {
        uint32_t term = take_repeated(p, in_group);
        all = is_empty ? term : rules_sequence(p->rules, all, term);
        is_empty = false;
        if (p->rules->status < 0)
            return 0;
    }
    return is_empty ? rules_empty(p->rules) : all;
}

static uint32_t alternatives(struct parser *p, bool in_group)
{
    skip(p, true);
    uint32_t all = sequence(p, in_group);
    while (take(p, "|")) {
        skip(p, true);
        all = rules_choice(p->rules, all, sequence(p, in_group));
    }
    return all;
}

/* Of a name, in a refusal. */
static int shown(struct slice name)
{
    return name.len < 100 ? (int)name.len : 100;
}

static void parse_rule(struct parser *p)
{
    size_t begin = p->at;
    struct slice name = take_name(p);
    if (name.len == 0) {
        fail_at(p, begin, "a rule is expected here: NAME ::= ...");
        return;
    }
    uint32_t rule = find_rule(p, name);
    skip(p, false);
    if (!take(p, "::=")) {
        fail_at(p, p->at, "::= is expected behind the name of a rule");
        return;
    }
    if (p->rules->status == STATUS_OK && p->rules->rules[rule].expr != UINT32_MAX) {
        fail_at(p, begin, "the rule \"%.*s\" is defined twice", shown(name),
                (const char *)name.bytes);
        return;
    }
    if (rule == 0 && p->rules->status == STATUS_OK)
        p->rules->rules[0].name = name; /* so that it has a place */
    uint32_t expr = alternatives(p, false);
    if (p->status == STATUS_OK)
        grammar_rules_define(p->rules, rule, expr);
    skip(p, false);
    if (!is_over(p) && peek(p) != '\n' && peek(p) != '\r')
        fail_at(p, p->at, "\"%c\" begins no term: there are \"...\" [...] (...) . and names",
                peek(p) > ' ' && peek(p) < 0x7f ? peek(p) : '?');
}

static void check_defined(struct parser *p)
{
    for (uint32_t i = 0; i < p->rules->n_rules; i++) {
        const struct grammar_rule *rule = &p->rules->rules[i];
        if (rule->expr != UINT32_MAX)
            continue;
        if (i == 0)
            fail_at(p, 0, "there is no rule \"root\", from which a grammar begins");
        else
            fail_at(p, (size_t)(rule->name.bytes - p->text.bytes),
                    "the rule \"%.*s\" is not defined",
                    shown(rule->name), (const char *)rule->name.bytes);
        return;
    }
}

int gbnf_parse(struct slice text, struct grammar_rules *rules, struct why *why)
{
    struct parser p = {.text = text, .rules = rules, .why = why};
    size_t bad;

    if (!utf8_is_valid(text.bytes, text.len, &bad))
        return fail_at(&p, bad, "this is no UTF-8"), p.status;
    rules->text = text;
    grammar_rules_name(rules, slice_from("root"));
    for (skip(&p, true); !is_over(&p) && rules->status == STATUS_OK; skip(&p, true))
        parse_rule(&p);
    if (p.status == STATUS_OK && rules->status == STATUS_OK)
        check_defined(&p);
    return p.status < 0 ? p.status : grammar_rules_why(rules, why);
}
