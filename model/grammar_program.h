/* model/grammar_program.h: a grammar as an automaton over bytes with calls, made of its rules.
 *
 *   root ::= "[" digit* "]"
 *
 *   0 RETURN   1 ']' -> 0   2 SPLIT 3 1   3 CALL digit, then 2   4 '[' -> 2          start: 4
 *   5 RETURN   6 '0'..'9' -> 5                                              start of digit: 6
 *
 * Characters become sequences of byte ranges, so whatever the automaton takes is UTF-8. Bounded
 * repetitions become copies. Rules that only the root's rules name are all that is compiled.
 *
 * Invariant, checked by create: no rule calls itself before it took a byte; every rule can end.
 * Read-only after create; any thread.
 */
#ifndef QUIRE_MODEL_GRAMMAR_PROGRAM_H
#define QUIRE_MODEL_GRAMMAR_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>

struct grammar_rules;
struct why;

enum node_kind {
    NODE_RETURN,
    NODE_BYTES, /* one byte from low to high (none: low is above high), then next */
    NODE_SPLIT, /* next, or other */
    NODE_CALL,  /* the rule that starts at node `other`, then next */
};

struct grammar_node {
    uint8_t kind, low, high;
    uint32_t next, other;
};

struct grammar_program {
    struct grammar_node *nodes;
    uint32_t n_nodes, start;
    /* bytes of one class are alike to every node */
    uint8_t class_of[256];
    uint32_t n_classes;
};

/* STATUS_INVALID: rules that call themselves first, or never end, by name, line and column; more
 * than GRAMMAR_NODES_MAX nodes. STATUS_NO_MEMORY. Release with grammar_program_release,
 * which takes a zeroed one too. */
int grammar_program_create(const struct grammar_rules *rules, struct grammar_program *out,
                           struct why *why);
void grammar_program_release(struct grammar_program *program);

/* For create: grammar_check.c. entries[rule] is its start; UINT32_MAX: not compiled. */
int grammar_program_check(const struct grammar_program *program, const struct grammar_rules *rules,
                          const uint32_t *entries, uint32_t n_entries, struct why *why);

#endif
