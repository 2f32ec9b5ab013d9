#include "model/json_pattern.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "base/utf8.h"

struct pattern {
    struct json_compile *c;
    const uint8_t *bytes;
    size_t len, at;
    uint32_t depth; /* of groups */
};

struct class {
    struct code_range ranges[GRAMMAR_CLASS_RANGES_MAX];
    size_t n;
};

static uint32_t alternatives(struct pattern *p);

static bool is_over(const struct pattern *p)
{
    return p->c->status < 0 || p->at >= p->len;
}

static int peek(const struct pattern *p)
{
    return is_over(p) ? -1 : p->bytes[p->at];
}

static bool take(struct pattern *p, char byte)
{
    if (peek(p) != (uint8_t)byte)
        return false;
    p->at++;
    return true;
}

static uint32_t fail(struct pattern *p, const char *what)
{
    return json_refuse(p->c, "pattern", "byte %zu: %s", p->at + 1, what);
}

/* --- characters of the value, as JSON spells them --- */

static void add_range(struct pattern *p, struct class *class, uint32_t first, uint32_t last)
{
    if (class->n == GRAMMAR_CLASS_RANGES_MAX) {
        fail(p, "a class of more ranges than are taken");
        return;
    }
    class->ranges[class->n++] = (struct code_range){first, last};
}

static bool holds(const struct class *class, bool inverted, uint32_t code)
{
    bool is_in = false;
    for (size_t i = 0; i < class->n; i++)
        is_in |= code >= class->ranges[i].first && code <= class->ranges[i].last;
    return is_in != inverted;
}

/* Plain where JSON allows it; what it does not, by an escape each. */
static uint32_t spelled(struct pattern *p, const struct class *class, bool inverted)
{
    struct grammar_rules *rules = p->c->rules;
    struct code_range plain[GRAMMAR_CLASS_RANGES_MAX + 4];
    size_t n = 0;

    if (p->c->status < 0)
        return 0;
    if (inverted) {
        memcpy(plain, class->ranges, class->n * sizeof *plain);
        n = class->n;
        plain[n++] = (struct code_range){0, 0x1f};
        plain[n++] = (struct code_range){'"', '"'};
        plain[n++] = (struct code_range){'\\', '\\'};
    } else {
        for (size_t i = 0; i < class->n; i++)
            for (uint32_t first = class->ranges[i].first, last = class->ranges[i].last;
                 first <= last;) { /* up to the next that needs an escape */
                uint32_t end = first <= '"' ? '"' : first <= '\\' ? '\\' : CODE_POINT_MAX + 1;
                if (first < 0x20)
                    first = 0x20;
                uint32_t to = last < end ? last : end - 1;
                if (first <= to && n < GRAMMAR_CLASS_RANGES_MAX)
                    plain[n++] = (struct code_range){first, to};
                else if (first <= to)
                    return fail(p, "a class of more ranges than are taken");
                first = end + 1;
            }
    }
    uint32_t all = rules_class(rules, plain, n, inverted);
    for (uint32_t code = 0; code <= '\\';
         code = code == 0x1f ? '"' : code == '"' ? '\\' : code + 1) {
        static const char named[] = "\b\f\n\r\t\"\\", letters[] = "bfnrt\"\\";
        char text[8];
        const char *name = code > 0 ? strchr(named, (int)code) : NULL;
        if (!holds(class, inverted, code))
            continue;
        if (name != NULL)
            snprintf(text, sizeof text, "\\%c", letters[name - named]);
        else
            snprintf(text, sizeof text, "\\u%04x", code);
        all = rules_choice(rules, all, rules_text(rules, text));
    }
    return json_named(p->c, all);
}

static uint32_t any(struct pattern *p)
{
    return rules_repeat(p->c->rules, p->c->character, 0, GRAMMAR_UNBOUNDED);
}

/* --- escapes and classes --- */

/* Beyond ASCII: where decimal digits stand, or will, by runs of 16 or whole blocks. Each border is
 * a few more nodes wherever a text may go on with such a class, so there are few. */
static const struct code_range decimals[] = {
    {0x660, 0x66f},   {0x6f0, 0x6ff},   {0x7c0, 0x7ff},   {0x966, 0x96f},     {0x9c0, 0xdff},
    {0xe50, 0xe5f},   {0xec0, 0x10ff},  {0x17c0, 0x1cff}, {0xa600, 0xabff},   {0xff10, 0xff1f},
    {0x10000, 0x1efff}, {0x1fbc0, 0x1fbff}};
static const struct code_range blanks[] = {{9, 13},          {32, 32},         {0xa0, 0xa0},
                                           {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029},
                                           {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}};
