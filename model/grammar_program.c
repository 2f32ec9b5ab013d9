#include "model/grammar_program.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/utf8.h"
#include "limits.h"
#include "model/grammar_rules.h"

#define NONE UINT32_MAX
#define ASCII_LAST 0x7fu
#define INLINE_RANGES 4 /* of an ASCII class that is copied rather than called */

struct compile {
    const struct grammar_rules *rules;
    struct grammar_program *out;
    uint32_t nodes_room;
    uint32_t *entries;  /* [n_entries] start of each rule, then of each outlined expression */
    uint32_t *outlined; /* [n_exprs] its entry, or NONE */
    uint32_t *todo;     /* [n_entries] the expression that it stands for; NONE: a rule */
    uint32_t n_entries;
    int status;
};

/* Nodes that call name an entry until all are compiled. */
static uint32_t add(struct compile *c, struct grammar_node node)
{
    struct grammar_program *out = c->out;
    if (c->status < 0)
        return 0;
    if (out->n_nodes == c->nodes_room) {
        if (c->nodes_room == GRAMMAR_NODES_MAX) {
            c->status = STATUS_INVALID;
            return 0;
        }
        uint32_t room = c->nodes_room == 0 ? 256 : 2 * c->nodes_room;
        room = room < GRAMMAR_NODES_MAX ? room : GRAMMAR_NODES_MAX;
        struct grammar_node *grown = realloc(out->nodes, room * sizeof *grown);
        if (grown == NULL) {
            c->status = STATUS_NO_MEMORY;
            return 0;
        }
        out->nodes = grown;
        c->nodes_room = room;
    }
    out->nodes[out->n_nodes] = node;
    return out->n_nodes++;
}

static uint32_t add_bytes(struct compile *c, uint8_t low, uint8_t high, uint32_t next)
{
    return add(c, (struct grammar_node){NODE_BYTES, low, high, next, 0});
}

static uint32_t add_split(struct compile *c, uint32_t next, uint32_t other)
{
    return add(c, (struct grammar_node){NODE_SPLIT, 0, 0, next, other});
}

/* --- characters --- */

/* Nodes of one class, made since `first`, that are alike are one: tails are shared. */
static uint32_t add_shared(struct compile *c, uint32_t first, uint8_t low, uint8_t high,
                           uint32_t next)
{
    for (uint32_t i = first; i < c->out->n_nodes; i++) {
        const struct grammar_node *node = &c->out->nodes[i];
        if (node->kind == NODE_BYTES && node->low == low && node->high == high &&
            node->next == next)
            return i;
    }
    return add_bytes(c, low, high, next);
}

/* The characters from first to last, whose spellings differ only in bytes that run through all
 * their values, as one chain. */
static uint32_t add_chain(struct compile *c, uint32_t first_node, uint32_t first, uint32_t last,
                          uint32_t next)
{
    uint8_t low[4], high[4];
    size_t n = utf8_encode(first, low);
    utf8_encode(last, high);
    for (size_t i = n; i-- > 0;)
        next = add_shared(c, first_node, low[i], high[i], next);
    return next;
}

/* The last character up to `last` of those that one chain takes from `first` on: below it, tail
 * bytes that differ run through all their values. */
static uint32_t chain_end(uint32_t first, uint32_t last)
{
    static const uint32_t lengths[] = {0x7f, 0x7ff, 0xffff};
    for (int i = 0; i < 3; i++)
        if (first <= lengths[i] && last > lengths[i])
            last = lengths[i];
    for (uint32_t bits = 6; bits <= 18 && first > ASCII_LAST; bits += 6) {
        uint32_t tail = (1u << bits) - 1;
        if ((first | tail) == (last | tail))
            continue;
        if ((first & tail) != 0)
            last = first | tail;
        else if ((last & tail) != tail)
            last = (last & ~tail) - 1;
    }
    return last;
}

