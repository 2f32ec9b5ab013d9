#include "model/grammar_rules.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "limits.h"

#define FIRST_ROOM 64
#define NAMES_BYTES_MAX (4u << 20)
#define SURROGATE_FIRST 0xd800u
#define SURROGATE_LAST 0xdfffu

/* --- life --- */

void grammar_rules_init(struct grammar_rules *rules)
{
    *rules = (struct grammar_rules){.status = STATUS_OK};
    arena_init(&rules->names, NAMES_BYTES_MAX);
}

void grammar_rules_release(struct grammar_rules *rules)
{
    arena_release(&rules->names);
    free(rules->exprs);
    free(rules->rules);
    free(rules->ranges);
    free(rules->bytes);
    *rules = (struct grammar_rules){.status = STATUS_OK};
}

int grammar_rules_why(const struct grammar_rules *rules, struct why *why)
{
    if (rules->status == STATUS_OK)
        return STATUS_OK;
    if (rules->status == STATUS_NO_MEMORY)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a grammar of %u parts",
                      rules->n_exprs);
    if (rules->n_rules >= GRAMMAR_RULES_MAX)
        return refuse(why, STATUS_INVALID, "the grammar has more than %d rules",
                      GRAMMAR_RULES_MAX);
    return refuse(why, STATUS_INVALID,
                  "the grammar has more than %d parts (literals, classes, alternatives, "
                  "repetitions): simplify it",
                  GRAMMAR_EXPRESSIONS_MAX);
}

void grammar_rules_place(struct slice text, size_t at, uint32_t *line, uint32_t *column)
{
    *line = *column = 1;
    for (size_t i = 0; i < at; i++) {
        if (text.bytes[i] == '\n') {
            ++*line;
            *column = 1;
        } else if ((text.bytes[i] & 0xc0) != 0x80) {
            ++*column;
        }
    }
}

/* Room for n more of `size` bytes each, at most `most` in all. */
static bool make_room(struct grammar_rules *rules, void **list, uint32_t *room, uint32_t used,
                      size_t n, size_t size, size_t most)
{
    if (rules->status < 0)
        return false;
    if (n > most || used > most - n) {
        rules->status = STATUS_INVALID;
        return false;
    }
    if (used + n <= *room)
        return true;
    size_t wanted = *room == 0 ? FIRST_ROOM : 2 * (size_t)*room;
    while (wanted < used + n)
        wanted *= 2;
    void *grown = realloc(*list, wanted * size);
    if (grown == NULL) {
        rules->status = STATUS_NO_MEMORY;
        return false;
    }
    *list = grown;
    *room = (uint32_t)wanted;
    return true;
}

static uint32_t add(struct grammar_rules *rules, struct expr expr)
{
    if (!make_room(rules, (void **)&rules->exprs, &rules->exprs_room, rules->n_exprs, 1,
                   sizeof expr, GRAMMAR_EXPRESSIONS_MAX))
        return 0;
    rules->exprs[rules->n_exprs] = expr;
    return rules->n_exprs++;
}

/* --- rules --- */

struct slice grammar_rules_keep(struct grammar_rules *rules, struct slice name)
{
    void *copy = arena_copy(&rules->names, name.bytes, name.len);
    return copy != NULL ? slice_of(copy, name.len) : slice_of(NULL, 0);
}

uint32_t grammar_rules_name(struct grammar_rules *rules, struct slice name)
{
    if (!make_room(rules, (void **)&rules->rules, &rules->rules_room, rules->n_rules, 1,
                   sizeof *rules->rules, GRAMMAR_RULES_MAX))
        return 0;
    rules->rules[rules->n_rules] = (struct grammar_rule){.name = name, .expr = UINT32_MAX};
    return rules->n_rules++;
}

void grammar_rules_define(struct grammar_rules *rules, uint32_t rule, uint32_t expr)
{
    if (rules->status < 0)
        return;
    assert(rule < rules->n_rules && expr < rules->n_exprs);
    rules->rules[rule].expr = expr;
}

/* --- expressions --- */

uint32_t rules_empty(struct grammar_rules *rules)
{
    return add(rules, (struct expr){.kind = EXPR_EMPTY});
}

uint32_t rules_bytes(struct grammar_rules *rules, struct slice bytes)
{
    if (bytes.len == 0)
        return rules_empty(rules);
    if (!make_room(rules, (void **)&rules->bytes, &rules->bytes_room, rules->n_bytes, bytes.len, 1,
                   GRAMMAR_LITERAL_BYTES_MAX))
        return 0;
    memcpy(rules->bytes + rules->n_bytes, bytes.bytes, bytes.len);
    uint32_t begin = rules->n_bytes;
    rules->n_bytes += (uint32_t)bytes.len;
    return add(rules, (struct expr){.kind = EXPR_BYTES, .a = begin, .b = (uint32_t)bytes.len});
}

uint32_t rules_text(struct grammar_rules *rules, const char *text)
{
    return rules_bytes(rules, slice_from(text));
}

static int by_first(const void *left, const void *right)
{
    const struct code_range *a = left, *b = right;
    return (a->first > b->first) - (a->first < b->first);
}