/* of ECMA 262 or of Python, not of both */
static const struct code_range odd_blanks[] = {{0x1c, 0x1f}, {0x85, 0x85}, {0xfeff, 0xfeff}};
/* Beyond ASCII and some marks: what may be a letter or a digit. */
static const struct code_range letters[] = {{0x80, 0x200f},   {0x2028, 0x202f}, {0x205f, 0x3000},
                                            {0x3004, 0x3007}, {0x3012, CODE_POINT_MAX}};

#define COUNT(list) (sizeof(list) / sizeof *(list))

static void add_ranges(struct pattern *p, struct class *class, const struct code_range *ranges,
                       size_t n)
{
    for (size_t i = 0; i < n; i++)
        add_range(p, class, ranges[i].first, ranges[i].last);
}

/* What \d, \w and \s stand for. Validators go by Unicode, as Python's does, or by ASCII, as ECMA
 * 262 has it: what is written is of both, so what is not to be of a set is to be of neither's. */
static void add_set(struct pattern *p, struct class *class, char name, bool is_left_out)
{
    if (name == 'd' || name == 'w')
        add_range(p, class, '0', '9');
    if (name == 'w') {
        add_range(p, class, 'A', 'Z');
        add_range(p, class, '_', '_');
        add_range(p, class, 'a', 'z');
    }
    if (name == 'w' && is_left_out)
        add_ranges(p, class, letters, COUNT(letters));
    if (name == 'd' && is_left_out)
        add_ranges(p, class, decimals, COUNT(decimals));
    if (name == 's')
        add_ranges(p, class, blanks, COUNT(blanks));
    if (name == 's' && is_left_out)
        add_ranges(p, class, odd_blanks, COUNT(odd_blanks));
}

static uint32_t take_hex(struct pattern *p, int n_digits)
{
    uint32_t code = 0;
    for (int i = 0; i < n_digits; i++) {
        static const char digits[] = "0123456789abcdef";
        int c = peek(p);
        c = c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c;
        const char *digit = c > 0 ? strchr(digits, c) : NULL;
        if (digit == NULL)
            return fail(p, "hexadecimal digits are expected here");
        code = code << 4 | (uint32_t)(digit - digits);
        p->at++;
    }
    return code;
}

/* What stands behind a backslash: a set (*set its letter), or one character. */
static uint32_t take_escape(struct pattern *p, char *set)
{
    static const char names[] = "tnrfv0", values[] = "\t\n\r\f\v";
    int c = peek(p);
    *set = 0;
    if (c < 0)
        return fail(p, "the pattern ends in a backslash");
    if (strchr("dwsDWS", c) != NULL) {
        p->at++;
        *set = (char)c;
        return 0;
    }
    if ((c >= '1' && c <= '9') || c == 'k')
        return fail(p, "references to groups are not compiled");
    if (c == 'b' || c == 'B')
        return fail(p, "borders of words are not compiled");
    if (c == 'p' || c == 'P')
        return fail(p, "classes by property of Unicode are not compiled");
    p->at++;
    if (c == 'x')
        return take_hex(p, 2);
    if (c == 'u')
        return take_hex(p, 4);
    const char *name = strchr(names, c);
    if (name != NULL)
        return (uint8_t)values[name - names];
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80)
        return fail(p, "an escape that is not known");
    return (uint32_t)c;
}

static uint32_t take_code(struct pattern *p)
{
    uint32_t first = p->bytes[p->at++];
    uint32_t n = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    uint32_t code = n == 0 ? first : first & (0x3fu >> n);
    for (uint32_t i = 0; i < n; i++)
        code = code << 6 | (p->bytes[p->at++] & 0x3f);
    return code;
}

/* One member of a class, or the beginning of a range. False: it was a set. */
static bool take_member(struct pattern *p, struct class *class, bool inverted, uint32_t *code)
{
    char set = 0;
    if (!take(p, '\\')) {
        *code = take_code(p);
        return true;
    }
    *code = peek(p) == 'b' ? (p->at++, '\b') : take_escape(p, &set);
    if (set >= 'A' && set <= 'Z')
        fail(p, "an inverted set within a class is not compiled");
    if (set != 0)
        add_set(p, class, set, inverted);
    return set == 0;
}

static uint32_t take_class(struct pattern *p)
{
    struct class class = {.n = 0};
    bool inverted = take(p, '^');
    while (peek(p) != ']') {
        uint32_t first, last;
        if (is_over(p))
            return fail(p, "a class has no closing ]");
        if (!take_member(p, &class, inverted, &first))
            continue;
        last = first;
        if (peek(p) == '-' && p->at + 1 < p->len && p->bytes[p->at + 1] != ']') {
            p->at++;
            if (!take_member(p, &class, inverted, &last) || last < first)
                return fail(p, "this range has no end behind its beginning");
        }
        add_range(p, &class, first, last);
    }
    p->at++;
    if (class.n == 0 && !inverted)
        return fail(p, "a class holds no character");
    return spelled(p, &class, inverted);
}

