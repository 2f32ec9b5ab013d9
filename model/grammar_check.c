/* What a grammar's program must be before anything runs it: see grammar_program.h. */
#include "model/grammar_program.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "model/grammar_rules.h"
#include "model/json_place.h"

#define NONE UINT32_MAX

struct check {
    const struct grammar_program *program;
    uint32_t *entry_at; /* [n_nodes] the entry that starts there, or NONE */
    uint8_t *is_ending; /* [n_nodes] of a start: it can end */
    uint8_t *is_empty;  /* [n_nodes] of a start: it can end without a byte */
    uint8_t *is_ground; /* [n_nodes] of a start: what it calls before a byte ends in such calls */
    uint32_t *stack;    /* [n_nodes] of a walk */
    uint32_t *seen;     /* [n_nodes] the walk that saw the node last */
    uint32_t n_walks;
};

static void push(struct check *check, uint32_t *n, uint32_t node)
{
    if (check->seen[node] == check->n_walks)
        return;
    check->seen[node] = check->n_walks;
    check->stack[(*n)++] = node;
}

/* From a start to its RETURN: by calls whose flag is set, and by bytes where those are allowed. */
static bool reaches_return(struct check *check, uint32_t start, const uint8_t *flags,
                           bool takes_bytes)
{
    uint32_t n = 0;
    check->n_walks++;
    push(check, &n, start);
    while (n > 0) {
        const struct grammar_node *node = &check->program->nodes[check->stack[--n]];
        if (node->kind == NODE_RETURN)
            return true;
        if (node->kind == NODE_SPLIT)
            push(check, &n, node->other);
        if (node->kind == NODE_SPLIT || (node->kind == NODE_CALL && flags[node->other] != 0) ||
            (node->kind == NODE_BYTES && takes_bytes && node->low <= node->high))
            push(check, &n, node->next);
    }
    return false;
}

/* The first call, before any byte, of something that is not ground; NONE: there is none. */
static uint32_t first_loose_call(struct check *check, uint32_t start)
{
    uint32_t n = 0;
    check->n_walks++;
    push(check, &n, start);
    while (n > 0) {
        const struct grammar_node *node = &check->program->nodes[check->stack[--n]];
        if (node->kind == NODE_CALL && check->is_ground[node->other] == 0)
            return node->other;
        if (node->kind == NODE_SPLIT)
            push(check, &n, node->other);
        if (node->kind == NODE_SPLIT ||
            (node->kind == NODE_CALL && check->is_empty[node->other] != 0))
            push(check, &n, node->next);
    }
    return NONE;
}

enum flag { ENDING, EMPTY, GROUND };

static bool is_so(struct check *check, uint32_t start, enum flag flag)
{
    if (flag == GROUND)
        return first_loose_call(check, start) == NONE;
    return reaches_return(check, start, flag == ENDING ? check->is_ending : check->is_empty,
                          flag == ENDING);
}

/* Sets flags of starts until nothing changes; what is called stands behind its callers, so that a
 * few rounds from the end do. */
static void find_flags(struct check *check, enum flag flag)
{
    uint8_t *flags = flag == ENDING  ? check->is_ending
                     : flag == EMPTY ? check->is_empty
                                     : check->is_ground;
    for (bool has_changed = true; has_changed;) {
        has_changed = false;
        for (uint32_t node = check->program->n_nodes; node-- > 0;)
            if (check->entry_at[node] != NONE && flags[node] == 0 && is_so(check, node, flag))
                flags[node] = has_changed = true;
    }
}

static bool has_name(const struct check *check, const struct grammar_rules *rules, uint32_t start)
{
    uint32_t entry = check->entry_at[start];
    return entry < rules->n_rules && rules->rules[entry].name.len > 0;
}

/* A start without the flag, one with a name if there is any; NONE: all have it. */
static uint32_t find_without(const struct check *check, const struct grammar_rules *rules,
                             const uint8_t *flags)
{
    uint32_t found = NONE;
    for (uint32_t node = 0; node < check->program->n_nodes; node++) {
        if (check->entry_at[node] == NONE || flags[node] != 0)
            continue;
        if (has_name(check, rules, node))
            return node;
        found = found == NONE ? node : found;
    }
    return found;
}

/* Names the rule; a part without a name is told as such. */
static int refuse_rule(const struct check *check, const struct grammar_rules *rules, uint32_t start,
                       const char *problem, struct why *why)
{
    if (!has_name(check, rules, start))
        return refuse(why, STATUS_INVALID, "a part of the grammar %s", problem);
    struct slice name = rules->rules[check->entry_at[start]].name;
    int len = name.len < 100 ? (int)name.len : 100;
    uint32_t line, column;
    if (rules->schema.len > 0) { /* the name is # and a pointer */
        size_t at = json_place(rules->schema, slice_of(name.bytes + 1, name.len - 1));
        grammar_rules_place(rules->schema, at, &line, &column);
        return refuse(why, STATUS_INVALID, "line %u, column %u: %.*s %s", line, column, len,
                      (const char *)name.bytes, problem);
    }
    grammar_rules_place(rules->text, (size_t)(name.bytes - rules->text.bytes), &line, &column);
    return refuse(why, STATUS_INVALID, "line %u, column %u: the rule \"%.*s\" %s", line, column,
                  len, (const char *)name.bytes, problem);
}

static int check_flags(struct check *check, const struct grammar_rules *rules, struct why *why)
{
    find_flags(check, ENDING);
    find_flags(check, EMPTY);
    find_flags(check, GROUND);
    uint32_t start = find_without(check, rules, check->is_ground);
    for (uint32_t i = 0; start != NONE && i < check->program->n_nodes; i++) /* into the circle */
        start = first_loose_call(check, start);
    for (uint32_t i = 0; start != NONE && i < check->program->n_nodes &&
                         !has_name(check, rules, start);
         i++) /* to something with a name */
        start = first_loose_call(check, start);
    if (start != NONE)
        return refuse_rule(check, rules, start,
                           "begins with itself, before it takes a character (left recursion): "
                           "write it as a repetition, or put the recursion at its end",
                           why);
    start = find_without(check, rules, check->is_ending);
    if (start != NONE)
        return refuse_rule(check, rules, start,
                           "matches no text that ends: each way through it comes back to it, or "
                           "to a class without characters",
                           why);
    return STATUS_OK;
}

int grammar_program_check(const struct grammar_program *program, const struct grammar_rules *rules,
                          const uint32_t *entries, uint32_t n_entries, struct why *why)
{
    size_t n = program->n_nodes;
    uint32_t *numbers = malloc(3 * n * sizeof *numbers);
    uint8_t *flags = calloc(3 * n, 1);
    int status;

    if (numbers == NULL || flags == NULL) {
        status = refuse(why, STATUS_NO_MEMORY, "no memory to check a grammar of %zu nodes", n);
    } else {
        struct check check = {.program = program,
                              .entry_at = numbers,
                              .stack = numbers + n,
                              .seen = numbers + 2 * n,
                              .is_ending = flags,
                              .is_empty = flags + n,
                              .is_ground = flags + 2 * n};
        memset(check.entry_at, 0xff, n * sizeof *check.entry_at);
        memset(check.seen, 0, n * sizeof *check.seen);
        for (uint32_t entry = 0; entry < n_entries; entry++)
            if (entries[entry] != NONE)
                check.entry_at[entries[entry]] = entry;
        status = check_flags(&check, rules, why);
    }
    free(numbers);
    free(flags);
    return status;
}