/* Without the surrogates, which no UTF-8 spells. */
static void push_range(struct grammar_rules *rules, uint32_t first, uint32_t last)
{
    if (first >= SURROGATE_FIRST && first <= SURROGATE_LAST)
        first = SURROGATE_LAST + 1;
    if (last >= SURROGATE_FIRST && last <= SURROGATE_LAST)
        last = SURROGATE_FIRST - 1;
    if (first > last)
        return;
    if (first < SURROGATE_FIRST && last > SURROGATE_LAST) {
        rules->ranges[rules->n_ranges++] = (struct code_range){first, SURROGATE_FIRST - 1};
        first = SURROGATE_LAST + 1;
    }
    rules->ranges[rules->n_ranges++] = (struct code_range){first, last};
}

uint32_t rules_class(struct grammar_rules *rules, const struct code_range *ranges, size_t n,
                     bool inverted)
{
    struct code_range *sorted = malloc((n + 1) * sizeof *sorted);
    if (sorted == NULL && rules->status == STATUS_OK)
        rules->status = STATUS_NO_MEMORY;
    if (sorted == NULL || !make_room(rules, (void **)&rules->ranges, &rules->ranges_room,
                                     rules->n_ranges, n + 3, sizeof *ranges,
                                     GRAMMAR_EXPRESSIONS_MAX)) {
        free(sorted);
        return 0;
    }
    if (n > 0)
        memcpy(sorted, ranges, n * sizeof *ranges);
    qsort(sorted, n, sizeof *sorted, by_first);
    uint32_t begin = rules->n_ranges, next = 0; /* next: the first code point not spoken of */
    for (size_t i = 0; i < n;) {
        uint32_t first = sorted[i].first, last = sorted[i].last;
        for (i++; i < n && sorted[i].first <= last + 1; i++)
            last = sorted[i].last > last ? sorted[i].last : last;
        if (!inverted)
            push_range(rules, first, last);
        else if (first > next)
            push_range(rules, next, first - 1);
        next = last + 1;
    }
    if (inverted && next <= CODE_POINT_MAX)
        push_range(rules, next, CODE_POINT_MAX);
    free(sorted);
    return add(rules, (struct expr){.kind = EXPR_CLASS, .a = begin, .b = rules->n_ranges - begin});
}

uint32_t rules_sequence(struct grammar_rules *rules, uint32_t a, uint32_t b)
{
    return add(rules, (struct expr){.kind = EXPR_SEQUENCE, .a = a, .b = b});
}

uint32_t rules_choice(struct grammar_rules *rules, uint32_t a, uint32_t b)
{
    return add(rules, (struct expr){.kind = EXPR_CHOICE, .a = a, .b = b});
}

uint32_t rules_repeat(struct grammar_rules *rules, uint32_t a, uint32_t min, uint32_t max)
{
    assert(min <= max);
    if (max == 0)
        return rules_empty(rules);
    if (min == 1 && max == 1)
        return a;
    return add(rules, (struct expr){.kind = EXPR_REPEAT, .a = a, .min = min, .max = max});
}

uint32_t rules_rule(struct grammar_rules *rules, uint32_t rule)
{
    return add(rules, (struct expr){.kind = EXPR_RULE, .a = rule});
}

/* --- one of many texts --- */

static int by_text(const void *left, const void *right)
{
    const struct slice *a = left, *b = right;
    size_t n = a->len < b->len ? a->len : b->len;
    int order = n > 0 ? memcmp(a->bytes, b->bytes, n) : 0;
    return order != 0 ? order : (a->len > b->len) - (a->len < b->len);
}

/* texts[0..n) are sorted and share their first `depth` bytes; what follows those. A rule a branch
 * keeps expressions from nesting as deep as texts are long. */
static uint32_t tree(struct grammar_rules *rules, const struct slice *texts, size_t n, size_t depth)
{
    struct slice first = texts[0], last = texts[n - 1];
    size_t shared = depth;
    while (shared < first.len && shared < last.len && first.bytes[shared] == last.bytes[shared])
        shared++;
    uint32_t prefix = rules_bytes(rules, slice_of(first.bytes + depth, shared - depth));
    if (first.len == last.len && first.len == shared)
        return prefix;
    size_t i = 0;
    bool may_end = first.len == shared;
    while (i < n && texts[i].len == shared)
        i++;
    uint32_t rest = may_end ? rules_empty(rules) : 0;
    for (bool is_first = !may_end; i < n && rules->status == STATUS_OK; is_first = false) {
        size_t begin = i;
        while (i < n && texts[i].bytes[shared] == texts[begin].bytes[shared])
            i++;
        uint32_t branch = tree(rules, texts + begin, i - begin, shared);
        rest = is_first ? branch : rules_choice(rules, rest, branch);
    }
    uint32_t rule = grammar_rules_name(rules, slice_of(NULL, 0));
    grammar_rules_define(rules, rule, rest);
    return rules_sequence(rules, prefix, rules_rule(rules, rule));
}

uint32_t rules_one_of(struct grammar_rules *rules, struct slice *texts, size_t n)
{
    assert(n > 0);
    qsort(texts, n, sizeof *texts, by_text);
    return tree(rules, texts, n, 0);
}