static uint32_t emit_class(struct compile *c, const struct expr *expr, uint32_t next)
{
    uint32_t first_node = c->out->n_nodes, all = NONE;
    for (uint32_t i = 0; i < expr->b; i++) {
        struct code_range range = c->rules->ranges[expr->a + i];
        for (uint32_t first = range.first; first <= range.last && c->status == STATUS_OK;) {
            uint32_t last = chain_end(first, range.last);
            uint32_t chain = add_chain(c, first_node, first, last, next);
            all = all == NONE ? chain : add_split(c, chain, all);
            first = last + 1;
        }
    }
    return all == NONE ? add_bytes(c, 1, 0, next) : all; /* nothing matches: a range of none */
}

/* --- expressions --- */

static bool is_small(const struct compile *c, const struct expr *expr)
{
    switch (expr->kind) {
    case EXPR_EMPTY:
    case EXPR_RULE:
        return true;
    case EXPR_BYTES:
        return expr->b == 1;
    case EXPR_CLASS:
        return expr->b > 0 && expr->b <= INLINE_RANGES &&
               c->rules->ranges[expr->a + expr->b - 1].last <= ASCII_LAST;
    default:
        return false;
    }
}

static uint32_t add_call(struct compile *c, uint32_t entry, uint32_t next)
{
    return add(c, (struct grammar_node){NODE_CALL, 0, 0, next, entry});
}

/* What is repeated, or is a class of many characters, is compiled once and called. */
static uint32_t call_outlined(struct compile *c, uint32_t expr, uint32_t next)
{
    if (c->outlined[expr] == NONE) {
        c->todo[c->n_entries] = expr;
        c->outlined[expr] = c->n_entries++;
    }
    return add_call(c, c->outlined[expr], next);
}

static uint32_t emit(struct compile *c, uint32_t id, uint32_t next);

static uint32_t emit_once(struct compile *c, uint32_t id, uint32_t next)
{
    return is_small(c, &c->rules->exprs[id]) ? emit(c, id, next) : call_outlined(c, id, next);
}

static uint32_t emit_repeat(struct compile *c, const struct expr *expr, uint32_t next)
{
    if (expr->min == 0 && expr->max == 1) {
        uint32_t once = emit(c, expr->a, next);
        return add_split(c, once, next);
    }
    uint32_t at = next;
    if (expr->max == GRAMMAR_UNBOUNDED) {
        at = add_split(c, 0, next);
        uint32_t once = emit_once(c, expr->a, at);
        if (c->status == STATUS_OK)
            c->out->nodes[at].next = once;
    } else {
        for (uint32_t i = expr->min; i < expr->max && c->status == STATUS_OK; i++)
            at = add_split(c, emit_once(c, expr->a, at), next);
    }
    for (uint32_t i = 0; i < expr->min && c->status == STATUS_OK; i++)
        at = emit_once(c, expr->a, at);
    return at;
}

static uint32_t emit_bytes(struct compile *c, const struct expr *expr, uint32_t next)
{
    for (uint32_t i = expr->b; i-- > 0;) {
        uint8_t byte = c->rules->bytes[expr->a + i];
        next = add_bytes(c, byte, byte, next);
    }
    return next;
}

/* The node from which the expression is taken and then `next`. */
static uint32_t emit(struct compile *c, uint32_t id, uint32_t next)
{
    const struct expr *expr = &c->rules->exprs[id];
    uint32_t all = NONE;

    while (expr->kind == EXPR_SEQUENCE && c->status == STATUS_OK) { /* to the left: no recursion */
        next = emit(c, expr->b, next);
        id = expr->a;
        expr = &c->rules->exprs[id];
    }
    while (expr->kind == EXPR_CHOICE && c->status == STATUS_OK) {
        uint32_t branch = emit(c, expr->b, next);
        all = all == NONE ? branch : add_split(c, branch, all);
        id = expr->a;
        expr = &c->rules->exprs[id];
    }
    if (c->status < 0)
        return 0;
    if (all != NONE)
        return add_split(c, emit(c, id, next), all);
    switch (expr->kind) {
    case EXPR_EMPTY:
        return next;
    case EXPR_BYTES:
        return emit_bytes(c, expr, next);
    case EXPR_CLASS:
        /* a class of its own rule returns at once: no call of a call */
        if (is_small(c, expr) || c->out->nodes[next].kind == NODE_RETURN)
            return emit_class(c, expr, next);
        return call_outlined(c, id, next);
    case EXPR_REPEAT:
        return emit_repeat(c, expr, next);
    case EXPR_RULE:
        return add_call(c, expr->a, next);
    default:
        assert(false);
        return 0;
    }
}

