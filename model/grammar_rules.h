/* model/grammar_rules.h: a grammar as it is written: named rules, each an expression over
 * characters. A parser of GBNF and a compiler of JSON schemas fill it, grammar_program reads it.
 *
 *   root ::= "[" item ("," item)* "]"        RULE 0 = SEQUENCE(SEQUENCE(..., REPEAT ...), BYTES)
 *
 * Expressions are named by id and immutable; several places may share one. Whoever builds a long
 * list nests it to the left (list = sequence(list, next)), which costs no depth; other nesting is
 * bounded by the builders at GRAMMAR_NESTING_MAX.
 *
 * Sticky: after a failure (memory, GRAMMAR_EXPRESSIONS_MAX, GRAMMAR_RULES_MAX) every call does
 * nothing and gives an id that may be handed on; rules->status tells.
 */
#ifndef QUIRE_MODEL_GRAMMAR_RULES_H
#define QUIRE_MODEL_GRAMMAR_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/slice.h"

struct why;

#define GRAMMAR_NO_RULE UINT32_MAX
#define GRAMMAR_UNBOUNDED UINT32_MAX /* of repeat's max */
#define CODE_POINT_MAX 0x10ffffu

enum expr_kind {
    EXPR_EMPTY,
    EXPR_BYTES,    /* a: into bytes, b: how many, 1 at least */
    EXPR_CLASS,    /* a: into ranges, b: how many; none: nothing matches */
    EXPR_SEQUENCE, /* a, then b */
    EXPR_CHOICE,   /* a or b */
    EXPR_REPEAT,   /* a, from min to max times */
    EXPR_RULE,     /* a: the rule */
};

struct expr {
    enum expr_kind kind;
    uint32_t a, b;
    uint32_t min, max;
};

/* Of code points, first to last; a class has them ascending and apart, without surrogates. */
struct code_range {
    uint32_t first, last;
};

struct grammar_rule {
    struct slice name; /* of the builder's text, and lives as long; empty: it has none */
    uint32_t expr;     /* UINT32_MAX while it is only named */
};

struct grammar_rules {
    struct expr *exprs;
    struct grammar_rule *rules; /* rule 0 is the root */
    struct code_range *ranges;
    uint8_t *bytes;
    uint32_t n_exprs, n_rules, n_ranges, n_bytes;
    uint32_t exprs_room, rules_room, ranges_room, bytes_room;
    struct slice text;   /* of GBNF: the names stand in it */
    struct slice schema; /* a JSON text: the names are pointers into it; empty: they are not */
    struct arena names; /* that were made up */
    int status;        /* STATUS_OK, or the first failure */
};

void grammar_rules_init(struct grammar_rules *rules);
void grammar_rules_release(struct grammar_rules *rules);
/* Says what the status is about; returns it. */
int grammar_rules_why(const struct grammar_rules *rules, struct why *why);

/* Line, and column in characters, both from 1, of the byte `at` of a UTF-8 text. */
void grammar_rules_place(struct slice text, size_t at, uint32_t *line, uint32_t *column);

/* A copy that lives as long as the rules; empty where memory is out. */
struct slice grammar_rules_keep(struct grammar_rules *rules, struct slice name);
/* A rule without an expression. */
uint32_t grammar_rules_name(struct grammar_rules *rules, struct slice name);
void grammar_rules_define(struct grammar_rules *rules, uint32_t rule, uint32_t expr);

uint32_t rules_empty(struct grammar_rules *rules);
uint32_t rules_bytes(struct grammar_rules *rules, struct slice bytes); /* copied; may be empty */
uint32_t rules_text(struct grammar_rules *rules, const char *text);
/* Any order, overlapping or not; sorted, joined, surrogates left out. `inverted`: all others. */
uint32_t rules_class(struct grammar_rules *rules, const struct code_range *ranges, size_t n,
                     bool inverted);
uint32_t rules_sequence(struct grammar_rules *rules, uint32_t a, uint32_t b);
uint32_t rules_choice(struct grammar_rules *rules, uint32_t a, uint32_t b);
uint32_t rules_repeat(struct grammar_rules *rules, uint32_t a, uint32_t min, uint32_t max);
uint32_t rules_rule(struct grammar_rules *rules, uint32_t rule);
/* One of these texts, which are sorted in place; equal ones count once. A tree of their first
 * bytes: the automaton follows one branch, however many there are. */
uint32_t rules_one_of(struct grammar_rules *rules, struct slice *texts, size_t n);

#endif