static uint32_t take_escaped(struct pattern *p)
{
    struct class class = {.n = 0};
    char set;
    uint32_t code = take_escape(p, &set);
    bool inverted = set >= 'A' && set <= 'Z';
    if (set == 0)
        add_range(p, &class, code, code);
    else
        add_set(p, &class, inverted ? (char)(set - 'A' + 'a') : set, inverted);
    return spelled(p, &class, inverted);
}

/* --- terms --- */

static uint32_t take_group(struct pattern *p)
{
    if (take(p, '?') && !take(p, ':'))
        return fail(p, "of (? only (?: is compiled");
    if (p->depth == GRAMMAR_NESTING_MAX)
        return fail(p, "too many groups in each other");
    p->depth++;
    uint32_t group = alternatives(p);
    p->depth--;
    return take(p, ')') ? group : fail(p, "a group has no closing )");
}

static uint32_t take_term(struct pattern *p)
{
    struct class class = {.n = 0};
    if (take(p, '('))
        return take_group(p);
    if (take(p, '['))
        return take_class(p);
    if (take(p, '\\'))
        return take_escaped(p);
    if (take(p, '.')) { /* all but ends of lines */
        add_range(p, &class, '\n', '\n');
        add_range(p, &class, '\r', '\r');
        add_range(p, &class, 0x2028, 0x2029);
        return spelled(p, &class, true);
    }
    if (peek(p) == '^' || peek(p) == '$')
        return fail(p, "^ and $ stand at the ends of the whole, or of its alternatives, only");
    if (peek(p) == '*' || peek(p) == '+' || peek(p) == '?')
        return fail(p, "there is nothing to repeat before this");
    uint32_t code = take_code(p);
    add_range(p, &class, code, code);
    return spelled(p, &class, false);
}

static uint32_t take_number(struct pattern *p)
{
    uint32_t number = 0;
    if (peek(p) < '0' || peek(p) > '9')
        return fail(p, "a number is expected here");
    for (; peek(p) >= '0' && peek(p) <= '9'; p->at++) {
        number = number * 10 + (uint32_t)(peek(p) - '0');
        if (number > GRAMMAR_REPEAT_MAX)
            return fail(p, "a repetition is bounded by 4096 at most");
    }
    return number;
}

static uint32_t take_repeated(struct pattern *p)
{
    struct grammar_rules *rules = p->c->rules;
    uint32_t term = take_term(p), min, max;
    if (take(p, '*')) {
        min = 0, max = GRAMMAR_UNBOUNDED;
    } else if (take(p, '+')) {
        min = 1, max = GRAMMAR_UNBOUNDED;
    } else if (take(p, '?')) {
        min = 0, max = 1;
    } else if (take(p, '{')) {
        min = max = take_number(p);
        if (take(p, ','))
            max = peek(p) == '}' ? GRAMMAR_UNBOUNDED : take_number(p);
        if (!take(p, '}') || max < min)
            return fail(p, "a repetition is {m}, {m,} or {m,n}, m at most n");
    } else {
        return term;
    }
    take(p, '?'); /* lazy: the same texts */
    return p->c->status == STATUS_OK ? rules_repeat(rules, term, min, max) : 0;
}

/* Up to | or ) or, at the top, $. */
static uint32_t sequence(struct pattern *p)
{
    uint32_t all = rules_empty(p->c->rules);
    while (!is_over(p) && peek(p) != '|' && peek(p) != ')' && (peek(p) != '$' || p->depth > 0) &&
           p->c->rules->status == STATUS_OK)
        all = rules_sequence(p->c->rules, all, take_repeated(p));
    return all;
}

static uint32_t alternatives(struct pattern *p)
{
    uint32_t all = UINT32_MAX;
    do {
        bool is_top = p->depth == 0, is_bound = is_top && take(p, '^');
        uint32_t one = sequence(p);
        if (is_top && !is_bound)
            one = rules_sequence(p->c->rules, any(p), one);
        if (is_top && !take(p, '$'))
            one = rules_sequence(p->c->rules, one, any(p));
        all = all == UINT32_MAX ? one : rules_choice(p->c->rules, all, one);
    } while (take(p, '|'));
    return all;
}

uint32_t json_pattern_expr(struct json_compile *c, const char *keyword, struct slice pattern,
                           uint32_t min, uint32_t max)
{
    struct pattern p = {.c = c, .bytes = pattern.bytes, .len = pattern.len};
    uint32_t all = alternatives(&p);
    if (!is_over(&p))
        return fail(&p, "this begins no term");
    all = json_within(c, all, min, max);
    if (all == UINT32_MAX)
        return json_refuse(c, keyword,
                           "no text of it is found that is as long as minLength and maxLength "
                           "want: say the length in a pattern, as ^.{1,80}$");
    return json_named(c, all);
}