/* --- the whole --- */

static void compile_entry(struct compile *c, uint32_t entry)
{
    uint32_t end = add(c, (struct grammar_node){NODE_RETURN, 0, 0, 0, 0});
    uint32_t expr = c->todo[entry] == NONE ? c->rules->rules[entry].expr : c->todo[entry];
    c->entries[entry] = emit(c, expr, end);
}

/* The root, and what is called; entries grow meanwhile. */
static void compile_reached(struct compile *c)
{
    compile_entry(c, 0);
    for (uint32_t i = 0; i < c->out->n_nodes && c->status == STATUS_OK; i++) {
        struct grammar_node node = c->out->nodes[i];
        if (node.kind == NODE_CALL && c->entries[node.other] == NONE)
            compile_entry(c, node.other);
    }
}

static void find_classes(struct grammar_program *program)
{
    bool begins[257] = {[0] = true};
    for (uint32_t i = 0; i < program->n_nodes; i++)
        if (program->nodes[i].kind == NODE_BYTES) {
            begins[program->nodes[i].low] = true;
            begins[program->nodes[i].high + 1] = true;
        }
    uint32_t n = 0;
    for (uint32_t byte = 0; byte < 256; byte++) {
        n += begins[byte];
        program->class_of[byte] = (uint8_t)(n - 1);
    }
    program->n_classes = n;
}

static int explain(const struct compile *c, struct why *why)
{
    if (c->status == STATUS_NO_MEMORY)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a grammar of %u nodes",
                      c->out->n_nodes);
    return refuse_numbers(
        why, STATUS_INVALID,
        (struct why_numbers){GRAMMAR_NODES_MAX + 1, GRAMMAR_NODES_MAX, "nodes", NULL},
        "the grammar takes more than %d nodes, a few for each character of its literals and each "
        "copy of what is repeated: make bounds of repetitions smaller, or leave them out",
        GRAMMAR_NODES_MAX);
}

int grammar_program_create(const struct grammar_rules *rules, struct grammar_program *out,
                           struct why *why)
{
    size_t n_entries_max = (size_t)rules->n_rules + rules->n_exprs;
    struct compile c = {.rules = rules, .out = out, .n_entries = rules->n_rules};

    assert(rules->status == STATUS_OK && rules->n_rules > 0);
    *out = (struct grammar_program){.nodes = NULL};
    c.entries = malloc(n_entries_max * sizeof *c.entries);
    c.outlined = malloc((rules->n_exprs + 1) * sizeof *c.outlined);
    c.todo = malloc(n_entries_max * sizeof *c.todo);
    if (c.entries == NULL || c.outlined == NULL || c.todo == NULL) {
        c.status = STATUS_NO_MEMORY;
    } else {
        memset(c.entries, 0xff, n_entries_max * sizeof *c.entries);
        memset(c.outlined, 0xff, rules->n_exprs * sizeof *c.outlined);
        memset(c.todo, 0xff, n_entries_max * sizeof *c.todo);
        compile_reached(&c);
    }
    int status = c.status < 0 ? explain(&c, why) : STATUS_OK;
    if (status == STATUS_OK) {
        for (uint32_t i = 0; i < out->n_nodes; i++)
            if (out->nodes[i].kind == NODE_CALL)
                out->nodes[i].other = c.entries[out->nodes[i].other];
        out->start = c.entries[0];
        find_classes(out);
        status = grammar_program_check(out, rules, c.entries, c.n_entries, why);
    }
    free(c.entries);
    free(c.outlined);
    free(c.todo);
    if (status < 0)
        grammar_program_release(out);
    return status;
}

void grammar_program_release(struct grammar_program *program)
{
    free(program->nodes);
    *program = (struct grammar_program){.nodes = NULL};
}
