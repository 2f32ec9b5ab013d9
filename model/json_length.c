/* Of the texts of a pattern, those of a length between bounds; not all of them. What may vary in
 * length is bounded part by part, each apart from the others:
 *
 *   ^[a-z]+$             3 to 8      [a-z]{3,8}
 *   ^[a-z]+@[a-z]+\.de$  0 to 20     [a-z]{1,8}@[a-z]{1,8}\.de
 *   ^([a-z]+ ?)*$        0 to 40     ([a-z]{1,8} {0,1}){0,4}, not one word of 40
 */
#include <stdlib.h>

#include "base/status.h"
#include "model/json_compile.h"

#define NONE UINT32_MAX
#define ITEM_LENGTH 8 /* of what is repeated and varies itself, where there is room for more */

struct span { /* of lengths, in characters */
    uint32_t min, max; /* GRAMMAR_UNBOUNDED: there is none, or no number for it */
};

static uint32_t capped(uint64_t n)
{
    return n < GRAMMAR_UNBOUNDED ? (uint32_t)n : GRAMMAR_UNBOUNDED;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t most(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* Lists nest to the left: a loop follows them, and what is called is a group within. */
static struct span span_of(const struct grammar_rules *rules, uint32_t id)
{
    struct span all = {0, 0};
    const struct expr *expr = &rules->exprs[id];

    for (; expr->kind == EXPR_SEQUENCE; expr = &rules->exprs[expr->a]) {
        struct span last = span_of(rules, expr->b);
        all.min = capped((uint64_t)all.min + last.min);
        all.max = capped((uint64_t)all.max + last.max);
    }
    struct span one = {1, 1}; /* a rule of a pattern is one character */
    if (expr->kind == EXPR_EMPTY)
        one = (struct span){0, 0};
    if (expr->kind == EXPR_REPEAT) {
        struct span item = span_of(rules, expr->a);
        one.min = capped((uint64_t)item.min * expr->min);
        one.max = item.max == 0 ? 0 : capped((uint64_t)item.max * expr->max);
    }
    if (expr->kind == EXPR_CHOICE) {
        for (one = span_of(rules, expr->b); expr->kind == EXPR_CHOICE;) {
            expr = &rules->exprs[expr->a];
            struct span next = span_of(rules, expr->kind == EXPR_CHOICE
                                                  ? expr->b
                                                  : (uint32_t)(expr - rules->exprs));
            one = (struct span){least(one.min, next.min), most(one.max, next.max)};
        }
    }
    return (struct span){capped((uint64_t)all.min + one.min), capped((uint64_t)all.max + one.max)};
}

static uint32_t choice_within(struct json_compile *c, uint32_t id, struct span wanted)
{
    uint32_t all = NONE;
    for (bool is_last = false; !is_last;) {
        struct expr expr = c->rules->exprs[id];
        is_last = expr.kind != EXPR_CHOICE;
        uint32_t one = json_within(c, is_last ? id : expr.b, wanted.min, wanted.max);
        if (one != NONE)
            all = all == NONE ? one : rules_choice(c->rules, all, one);
        id = expr.a;
    }
    return all;
}

/* --- sequences --- */

struct part {
    uint32_t expr;
    struct span span, wanted;
};

/* Shares the room that a bound leaves among the parts, evenly as far as they can take it. The sum
 * of what they take at least is within the bound. */
static void share_room(struct part *parts, size_t n, uint64_t room)
{
    size_t n_open = 0;
    for (size_t i = 0; i < n; i++) {
        parts[i].wanted.max = parts[i].span.min;
        room -= parts[i].span.min;
        n_open += parts[i].span.max > parts[i].span.min;
    }
    for (int round = 0; round < 2; round++) /* in the second what others could not take */
        for (size_t i = 0, n_left = n_open; i < n && room > 0; i++) {
            if (parts[i].span.max == parts[i].span.min)
                continue;
            uint64_t more = parts[i].span.max - parts[i].wanted.max;
            uint64_t of_room = round == 0 ? room / n_left : room;
            more = more < of_room ? more : of_room;
            parts[i].wanted.max += (uint32_t)more;
            room -= more;
            n_left -= n_left > 1;
        }
}

/* What each part is to have. What is missing to the least length is asked of all by what they can
 * give. False: together they do not get so long. */
static bool share(struct part *parts, size_t n, struct span wanted)
{
    uint64_t length = 0, n_more = 0;
    for (size_t i = 0; i < n; i++) {
        parts[i].wanted = parts[i].span;
        length += parts[i].span.min;
    }
    if (wanted.max != GRAMMAR_UNBOUNDED)
        share_room(parts, n, wanted.max);
    for (size_t i = 0; i < n; i++)
        n_more += parts[i].wanted.max - parts[i].wanted.min;
    uint64_t missing = wanted.min > length ? wanted.min - length : 0, left = missing;
    for (size_t i = 0; i < n && left > 0 && missing <= n_more; i++) {
        uint64_t more = parts[i].wanted.max - parts[i].wanted.min;
        more = (more * missing + n_more - 1) / n_more;
        more = more < left ? more : left;
        parts[i].wanted.min += (uint32_t)more;
        left -= more;
    }
    return left == 0;
}

static uint32_t sequence_within(struct json_compile *c, uint32_t id, struct span wanted)
{
    struct grammar_rules *rules = c->rules;
    size_t n = 1;
    uint32_t all = NONE;

    for (uint32_t at = id; rules->exprs[at].kind == EXPR_SEQUENCE; at = rules->exprs[at].a)
        n++;
    struct part *parts = calloc(n, sizeof *parts);
    if (parts == NULL)
        return json_refuse(c, NULL, "no memory for %zu parts of a pattern", n);
    for (size_t i = n; i-- > 0; id = rules->exprs[id].a) {
        parts[i].expr = i > 0 ? rules->exprs[id].b : id;
        parts[i].span = span_of(rules, parts[i].expr);
    }
    bool is_found = share(parts, n, wanted);
    for (size_t i = 0; i < n && is_found; i++) {
        uint32_t one = json_within(c, parts[i].expr, parts[i].wanted.min, parts[i].wanted.max);
        is_found = one != NONE;
        if (is_found)
            all = i == 0 ? one : rules_sequence(rules, all, one);
    }
    free(parts);
    return is_found ? all : NONE;
}

/* --- repetitions --- */

static uint32_t quotient_up(uint32_t a, uint32_t b)
{
    return a / b + (a % b != 0);
}

/* An item so short that as many as must be fit into `max`, and some more where more may be. */
static uint32_t short_item(struct json_compile *c, struct expr expr, uint32_t max)
{
    struct span span = span_of(c->rules, expr.a);
    uint32_t n_min = most(expr.min, 1), room = most(max / n_min, 1);

    if (span.max > span.min && expr.max > n_min)
        room = least(room, most(span.min, ITEM_LENGTH));
    return span.max > room ? json_within(c, expr.a, span.min, room) : expr.a;
}

static uint32_t repeat_within(struct json_compile *c, struct expr expr, struct span wanted)
{
    bool is_bound = wanted.max != GRAMMAR_UNBOUNDED;
    uint32_t item = is_bound ? short_item(c, expr, wanted.max) : expr.a;
    if (item == NONE) /* not one fits */
        return expr.min == 0 && wanted.min == 0 ? rules_empty(c->rules) : NONE;
    struct span span = span_of(c->rules, item);
    if (span.max == 0)
        return wanted.min == 0 ? rules_empty(c->rules) : NONE;
    uint32_t n_least = expr.min;
    uint32_t n_max = is_bound ? least(expr.max, wanted.max / span.max) : expr.max;
    if (wanted.min > (uint64_t)span.min * n_least)
        n_least = span.min > 0 ? most(n_least, quotient_up(wanted.min, span.min)) : NONE;
    if (n_least > n_max && n_max > 0 && is_bound && wanted.min > 0) { /* longer, not more */
        item = json_within(c, item, quotient_up(wanted.min, n_max), span.max);
        n_least = n_max;
    }
    if (item == NONE || n_least > n_max)
        return NONE;
    return rules_repeat(c->rules, item, n_least, n_max);
}

uint32_t json_within(struct json_compile *c, uint32_t id, uint32_t min, uint32_t max)
{
    if (c->status < 0 || c->rules->status < 0)
        return 0;
    struct span span = span_of(c->rules, id), wanted = {min, max};
    struct expr expr = c->rules->exprs[id];

    if (span.min >= min && span.max <= max)
        return id;
    if (span.min > max || span.max < min)
        return NONE;
    if (expr.kind == EXPR_CHOICE)
        return choice_within(c, id, wanted);
    if (expr.kind == EXPR_SEQUENCE)
        return sequence_within(c, id, wanted);
    return repeat_within(c, expr, wanted);
}
